//! Ids of the kinds of records (`MESSAGE_ID=`, `systemd.journal-fields(7)`), made by `journalctl --new-id128`. They never
//! change: `journalctl MESSAGE_ID=…` and other people's alerts rely on them. `packaging/certwarden.catalog` explains each.

/// 128 bits, 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct MessageId(&'static str);

impl MessageId {
    /// The value of `MESSAGE_ID=`.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// The daemon has started and read its configuration.
pub const DAEMON_STARTED: MessageId = MessageId("566560f2792844e1923dfec513264c3a");
/// The daemon has ended on request.
pub const DAEMON_STOPPED: MessageId = MessageId("4dd4f35c7180416ba580bdb85e1a23a9");
/// A new configuration is in force.
pub const CONFIG_RELOADED: MessageId = MessageId("4d5117681636436ba90a4ac33446e34f");
/// A new configuration is not valid; the old one stays in force. Fields: `cw_path`.
pub const CONFIG_REJECTED: MessageId = MessageId("42bc10a9283a4fe29f0cd9ba8530d98f");
/// A check of all certificates has ended.
pub const CHECK_DONE: MessageId = MessageId("3438dd90ee70435590ee89bec1b78505");
/// A certificate has less time left than `renew-before`. Fields: `cw_cert`.
pub const CERTIFICATE_DUE: MessageId = MessageId("4ca2b04821ee4601ad2c51ed2ec02d61");
/// A certificate has expired. Fields: `cw_cert`.
pub const CERTIFICATE_EXPIRED: MessageId = MessageId("9929453136e647b39e888a2316ea1ef9");
/// A certificate has a problem other than its age. Fields: `cw_cert`, `cw_problem`.
pub const CERTIFICATE_PROBLEM: MessageId = MessageId("f0c8ecf9261549bd87ca45655f58e083");
/// A plan was made. Fields: `cw_txn`.
pub const PLAN_MADE: MessageId = MessageId("d7bb1bb1f3464fbaa696a08865c1029a");
/// A gate has refused a renewal; nothing was changed. Fields: `cw_gate`.
pub const REFUSED: MessageId = MessageId("54a475ee4f4e4107a456736b256d5839");
/// A step of a transaction begins. Fields: `cw_txn`, `cw_step`.
pub const STEP_BEGUN: MessageId = MessageId("8dbdcca20c9843fe8105b947cf51b8ef");
/// A step of a transaction is done. Fields: `cw_txn`, `cw_step`.
pub const STEP_DONE: MessageId = MessageId("6093e07cfb454fb0a8b23786f7e437f8");
/// A step of a transaction has failed. Fields: `cw_txn`, `cw_step`.
pub const STEP_FAILED: MessageId = MessageId("8b02002cc7ff40c69fb8b1ed9c15c159");
/// All live files are the new ones. Fields: `cw_txn`.
pub const COMMITTED: MessageId = MessageId("766cc572f33945dbb970863f0f01edb2");
/// The new certificates are proven by use. Fields: `cw_txn`.
pub const VERIFIED: MessageId = MessageId("3de5b459f3cc4ceb8e417f156faa0932");
/// The new certificates stay although not everything could be proven. Fields: `cw_txn`.
pub const DEGRADED: MessageId = MessageId("540e0c64a88448cfb31ceb69e7df2e1e");
/// A person has closed a transaction that could not be proven. Fields: `cw_txn`.
pub const ACCEPTED: MessageId = MessageId("71b82824c60e4c429ff6df5a15159413");
/// A transaction is being undone. Fields: `cw_txn`.
pub const ROLLING_BACK: MessageId = MessageId("29d655673a06400cafffeec51015f5ba");
/// A transaction was undone and the old state is proven. Fields: `cw_txn`.
pub const ROLLED_BACK: MessageId = MessageId("df8a5964bb9a441a8956b872931fd781");
/// Neither the new nor the old state could be proven. Fields: `cw_txn`.
pub const ROLLBACK_FAILED: MessageId = MessageId("34202c998ec24ec28459a51d83d2381f");
/// A transaction that a dead process left open was ended. Fields: `cw_txn`.
pub const RECOVERED: MessageId = MessageId("cd28d60f7d544283aff6eb0a4ec7b68c");
/// A transaction was given up before anything live was touched. Fields: `cw_txn`.
pub const DISCARDED: MessageId = MessageId("15f925c233f9494a8860af79bf233920");
/// A transaction was interrupted by a request to end. Fields: `cw_txn`.
pub const INTERRUPTED: MessageId = MessageId("8b29a5172a304adf868468b1c2d5e04d");
/// After a failure the daemon waits before the next attempt. Fields: `cw_until`.
pub const BACKING_OFF: MessageId = MessageId("af14acf4e3114e0b8af06948ef0c52d9");
/// The daemon changes nothing, since an earlier rollback failed. Fields: `cw_txn`.
pub const OBSERVING_ONLY: MessageId = MessageId("4b60879c9b9d4d86966c00f5f777ceca");
/// Renewals are paused by an operator. Fields: `cw_until`.
pub const PAUSED: MessageId = MessageId("980d4385146149f2a4a67863afac1f6f");
/// A pause has ended.
pub const RESUMED: MessageId = MessageId("35503090a5294075a267716742d08083");
/// The wall clock has been stepped. Fields: `cw_seconds`.
pub const CLOCK_STEPPED: MessageId = MessageId("fed867dfb9d6437d876b9d44540b26c3");
/// The approver has approved a request for a serving certificate. Fields: `cw_request`, `cw_user`.
pub const REQUEST_APPROVED: MessageId = MessageId("40635bd89f3a49bab00dcd2cd9122bda");
/// The approver has denied a request for a serving certificate. Fields: `cw_request`, `cw_user`.
pub const REQUEST_REFUSED: MessageId = MessageId("f0cf6ee3831a41e0aa5762a697f65bc2");
/// The approver leaves a request for a serving certificate to a person. Fields: `cw_request`, `cw_user`.
pub const REQUEST_UNDECIDED: MessageId = MessageId("5d0c7f0e5a5f4c0f9d4b7d3a1be2a6c4");

/// A person has decided something that certwarden would not have done by itself. Fields: `cw_by`, `cw_act`.
pub const DECIDED: MessageId = MessageId("8cd96c3eb4a34f78a408c8766ac8d800");

/// Every id.
pub const ALL: [MessageId; 32] = [
    DECIDED,
    DAEMON_STARTED,
    DAEMON_STOPPED,
    CONFIG_RELOADED,
    CONFIG_REJECTED,
    CHECK_DONE,
    CERTIFICATE_DUE,
    CERTIFICATE_EXPIRED,
    CERTIFICATE_PROBLEM,
    PLAN_MADE,
    REFUSED,
    STEP_BEGUN,
    STEP_DONE,
    STEP_FAILED,
    COMMITTED,
    VERIFIED,
    DEGRADED,
    ACCEPTED,
    ROLLING_BACK,
    ROLLED_BACK,
    ROLLBACK_FAILED,
    RECOVERED,
    DISCARDED,
    INTERRUPTED,
    BACKING_OFF,
    OBSERVING_ONLY,
    PAUSED,
    RESUMED,
    CLOCK_STEPPED,
    REQUEST_APPROVED,
    REQUEST_REFUSED,
    REQUEST_UNDECIDED,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const CATALOG: &str = include_str!("../../../packaging/certwarden.catalog");

    fn entries() -> Vec<&'static str> {
        CATALOG.lines().filter_map(|l| l.strip_prefix("-- ")).collect()
    }

