//! The text itself (prometheus: `docs/instrumenting/exposition_formats.md`).

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};

use super::Family;

/// No label value is longer, in characters: what others wrote into a certificate does not decide how much we write.
const LONGEST_VALUE: usize = 256;

/// A page of metrics, growing. Each family is to be written once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    text: String,
    dropped: usize,
}

impl Page {
    /// Writes the samples that `fill` adds; no family without samples.
    pub fn family(&mut self, family: &'static Family, fill: impl FnOnce(&mut Samples<'_>)) {
        let mut samples = Samples { family, seen: BTreeSet::new(), text: &mut self.text, dropped: 0 };
        fill(&mut samples);
        self.dropped += samples.dropped;
    }

    /// A family of one sample without labels.
    pub fn value(&mut self, family: &'static Family, value: impl Display) {
        self.family(family, |s| s.add([], value));
    }

    /// Samples that were left out because another had the same labels.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

/// The samples of one family.
#[derive(Debug)]
pub struct Samples<'a> {
    family: &'static Family,
    seen: BTreeSet<String>,
    text: &'a mut String,
    dropped: usize,
}

impl Samples<'_> {
    /// One sample, its label values in the order of the family's labels; empty ones are left out. A second one with the same
    /// labels is dropped: Prometheus and node_exporter reject the whole page for it.
    pub fn add<const N: usize>(&mut self, values: [&str; N], value: impl Display) {
        debug_assert_eq!(N, self.family.labels.len(), "{}", self.family.name);
        let mut labels = String::new();
        for (label, text) in self.family.labels.iter().zip(values).filter(|(_, text)| !text.is_empty()) {
            labels.push(if labels.is_empty() { '{' } else { ',' });
            let _ = write!(labels, "{}=\"{}\"", label.name, escaped(text)); // a String takes whatever is written
        }
        if !labels.is_empty() {
            labels.push('}');
        }
        if self.seen.contains(&labels) {
            self.dropped += 1;
            return;
        }
        let Family { name, kind, help, .. } = self.family;
        if self.seen.is_empty() {
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.id());
        }
        let _ = writeln!(self.text, "{name}{labels} {value}");
        self.seen.insert(labels);
    }
}

/// Backslash, quote and line feed are escaped; other control characters become a blank, for whoever reads it.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars().take(LONGEST_VALUE) {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text
}
