//! The decisions of people, kept beside the transactions and told to the journal. Best effort: who decides is not kept from
//! it because the disk is full.

use std::path::Path;

use crate::host::Host;
use crate::host::fs::{FsError, Root};
use crate::host::journal::{self, NOTICE, id};
use crate::model::act::{self, Act, What};
use crate::model::cause::chain;

use super::store;

const FILE: &str = "/var/lib/certwarden/acts.jsonl";
/// Some hundred bytes each; older ones make room.
const MOST: usize = 200;
const MAX: u64 = 1 << 20;

/// Remembers a decision of whoever runs this process.
pub fn record(host: &Host, what: What, detail: &str) {
    let by = host.by.as_deref().unwrap_or("a service");
    let act = Act::new(host.clock.now(), what, by, detail);
    if let Err(e) = keep(&host.root, &act) {
        tracing::warn!("who has decided this cannot be recorded: {}", chain(&e));
    }
    if host.live {
        journal::always(|| {
            tracing::info!(
                target: NOTICE,
                MESSAGE_ID = id::DECIDED.as_str(),
                cw_by = act.by,
                cw_act = act.what.id(),
                "{act}"
            );
        });
    }
}

fn keep(root: &Root, act: &Act) -> Result<(), FsError> {
    store::prepare(root)?;
    let mut acts = list(root);
    acts.truncate(MOST - 1);
    acts.insert(0, act.clone());
    let mut text = String::new();
    for act in acts.iter().rev() {
        text += &serde_json::to_string(act).map_err(|e| FsError::new("encode", Path::new(FILE), e))?;
        text.push('\n');
    }
    root.write(Path::new(FILE), text.as_bytes(), 0o600)
}

/// What is remembered, newest first.
pub fn list(root: &Root) -> Vec<Act> {
    let bytes = root.read(Path::new(FILE), MAX).unwrap_or_default();
    let mut acts = act::parse(&String::from_utf8_lossy(&bytes));
    acts.reverse();
    acts
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_newest_decisions_are_kept_and_shown_first() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(list(&root), []);
        for second in 0..i64::try_from(MOST).unwrap() + 5 {
            let at = Timestamp::from_second(second).unwrap();
            keep(&root, &Act::new(at, What::Pause, "anna", "")).unwrap();
        }
        let kept = list(&root);
        assert_eq!((kept.len(), kept[0].at.as_second()), (MOST, i64::try_from(MOST).unwrap() + 4));
        assert!(kept.windows(2).all(|w| w[0].at > w[1].at));
    }
}
