//! The text itself (prometheus: `docs/instrumenting/exposition_formats.md`).

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Display, Write as _};

use super::Family;
use crate::model::plain;

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
        let labels = labels(self.family, &values);
        if self.seen.contains(&labels) {
            self.dropped += 1;
            return;
        }
        // a String takes whatever is written
        if self.seen.is_empty() {
            let _ = head(self.text, self.family);
        }
        let _ = writeln!(self.text, "{}{labels} {value}", self.family.name);
        self.seen.insert(labels);
    }
}

/// The two lines before the first sample of a family.
pub(in crate::model) fn head(out: &mut dyn fmt::Write, family: &Family) -> fmt::Result {
    let Family { name, kind, help, .. } = family;
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.id())
}

/// Labels with their braces; empty ones are left out, and without any there are no braces.
pub(in crate::model) fn labels(family: &Family, values: &[&str]) -> String {
    let mut text = String::new();
    for (label, value) in family.labels.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
        text.push(if text.is_empty() { '{' } else { ',' });
        let _ = write!(text, "{}=\"{}\"", label.name, escaped(value));
    }
    if !text.is_empty() {
        text.push('}');
    }
    text
}

/// Backslash and quote are escaped. A line feed, which could be, is a blank: dashboards and alerts show values as they are.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in plain::line(value, LONGEST_VALUE).chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            c => text.push(c),
        }
    }
    text
}

/// Several pages as one: each family stands once, with the samples of all, which must be of different things.
pub fn merge(pages: &[&str]) -> String {
    let mut families: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for page in pages {
        let mut at = None;
        for line in page.lines().filter(|l| !l.is_empty()) {
            let comment = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
            let name = comment.unwrap_or(line).split(['{', ' ']).next().unwrap_or_default();
            let place = *places.entry(name).or_insert_with(|| {
                families.push((name, Vec::new()));
                families.len() - 1
            });
            let Some((_, lines)) = families.get_mut(place) else { continue };
            // a head that another page has written already
            let known = comment.is_some() && at != Some(place) && !lines.is_empty();
            if !known {
                lines.push(line);
                if comment.is_some() {
                    at = Some(place);
                }
            }
        }
    }
    let size = pages.iter().map(|p| p.len()).sum();
    families.into_iter().flat_map(|(_, lines)| lines).fold(String::with_capacity(size), |mut text, line| {
        text.push_str(line);
        text.push('\n');
        text
    })
}
