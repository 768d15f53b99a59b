//! What must hold of every ledger and of what else a transaction leaves on the disk.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken property is a panic; not part of the product"
)]

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::before::Before;
use super::ledger;
use super::state::DaemonState;
use crate::model::ledger::{Record, State};
use crate::model::plan::Plan;
use crate::model::report::Report;

/// A ledger is a legal story or an error; of a legal one every prefix is, and rubbish behind it changes nothing.
pub fn ledger(data: &[u8]) {
    let path = Path::new("/ledger");
    let read = |bytes: &[u8]| ledger::read(bytes, path);
    let Ok((records, whole)) = read(data) else { return };
    assert!(records.first().is_none_or(|r| r.state == State::Open));
    for pair in records.windows(2) {
        assert!(pair[0].state.may_become(pair[1].state), "{} was followed by {}", pair[0].state, pair[1].state);
    }
    assert!(whole <= data.len() && data[whole..].iter().all(|b| *b != b'\n'), "{whole} of {}", data.len());
    let printed: Vec<u8> =
        records.iter().flat_map(|r| [serde_json::to_vec(r).unwrap(), b"\n".to_vec()].concat()).collect();
    assert_eq!(read(&printed).unwrap().0, records, "what is written is what is read");
    // cut anywhere: at every end of a line, beside it, and where the input's own length happens to lead
    let ends = data.iter().enumerate().filter(|(_, b)| **b == b'\n').flat_map(|(i, _)| [i, i + 1, i + 2]);
    for cut in ends.chain([data.len() / 2, data.len().saturating_sub(1)]).filter(|c| *c <= data.len()) {
        let (kept, _) = read(&data[..cut]).unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        assert_eq!(kept, records[..kept.len()], "cut at {cut}");
    }
    for rubbish in [&b"\0\0\0\0"[..], b"{\"schema\":", &[0xff; 64]] {
        assert_eq!(read(&[data, rubbish].concat()).map(|(r, _)| r).ok(), Some(records.clone()), "a torn append");
    }
}

/// The JSON documents that a dead process leaves to the next: what is read is what is written again.
pub fn state(data: &[u8]) {
    let Some((which, json)) = data.split_first() else { return };
    match which {
        b'p' => round_trip::<Plan>(json),
        b'r' => round_trip::<Report>(json),
        b'b' => round_trip::<Before>(json),
        b'l' => round_trip::<Record>(json),
        _ => {
            round_trip::<DaemonState>(json);
            if let Ok(mut state) = serde_json::from_slice::<DaemonState>(json) {
                let standing = state.standing();
                state.set_standing(&standing);
                assert_eq!(state.standing(), standing, "a standing survives a restart");
            }
        }
    }
}

fn round_trip<T: DeserializeOwned + Serialize>(json: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(json) else { return };
    let printed = serde_json::to_string(&value).unwrap();
    let again: T = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed}"));
    assert_eq!(serde_json::to_string(&again).unwrap(), printed);
}