    #[test]
    fn every_kind_of_record_is_explained_in_the_catalog_and_nothing_else_is() {
        let mut known: Vec<&str> = ALL.iter().map(|id| id.as_str()).collect();
        let mut explained = entries();
        known.sort_unstable();
        explained.sort_unstable();
        assert_eq!(known, explained);
    }

    #[test]
    fn every_kind_of_record_is_written_by_somebody() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let written: String = ["txn/story.rs", "txn/acts.rs", "daemon/report.rs", "daemon/approver.rs"]
            .map(|file| std::fs::read_to_string(source.join(file)).unwrap())
            .concat();
        let names =
            include_str!("id.rs").lines().filter_map(|l| l.strip_prefix("pub const ")?.split_once(": MessageId ="));
        let silent: Vec<_> =
            names.map(|(name, _)| name).filter(|name| !written.contains(&format!("id::{name}."))).collect();
        assert!(silent.is_empty(), "{silent:?}");
    }

    #[test]
    fn an_id_is_128_bits_and_stands_for_one_kind_of_record() {
        let distinct: std::collections::HashSet<_> = ALL.iter().collect();
        assert_eq!(distinct.len(), ALL.len());
        let source = include_str!("id.rs");
        assert_eq!(source.matches(": MessageId = MessageId(\"").count(), ALL.len(), "an id is missing in ALL");
        for id in ALL {
            assert_eq!(id.as_str().len(), 32);
            assert!(id.as_str().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{id:?}");
        }
    }

    #[test]
    fn every_explanation_has_a_subject_and_a_text() {
        for entry in CATALOG.split("\n-- ").skip(1) {
            let (head, text) = entry.split_once("\n\n").unwrap();
            assert!(head.contains("\nSubject: ") && head.contains("\nDefined-By: certwarden"), "{head}");
            assert!(text.trim().ends_with('.'), "{text}");
        }
    }
}
