//! Records as JSON on stderr, one object in a line, for whoever collects them without journald: the names are journald's.

use std::io::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_journald::Priority;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::model::plain;

/// See the module.
pub(super) struct Json;

impl<S: Subscriber> Layer<S> for Json {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut record = Record::new(super::priority(*metadata.level(), metadata.target()), Timestamp::now());
        event.record(&mut record);
        // stderr may be closed: then there is nobody to tell
        let _ = std::io::stderr().lock().write_all(record.line().as_bytes());
    }
}

struct Record(Map<String, Value>);

impl Record {
    fn new(priority: Priority, at: Timestamp) -> Self {
        // the digit of syslog(3) as a number
        let priority = (priority as u8).saturating_sub(b'0');
        let mut map = Map::new();
        map.insert("timestamp".into(), Value::from(at.to_string()));
        map.insert("PRIORITY".into(), Value::from(priority));
        map.insert("SYSLOG_IDENTIFIER".into(), Value::from("certwarden"));
        Self(map)
    }

    fn line(self) -> String {
        plain::json(&Value::Object(self.0).to_string()).into_owned() + "\n"
    }

    fn put(&mut self, field: &Field, value: String) {
        self.0.insert(field.name().to_ascii_uppercase(), Value::String(value));
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let mut record = Record::new(Priority::Warning, Timestamp::UNIX_EPOCH);
        record.0.insert("MESSAGE".into(), Value::from("two\nlines \"quoted\" \u{1b}[2J\u{9b}\u{202e}"));
        let line = record.line();
        assert_eq!(line.lines().count(), 1);
        assert!(line.trim_end().chars().all(plain::is_plain));
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&read["PRIORITY"], &read["timestamp"]), (&Value::from(4), &Value::from("1970-01-01T00:00:00Z")));
    }
}
