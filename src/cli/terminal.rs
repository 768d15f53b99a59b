//! What a terminal can take: colours, a width, a line that is written over. Pipes and files get none of it.

use std::io::{self, IsTerminal, Write as _};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::assess::Severity;
use crate::model::plain;

/// Columns of tables where nobody says how wide the paper is, and at most (docs/architecture.md, "Command line").
const WIDEST: u16 = 100;
/// Names and dates need so many: narrower terminals wrap.
const NARROWEST: u16 = 60;
/// Back to the beginning of the line, and empty it (console_codes(4)).
const OVER: &str = "\r\u{1b}[K";

/// The step under way, which is shown on standard error.
static UNDER_WAY: Mutex<Option<Step>> = Mutex::new(None);

struct Step {
    text: String,
    since: Instant,
}

/// Whether what goes to standard output may be coloured (<https://no-color.org>).
pub fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && !is_dumb()
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|t| t.is_empty() || t == "dumb")
}

/// Columns for a table on standard output.
pub fn width() -> u16 {
    let known = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
    known.map_or(WIDEST, |width| width.clamp(NARROWEST, WIDEST))
}

/// Text for standard output. The only escape sequences in it are the colours that are put there here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Painted(String);

impl Painted {
    /// Adds lines.
    pub fn text(&mut self, text: &str) {
        self.0.push_str(&plain::lines(text));
    }

    /// Adds the text in the severity's colour.
    pub fn paint(&mut self, severity: Severity, text: &str, colour: bool) {
        let sgr = match severity {
            Severity::Ok => "32",
            Severity::Warning => "33",
            Severity::Unknown => "35",
            Severity::Critical => "31",
        };
        let text = plain::lines(text);
        if colour {
            self.0.extend(["\u{1b}[", sgr, "m", &text, "\u{1b}[0m"]);
        } else {
            self.0.push_str(&text);
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text with its first line painted: what a person reads first.
pub fn headline(severity: Severity, text: &str, colour: bool) -> Painted {
    let (first, rest) = text.find('\n').and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""));
    let mut painted = Painted::default();
    painted.paint(severity, first, colour);
    painted.text(rest);
    painted
}

/// A step of long work begins: one line on a terminal, on which [`count`] counts the seconds.
pub fn step(text: &str) {
    if !io::stderr().is_terminal() {
        return;
    }
    if is_dumb() {
        return say(&format!("… {}\n", plain::one_line(text)));
    }
    let mut under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    leave(under_way.take());
    say(&line(text, 0));
    *under_way = Some(Step { text: text.to_owned(), since: Instant::now() });
}

/// Writes the step under way again every second, so that waiting is seen to be waiting.
pub fn count() {
    if !io::stderr().is_terminal() || is_dumb() {
        return;
    }
    let repaint = || {
        loop {
            thread::sleep(Duration::from_secs(1));
            let under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(step) = under_way.as_ref() {
                say(&line(&step.text, step.since.elapsed().as_secs()));
            }
        }
    };
    // without the thread the seconds do not count, and nothing else is missing
    drop(thread::Builder::new().name("terminal".into()).spawn(repaint));
}

/// The last step has ended: what follows begins on a line of its own.
pub fn rest() {
    leave(UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn leave(step: Option<Step>) {
    if let Some(step) = step {
        say(&(line(&step.text, step.since.elapsed().as_secs()) + "\n"));
    }
}

/// Cut to the terminal's width: a line that wraps cannot be written over.
fn line(text: &str, seconds: u64) -> String {
    let width = terminal_size::terminal_size_of(io::stderr()).map_or(usize::from(WIDEST), |(w, _)| usize::from(w.0));
    let counted = if seconds < 2 { String::new() } else { format!(" ({seconds} s)") };
    let room = width.saturating_sub(counted.chars().count()).saturating_sub(3);
    format!("{OVER}… {}{counted}", plain::line(text, room))
}

fn say(text: &str) {
    // nobody to tell if standard error has gone
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_is_painted_and_nothing_without_colour() {
        let shown = |text, colour| headline(Severity::Critical, text, colour).as_str().to_owned();
        assert_eq!(shown("bad\nrest\n", true), "\u{1b}[31mbad\u{1b}[0m\nrest\n");
        assert_eq!(shown("bad\nrest\n", false), "bad\nrest\n");
        assert_eq!(shown("bad", false), "bad");
    }

    #[test]
    fn colours_are_ours_alone() {
        let evil = "\u{1b}[32mOK\u{1b}[0m\n\u{9b}2J\u{202e}";
        let shown = headline(Severity::Critical, evil, true);
        assert_eq!(shown.as_str(), "\u{1b}[31m\u{fffd}[32mOK\u{fffd}[0m\u{1b}[0m\n\u{fffd}2J\u{fffd}");
        assert!(!headline(Severity::Critical, evil, false).as_str().contains('\u{1b}'));
        assert_eq!(line("\u{1b}[2J", 0), format!("{OVER}… \u{fffd}[2J"));
    }

    #[test]
    fn a_long_step_is_cut_so_that_its_seconds_can_be_seen() {
        let shown = line(&"x".repeat(500), 12);
        assert!(shown.ends_with(" (12 s)"), "{shown}");
        assert!(shown.chars().count() < 500, "{shown}");
    }
}
