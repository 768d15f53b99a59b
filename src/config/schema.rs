//! The known keys, derived from the policy structs, and the type of each, asked of serde one key at a time.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::{Table, Value};

use super::error::Fault;
use crate::model::policy::Policy;
use crate::model::similar::nearest;

/// Every key that may be written: what `Policy::default()` serialises to. (Hence no `Option` in the policy:
/// a `None` would be written nowhere and its key would be unknown.)
#[derive(Debug)]
pub(super) struct Schema {
    leaves: BTreeSet<String>,
    sections: BTreeSet<String>,
}

impl Schema {
    pub(super) fn new() -> Self {
        let leaves: BTreeSet<String> = effective_values(&Policy::default()).into_keys().collect();
        let sections = leaves.iter().filter_map(|k| k.rsplit_once('.')).map(|(s, _)| s.to_owned()).collect();
        Self { leaves, sections }
    }

    /// Whether `path` may be opened as a table.
    pub(super) fn check_section(&self, path: &[String]) -> Result<(), Fault> {
        let key = path.join(".");
        if self.sections.contains(&key) {
            Ok(())
        } else if self.leaves.contains(&key) {
            Err(Fault::ValueExpected)
        } else {
            Err(Fault::UnknownKey { nearest: nearest(&key, &self.sections) })
        }
    }

    /// Whether `path` may have `value`.
    pub(super) fn check_leaf(&self, path: &[String], value: &Value) -> Result<(), Fault> {
        let key = path.join(".");
        if self.sections.contains(&key) {
            return Err(Fault::SectionExpected { section: key });
        }
        if !self.leaves.contains(&key) {
            return Err(Fault::UnknownKey { nearest: self.nearest_leaf(&key) });
        }
        match policy_from([(key.as_str(), value)]) {
            Ok(_) => Ok(()),
            Err(e) => Err(Fault::BadValue { message: e.clone(), nearest: nearest_variant(&e, value) }),
        }
    }

    /// A key near to what was written, else the key of that name in another section.
    fn nearest_leaf(&self, key: &str) -> Option<String> {
        let last = |k: &str| k.rsplit('.').next().unwrap_or(k).to_owned();
        nearest(key, &self.leaves).or_else(|| {
            let name = last(key);
            let elsewhere = nearest(&name, &self.leaves.iter().map(|k| last(k)).collect::<Vec<_>>())?;
            self.leaves.iter().find(|k| last(k) == elsewhere).cloned()
        })
    }
}

/// The policy that these dotted keys make, everything else at its default.
pub(super) fn policy_from<'a>(values: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Result<Policy, String> {
    let mut root = Table::new();
    for (key, value) in values {
        insert(&mut root, key, value);
    }
    Policy::deserialize(root).map_err(|e| e.message().trim_end().to_owned())
}

fn insert(table: &mut Table, key: &str, value: &Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value.clone());
        }
        Some((section, rest)) => {
            if let Value::Table(inner) = table.entry(section).or_insert_with(|| Value::Table(Table::new())) {
                insert(inner, rest, value);
            }
        }
    }
}

/// Every key of `policy`, dotted, with its value as it would be written in TOML.
pub fn effective_values(policy: &Policy) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    if let Ok(table) = Table::try_from(policy) {
        flatten(&table, "", &mut flat);
    }
    flat
}

fn flatten(table: &Table, prefix: &str, flat: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let dotted = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(inner, &dotted, flat),
            leaf => {
                flat.insert(dotted, leaf.clone());
            }
        }
    }
}

/// serde lists the variants it knows in its message; the one that is near to what was written.
fn nearest_variant(message: &str, value: &Value) -> Option<String> {
    let (_, expected) = message.split_once("unknown variant")?.1.split_once("expected")?;
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    nearest(value.as_str()?, &known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_at_all_is_the_default_policy() {
        assert_eq!(policy_from([]).unwrap(), Policy::default());
    }

    #[test]
    fn a_key_of_another_section_is_suggested_with_its_section() {
        let schema = Schema::new();
        let fault = schema.check_leaf(&["renew-before".into()], &Value::from("1d")).unwrap_err();
        assert!(fault.to_string().contains("renew-before`?"), "{fault}");
        let fault = schema.check_leaf(&["renew".into(), "generations".into()], &Value::from("1d")).unwrap_err();
        assert_eq!(fault.to_string(), "unknown key; did you mean `state.generations`?");
    }
}
