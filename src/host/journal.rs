//! journald: structured records with stable message ids, and where records go.
//!
//! A record is a `tracing` event with `MESSAGE_ID = id::VERIFIED.as_str()` and fields whose names begin with `cw_`
//! (`cw_txn`, `cw_cert`, `cw_step`, `cw_gate`, `cw_unit`, `cw_path`, `cw_problem`, `cw_until`, `cw_seconds`). journald shows
//! them as `CW_TXN=` …, and those of the surrounding spans of its kind too ([`class`]). The prefix is part of the name because a prefix put on
//! by the layer would be put on `MESSAGE_ID` as well; a field named `priority` or `code_line` would collide.
//!
//! What concerns the kubelet also has `OBJECT_SYSTEMD_UNIT` ([`about`]), so that `journalctl -u kubelet` shows it beside the
//! kubelet's own lines: it matches that field from root, and `UNIT=` from PID 1 only (systemd: `src/shared/logs-show.c`).

pub mod id;
mod json;
mod shown;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, registry};

use crate::model::plain;
use shown::Shown;

/// `target` of a record at ERROR that whoever looks after the node must see now: the node may be broken. Priority `alert`.
pub const ALERT: &str = "certwarden::alert";
/// `target` of a record at ERROR of what has stopped working, or of certwarden doing nothing more. Priority `crit`.
pub const CRIT: &str = "certwarden::crit";
/// `target` of a record at INFO of what is normal and does not happen every day. Priority `notice`, which journalctl shows in bold.
pub const NOTICE: &str = "certwarden::notice";

/// `PRIORITY=` of a record: who should read it (syslog(3)). tracing knows three levels of these, journald's readers six.
fn priority(level: Level, target: &str) -> Priority {
    match (level, target) {
        (Level::ERROR, ALERT) => Priority::Alert,
        (Level::ERROR, CRIT) => Priority::Critical,
        (Level::ERROR, _) => Priority::Error,
        (Level::WARN, _) => Priority::Warning,
        (Level::INFO, NOTICE) => Priority::Notice,
        (Level::INFO, _) => Priority::Informational,
        _ => Priority::Debug,
    }
}

const NAMED: [&str; 3] = [ALERT, CRIT, NOTICE];

/// Which layer takes what has this target, events and spans: exactly one. Two that both keep a span's fields panic
/// (tracing-journald: `Layer::on_new_span`; tracing-subscriber: `ExtensionsMut::insert`).
fn class(target: &str) -> &'static str {
    NAMED.into_iter().find(|named| *named == target).unwrap_or_default()
}

/// The unit that a record is about, if it is the kubelet's.
pub fn about(kubelet: bool) -> Option<&'static str> {
    kubelet.then_some("kubelet.service")
}

/// Where records are to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// journald if it reads stderr anyway, else stderr.
    Detect,
    /// Text on stderr, for a person or a parent process.
    Stderr,
    /// journald if it reads stderr anyway; a terminal gets text, everything else one JSON object for each record.
    Service,
}

/// Asks for JSON on stderr whoever reads it: `CERTWARDEN_LOG_FORMAT=json`.
const FORMAT: &str = "CERTWARDEN_LOG_FORMAT";

/// Sends the records of this process to `to`, from now to its end: certwarden's own from INFO (`verbose`: from DEBUG; on a
/// terminal: from WARN), its libraries' from WARN. False if that was decided before.
pub fn init(to: Target, verbose: bool) -> bool {
    let asked = std::env::var_os(FORMAT).is_some_and(|f| f == "json");
    let detect = to != Target::Stderr && !asked;
    let journal = if detect && stderr_is_journal() { journald() } else { None };
    let watched = detect && journal.is_none() && std::io::stderr().is_terminal();
    let json = asked || (to == Target::Service && journal.is_none() && !watched);
    let text = if journal.is_none() && !json { Some(Text { watched }) } else { None };
    let json = json.then_some(json::Json);
    // who watches a terminal sees the steps and then the report, which say the same
    let own = if verbose {
        Level::DEBUG
    } else if watched {
        Level::WARN
    } else {
        Level::INFO
    };
    let records = registry().with(filter(own)).with(journal).with(json).with(text);
    tracing::subscriber::set_global_default(records).is_ok()
}

/// What is told meanwhile goes to journald, whoever reads stderr: what the machine should remember of a person's command.
/// Nothing happens where there is no journald, or where it reads stderr anyway and has got it.
pub fn always(tell: impl FnOnce()) {
    if stderr_is_journal() {
        return tell();
    }
    if let Some(journal) = journald() {
        tracing::subscriber::with_default(registry().with(filter(Level::INFO)).with(journal), tell);
    }
}

