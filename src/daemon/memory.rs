//! What the daemon remembers across restarts. It is kept here and in `state.json`, which commands by hand write, too:
//! before a word is saved the file is read again, and of two decisions the later one holds.

use jiff::Timestamp;

use crate::host::fs::Root;
use crate::model::cause::chain;
use crate::model::decided::Decided;
use crate::model::issued::Issued;
use crate::model::known_time::KnownTime;
use crate::model::machine::{Renewed, Standing};
use crate::model::metrics::counters::Counters;
use crate::model::report::Report;
use crate::txn::state::{DaemonState, Damage, LastTransaction, Loaded};

/// The daemon's memory.
#[derive(Debug)]
pub(super) struct Memory {
    /// What the daemon may do, as it was last decided or read.
    decided: Decided,
    pub(super) last_transaction: Option<LastTransaction>,
    /// What a synchronised clock has shown.
    pub(super) known_time: KnownTime,
    /// The API server of the kubelet's kubeconfig, as it was remembered.
    server: Option<String>,
    /// What was put in place since the last save.
    issued: Issued,
    /// Something here is newer than `state.json`, which could not be written.
    unsaved: bool,
    /// Why `state.json` was of no use. What cannot be read may be read again; what was set aside is told until the end.
    pub(super) damage: Option<Damage>,
}

impl Memory {
    /// As `state.json` has it; what it says of renewals and counters is handed on.
    pub(super) fn open(root: &Root) -> (Self, Renewed, Counters) {
        let Loaded { state, damage } = DaemonState::load(root);
        let memory = Self {
            decided: state.decided(),
            last_transaction: state.last_transaction,
            known_time: KnownTime::new(state.last_seen),
            server: state.server,
            issued: Issued::default(),
            unsaved: false,
            damage,
        };
        (memory, state.renewed, state.counters)
    }

    pub(super) fn standing(&self) -> Standing {
        self.decided.standing.clone()
    }

    pub(super) fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// The daemon has decided what it may do.
    pub(super) fn decide(&mut self, standing: &Standing, now: Timestamp) {
        if self.decided.standing != *standing {
            self.decided = Decided { standing: standing.clone(), at: Some(now) };
        }
    }

    /// A transaction has ended.
    pub(super) fn ended(&mut self, report: &Report) {
        self.last_transaction = Some(report.into());
        self.issued.add(report);
    }

    /// Where the API server is, if that is known.
    pub(super) fn learn(&mut self, server: Option<&String>) {
        if server.is_some() {
            self.server = server.cloned();
        }
    }

    /// Reads what others have written. Returns what the daemon may do by it.
    pub(super) fn recall(&mut self, root: &Root, renewed: &mut Renewed, now: Timestamp) -> Standing {
        let Loaded { state, damage } = DaemonState::load(root);
        if let Some(damage) = damage {
            // what is in memory is better than nothing on the disk
            if self.damage.as_ref() != Some(&damage) {
                tracing::warn!("{damage}");
            }
            self.unsaved = true;
            self.damage = Some(damage);
        } else {
            self.damage.take_if(|damage| matches!(damage, Damage::Unreadable(_)));
            self.merge(&state, now);
            renewed.merge(&state.renewed);
        }
        self.standing()
    }

    fn merge(&mut self, state: &DaemonState, now: Timestamp) {
        self.decided = self.decided.clone().or_later(state.decided(), now);
        let ended = |t: &Option<LastTransaction>| t.as_ref().map(|t| t.ended_at);
        if ended(&state.last_transaction) > ended(&self.last_transaction) {
            self.last_transaction.clone_from(&state.last_transaction);
        }
    }

    /// Saves all of it, after reading what others have written; returns what the daemon may do by both. What cannot be saved is
    /// kept, and saved the next time, whatever is saved then.
    pub(super) fn save(
        &mut self,
        root: &Root,
        renewed: &mut Renewed,
        counters: &mut Counters,
        now: Timestamp,
    ) -> Standing {
        let saved = DaemonState::change(root, |state| {
            self.merge(state, now);
            // kept errors of a failed rollback stay
            state.set_standing(&self.decided.standing);
            state.decided_at = self.decided.at;
            state.last_seen = self.known_time.latest();
            state.last_transaction.clone_from(&self.last_transaction);
            if self.server.is_some() {
                state.server.clone_from(&self.server);
            }
            state.issued.extend(self.issued.clone());
            state.renewed.merge(renewed);
            renewed.clone_from(&state.renewed);
            state.counters.merge(counters);
            counters.clone_from(&state.counters);
        });
        if let (Err(e), false) = (&saved, self.unsaved) {
            tracing::warn!("back-off and last renewal cannot be remembered across a restart: {}", chain(e));
        }
        if saved.is_ok() {
            self.issued = Issued::default();
        }
        self.unsaved = saved.is_err();
        self.standing()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::report::{Outcome, Report};
    use crate::txn::state::STATE_DIR;

    struct Daemon<'a> {
        root: &'a Root,
        memory: Memory,
        renewed: Renewed,
        counters: Counters,
    }

