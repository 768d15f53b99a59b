//! Stage two: fragments laid over each other key by key, each value with its origin. A list is one value:
//! the later one replaces the earlier one, nothing is appended behind anybody's back.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::Value;

use super::Origin;
use super::error::{Fault, Problem};
use super::fragment::Fragment;
use super::schema::{Schema, policy_from};
use super::toml_text::{Item, items, position};
use crate::model::policy::Policy;

/// What the fragments say together.
#[derive(Debug, Default)]
pub(super) struct Merged {
    values: BTreeMap<String, (Value, Origin)>,
    /// Keys that have a fault somewhere: rules that look at them would only repeat it.
    faulty: BTreeSet<String>,
}

/// Merges in the order given; later fragments win.
pub(super) fn merge(fragments: &[Fragment], problems: &mut Vec<Problem>) -> Merged {
    // made when first needed: most nodes have no key set, and `check` is quick
    let schema = LazyCell::new(Schema::new);
    let mut merged = Merged::default();
    for fragment in fragments {
        match items(&fragment.text) {
            Ok(items) => items.into_iter().for_each(|item| merged.take(&schema, fragment, item, problems)),
            Err(errors) => problems.extend(errors.into_iter().map(|(at, message)| Problem {
                path: fragment.path.clone(),
                position: Some(position(&fragment.text, at)),
                key: None,
                fault: Fault::Syntax(message.trim_end().replace('\n', "; ")),
            })),
        }
    }
    merged
}

impl Merged {
    fn take(&mut self, schema: &Schema, fragment: &Fragment, item: Item, problems: &mut Vec<Problem>) {
        let (verdict, path, at, value) = match item {
            Item::Leaf { path, value, at } => (schema.check_leaf(&path, &value), path, at, Some(value)),
            Item::Section { path, at } => (schema.check_section(&path), path, at, None),
        };
        let (line, column) = position(&fragment.text, at);
        let key = path.join(".");
        match (verdict, value) {
            (Err(fault), _) => {
                // what is in an unknown section is unknown too: one line for both
                if path.len() > 1
                    && self.faulty.contains(path.get(..path.len() - 1).unwrap_or_default().join(".").as_str())
                {
                    return;
                }
                self.faulty.insert(key.clone());
                problems.push(Problem {
                    path: fragment.path.clone(),
                    position: Some((line, column)),
                    key: Some(key),
                    fault,
                });
            }
            (Ok(()), Some(value)) => {
                let origin = Origin::File { path: fragment.path.clone(), line, column };
                self.values.insert(key, (value, origin));
            }
            (Ok(()), None) => {}
        }
    }

    /// The policy that all values make. Values were checked one by one; together they can only fail by a defect here.
    pub(super) fn policy(&self, problems: &mut Vec<Problem>) -> Policy {
        if self.values.is_empty() {
            return Policy::default();
        }
        policy_from(self.values.iter().map(|(k, (v, _))| (k.as_str(), v))).unwrap_or_else(|message| {
            problems.push(Problem {
                path: Path::new(super::MAIN_FILE).into(),
                position: None,
                key: None,
                fault: Fault::BadValue { message, nearest: None },
            });
            Policy::default()
        })
    }

    /// Where the values come from that are not defaults.
    pub(super) fn origins(&self) -> BTreeMap<String, Origin> {
        self.values.iter().map(|(key, (_, origin))| (key.clone(), origin.clone())).collect()
    }

    pub(super) fn origin(&self, key: &str) -> Origin {
        self.values.get(key).map(|(_, origin)| origin.clone()).unwrap_or_default()
    }

    pub(super) fn is_faulty(&self, key: &str) -> bool {
        self.faulty.contains(key)
    }
}