fn filter(own: Level) -> Targets {
    Targets::new().with_default(LevelFilter::WARN).with_target("certwarden", own)
}

/// None if journald's socket is missing (an initrd, a container). A layer has one priority for a level: so one for each target.
fn journald<S>() -> Option<Vec<Box<dyn Layer<S> + Send + Sync>>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = |of: &'static str| {
        let priorities = PriorityMappings {
            error: priority(Level::ERROR, of),
            warn: priority(Level::WARN, of),
            info: priority(Level::INFO, of),
            debug: priority(Level::DEBUG, of),
            trace: priority(Level::TRACE, of),
        };
        let layer = tracing_journald::layer().ok()?;
        let layer = layer.with_field_prefix(None).with_syslog_identifier("certwarden".to_owned());
        let filter = filter_fn(move |metadata| class(metadata.target()) == of);
        Some(Shown(layer.with_priority_mappings(priorities)).with_filter(filter).boxed())
    };
    NAMED.into_iter().chain([""]).map(layer).collect()
}

/// `systemd.exec(5)`, `$JOURNAL_STREAM`: device and inode of the stream; to be compared, since a child inherits the variable.
fn stderr_is_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let stat = nix::sys::stat::fstat(std::io::stderr().as_fd());
    stat.is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// One line per record, without times: a person is watching, or the reader adds them.
struct Text {
    /// On a terminal, where a step may be shown on the last line: a record is written over it.
    watched: bool,
}

impl<S: Subscriber> Layer<S> for Text {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let mut text = if self.watched { "\r\u{1b}[K".to_owned() } else { String::new() };
        text += &line.render(*event.metadata().level());
        text.push('\n');
        // stderr may be closed: then there is nobody to tell
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// The message and the `cw_` fields of a record; ids and code positions are for journald.
#[derive(Default)]
struct Line {
    message: String,
    fields: Vec<String>,
}

impl Line {
    fn render(&self, level: Level) -> String {
        let head = match level {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            Level::INFO => "",
            _ => "debug: ",
        };
        let tail = if self.fields.is_empty() { String::new() } else { format!(" ({})", self.fields.join(", ")) };
        plain::one_line(&format!("{head}{}{tail}", self.message)).into_owned()
    }

    fn put(&mut self, field: &Field, value: &str) {
        match field.name().strip_prefix("cw_") {
            Some(name) => self.fields.push(format!("{name}={value}")),
            None if field.name() == "message" => self.message.push_str(value),
            None => {}
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = String::new();
        if write!(text, "{value:?}").is_ok() {
            self.put(field, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_silent_below_warnings_and_certwarden_is_not() {
        for verbose in [false, true] {
            let filter = filter(if verbose { Level::DEBUG } else { Level::INFO });
            assert!(filter.would_enable("certwarden::txn", &Level::INFO));
            assert_eq!(filter.would_enable("certwarden::txn", &Level::DEBUG), verbose);
            for library in ["kube_client", "hyper::proto", "tower::buffer", "zbus", "h2"] {
                assert!(!filter.would_enable(library, &Level::INFO), "{library}");
                assert!(filter.would_enable(library, &Level::WARN), "{library}");
            }
        }
    }

    #[test]
    fn a_priority_says_who_should_read_it() {
        let seen = |level, target| priority(level, target) as u8 - b'0';
        assert_eq!([ALERT, CRIT, "certwarden::txn"].map(|t| seen(Level::ERROR, t)), [1, 2, 3]);
        assert_eq!([NOTICE, "certwarden::txn"].map(|t| seen(Level::INFO, t)), [5, 6]);
        assert_eq!([Level::WARN, Level::DEBUG].map(|l| seen(l, "certwarden::daemon")), [4, 7]);
        assert_eq!([ALERT, CRIT, NOTICE, "certwarden::txn", "h2"].map(class), [ALERT, CRIT, NOTICE, "", ""]);
        let filter = filter(Level::INFO);
        assert!([ALERT, CRIT, NOTICE].iter().all(|t| filter.would_enable(t, &Level::INFO)), "certwarden's own");
    }

    #[test]
    fn a_record_on_a_terminal_is_one_line_for_a_person() {
        let line = Line { message: "two\nlines\u{1b}[2J".to_owned(), fields: vec!["cert=apiserver".to_owned()] };
        assert_eq!(line.render(Level::WARN), "warning: two lines\u{fffd}[2J (cert=apiserver)");
        assert_eq!(Line { fields: Vec::new(), message: "done".to_owned() }.render(Level::INFO), "done");
    }
}