    impl<'a> Daemon<'a> {
        fn start(root: &'a Root) -> Self {
            let (memory, renewed, counters) = Memory::open(root);
            Self { root, memory, renewed, counters }
        }

        fn save(&mut self, second: i64) -> Standing {
            self.memory.save(self.root, &mut self.renewed, &mut self.counters, at(second))
        }

        fn recall(&mut self, second: i64) -> Standing {
            self.memory.recall(self.root, &mut self.renewed, at(second))
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn backing_off() -> Standing {
        Standing::BackingOff { failures: 1, until: at(9_000) }
    }

    fn failed() -> Standing {
        Standing::ObserveOnly { since: at(100), reason: "a rollback failed".into() }
    }

    /// A state directory, and what takes its place while the disk takes nothing.
    fn disk() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        DaemonState::change(&root, |_| {}).unwrap();
        (dir, root)
    }

    fn broken(root: &Root, act: impl FnOnce()) {
        let directory = root.on_host(Path::new(STATE_DIR));
        let away = directory.with_extension("away");
        std::fs::rename(&directory, &away).unwrap();
        std::fs::write(&directory, "").unwrap();
        act();
        std::fs::remove_file(&directory).unwrap();
        std::fs::rename(&away, &directory).unwrap();
    }

    #[test]
    fn a_back_off_that_could_not_be_saved_is_saved_with_whatever_can_be_next() {
        let (_dir, root) = disk();
        let mut daemon = Daemon::start(&root);
        daemon.memory.decide(&backing_off(), at(100));
        broken(&root, || assert_eq!(daemon.save(100), backing_off()));
        assert!(daemon.memory.is_unsaved());
        // the next look comes first, and finds the disk as it was before
        assert_eq!(daemon.recall(160), backing_off());
        daemon.memory.known_time.seen(at(160));
        daemon.save(160);
        assert!(!daemon.memory.is_unsaved());
        let state = DaemonState::load(&root).state;
        assert_eq!((state.standing(), state.last_seen), (backing_off(), Some(at(160))));
        assert_eq!(Daemon::start(&root).memory.standing(), backing_off(), "after a restart");
    }

    #[test]
    fn a_retry_does_not_undo_what_an_operator_has_recovered_meanwhile() {
        let (_dir, root) = disk();
        let mut daemon = Daemon::start(&root);
        daemon.memory.decide(&failed(), at(100));
        daemon.save(100);
        broken(&root, || {
            daemon.memory.known_time.seen(at(110));
            daemon.save(110);
        });
        // what `certwarden recover` writes
        DaemonState::change(&root, |state| (state.observe_only, state.decided_at) = (None, Some(at(130)))).unwrap();
        assert_eq!(daemon.save(140), Standing::Free { failures: 0 });
        assert_eq!(DaemonState::load(&root).state.standing(), Standing::Free { failures: 0 });
    }

    #[test]
    fn a_rollback_that_failed_by_hand_is_not_undone_by_the_daemon_and_its_errors_stay() {
        let (_dir, root) = disk();
        let mut daemon = Daemon::start(&root);
        let report = Report::new(Outcome::RollbackFailed, "by hand", at(100));
        DaemonState::remember(&root, &report);
        DaemonState::change(&root, |s| s.observe_only.as_mut().unwrap().errors = vec!["first".into()]).unwrap();
        daemon.memory.decide(&backing_off(), at(200));
        assert!(matches!(daemon.save(200), Standing::ObserveOnly { .. }));
        assert_eq!(DaemonState::load(&root).state.observe_only.unwrap().errors, ["first"]);
    }

    #[test]
    fn a_damaged_file_costs_a_running_daemon_nothing() {
        let (_dir, root) = disk();
        let mut daemon = Daemon::start(&root);
        daemon.memory.decide(&backing_off(), at(100));
        daemon.save(100);
        let file = root.on_host(Path::new(STATE_DIR)).join("state.json");
        std::fs::write(&file, "{").unwrap();
        assert_eq!(daemon.recall(160), backing_off());
        assert!(daemon.memory.is_unsaved() && daemon.memory.damage.is_some());
        daemon.save(160);
        assert_eq!(DaemonState::load(&root).state.standing(), backing_off());
        // one that cannot be read (ELOOP, as root gets EIO) is left as it is until it can be
        let kept = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("state.json", &file).unwrap();
        assert_eq!(daemon.recall(220), backing_off());
        daemon.save(220);
        assert!(daemon.memory.is_unsaved() && file.is_symlink());
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, kept).unwrap();
        assert_eq!((daemon.recall(280), daemon.save(280)), (backing_off(), backing_off()));
        assert_eq!(daemon.memory.damage, None, "and is no warning any more");
    }
}
