//! What must hold of every configuration.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken property is a panic; not part of the product"
)]

use super::fragment::Fragment;
use super::{Problem, effective_values, merge, rules};
use crate::model::fuzz::texts;
use crate::model::policy::Policy;

/// Two fragments: either every problem names a place that exists, or the policy can be printed and read back.
pub fn fragments(data: &[u8]) {
    let Some([first, second]) = texts(data) else { return };
    match judge(&[first, second]) {
        Ok(policy) => {
            let lines = effective_values(&policy).into_iter().map(|(key, value)| format!("{key} = {value}\n"));
            let again = judge(&[&lines.collect::<String>()]);
            assert_eq!(again.ok(), Some(policy), "what `config show` prints says something else");
        }
        Err(problems) => {
            for problem in problems {
                assert!(!problem.to_string().is_empty());
                let text = if problem.path.ends_with("0") { first } else { second };
                let fits = |(line, column): (usize, usize)| {
                    let lines = text.bytes().filter(|b| *b == b'\n').count() + 1;
                    line >= 1 && line <= lines && column >= 1 && column <= text.chars().count() + 1
                };
                assert!(problem.position.is_none_or(fits), "{problem}: there is no such place");
            }
        }
    }
}

fn judge(texts: &[&str]) -> Result<Policy, Vec<Problem>> {
    let fragment = |(i, text): (usize, &&str)| Fragment { path: i.to_string().into(), text: (*text).to_owned() };
    let fragments: Vec<_> = texts.iter().enumerate().map(fragment).collect();
    let mut problems = Vec::new();
    let merged = merge::merge(&fragments, &mut problems);
    let policy = merged.policy(&mut problems);
    rules::check(&policy, &merged, &mut problems);
    if problems.is_empty() { Ok(policy) } else { Err(problems) }
}
