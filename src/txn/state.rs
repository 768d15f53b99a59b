//! `state.json`: what the daemon must still know after a restart or a power cut. Small, durable, and never in the
//! way: a damaged one is kept aside and said so, because a daemon that refuses to start renews nothing at all.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::host::fs::{FsError, Root};
use crate::model::machine::{Renewed, Standing};
use crate::model::metrics::counters::Counters;
use crate::model::report::{Outcome, Report};

pub const SCHEMA: &str = "certwarden.state/v1";
/// Where transactions and their memory are kept, 0700.
pub const STATE_DIR: &str = "/var/lib/certwarden";
const FILE: &str = "/var/lib/certwarden/state.json";
const NAME: &str = "state.json";
/// A few hundred bytes in truth; errors are bounded sentences.
const MAX_STATE: u64 = 1 << 20;

/// The daemon's durable memory.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DaemonState {
    pub schema: String,
    /// Rollbacks in a row.
    #[serde(default)]
    pub failures: u32,
    #[serde(default)]
    pub back_off_until: Option<Timestamp>,
    /// Set by a failed rollback, removed by an operator's successful `recover`.
    #[serde(default)]
    pub observe_only: Option<ObserveOnly>,
    /// The latest wall-clock time that was seen while the clock was synchronised: the clock gate refuses to be before it.
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
    #[serde(default)]
    pub last_transaction: Option<LastTransaction>,
    /// The API server as the kubelet's kubeconfig said when it was well: for the day when it is gone.
    #[serde(default)]
    pub server: Option<String>,
    /// What must not be renewed again at once.
    #[serde(default)]
    pub renewed: Renewed,
    /// What metrics count.
    #[serde(default)]
    pub counters: Counters,
}

/// Why nothing is renewed until an operator has acted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ObserveOnly {
    pub since: Timestamp,
    pub reason: String,
    /// Both errors: of the transaction and of its rollback.
    #[serde(default)]
    pub errors: Vec<String>,
}

/// The last transaction, in short; the whole is in its `report.json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LastTransaction {
    pub id: Option<String>,
    pub ended_at: Timestamp,
    pub outcome: Outcome,
    pub reason: String,
    /// Logical names.
    pub renewed: Vec<String>,
}

impl From<&Report> for LastTransaction {
    fn from(report: &Report) -> Self {
        Self {
            id: report.transaction.clone(),
            ended_at: report.ended_at,
            outcome: report.outcome,
            reason: report.reason.clone(),
            renewed: report.in_place(),
        }
    }
}

impl Default for DaemonState {
    fn default() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            failures: 0,
            back_off_until: None,
            observe_only: None,
            last_seen: None,
            server: None,
            last_transaction: None,
            renewed: Renewed::default(),
            counters: Counters::default(),
        }
    }
}

/// What [`DaemonState::load`] found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    pub state: DaemonState,
    /// Why the file could not be used, and where it is kept; then `state` is that of a new node.
    pub damage: Option<String>,
}

impl DaemonState {
    /// Never fails: no file is a new node, a damaged one is moved to `state.json.corrupt` and reported.
    pub fn load(root: &Root) -> Loaded {
        let bytes = match root.read(Path::new(FILE), MAX_STATE) {
            Ok(bytes) => bytes,
            Err(FsError::NotFound { .. }) => return Loaded::default(),
            Err(e) => return damaged(root, &e.to_string()),
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(state) if state.schema == SCHEMA => Loaded { state, damage: None },
            Ok(state) => damaged(root, &format!("schema is `{}` and not `{SCHEMA}`", state.schema)),
            Err(e) => damaged(root, &e.to_string()),
        }
    }

    /// Durable when it returns: temporary file in the same directory, fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// [`FsError`]; the old file is then untouched.
    pub fn save(&self, root: &Root) -> Result<(), FsError> {
        let directory = Directory::open_or_make(root)?;
        let fail = |action| move |e| FsError::new(action, Path::new(FILE), e);
        let json = serde_json::to_vec_pretty(self).map_err(|e| fail("encode")(e.into()))?;
        // mode 0600 by mkstemp
        let file = tempfile::Builder::new().prefix(".state.json.").tempfile_in(directory.path());
        let mut file = file.map_err(fail("create"))?;
        file.write_all(&json).map_err(fail("write"))?;
        file.as_file().sync_all().map_err(fail("fsync"))?;
        file.persist(directory.path().join(NAME)).map_err(|e| fail("replace")(e.error))?;
        directory.sync().map_err(fail("fsync the directory of"))
    }

    /// What the daemon may do, in the words of its state machine.
    pub fn standing(&self) -> Standing {
        match (&self.observe_only, self.back_off_until) {
            (Some(o), _) => Standing::ObserveOnly { since: o.since, reason: o.reason.clone() },
            (None, Some(until)) => Standing::BackingOff { failures: self.failures, until },
            (None, None) => Standing::Free { failures: self.failures },
        }
    }

    /// Takes over what the state machine decided. Errors that are already kept stay.
    pub fn set_standing(&mut self, standing: &Standing) {
        match standing {
            Standing::Free { failures } => {
                (self.failures, self.back_off_until, self.observe_only) = (*failures, None, None);
            }
            Standing::BackingOff { failures, until } => {
                (self.failures, self.back_off_until, self.observe_only) = (*failures, Some(*until), None);
            }
            Standing::ObserveOnly { since, reason } => {
                self.back_off_until = None;
                self.observe_only.get_or_insert_with(|| ObserveOnly {
                    since: *since,
                    reason: reason.clone(),
                    errors: Vec::new(),
                });
            }
        }
    }

    /// Remembers the end of a transaction that was driven by hand: the daemon must not try at once what an operator
    /// has just seen fail. A failure to do so is told.
    pub fn remember(root: &Root, report: &Report) {
        if matches!(report.outcome, Outcome::NothingToDo | Outcome::DryRun | Outcome::Refused) {
            return;
        }
        let mut state = Self::load(root).state;
        state.set_standing(&state.standing().after(report.outcome, &report.reason, report.ended_at));
        state.last_transaction = Some(report.into());
        state.renewed.add(report.in_place(), report.ended_at);
        state.counters.ended(report);
        if let Err(e) = state.save(root) {
            tracing::warn!("the end of this transaction cannot be remembered for the daemon: {e}");
        }
    }
}

/// The state directory, opened below its root: on a mounted disk image no link leads out of it.
struct Directory(File);

impl Directory {
    fn open(root: &Root, path: &Path) -> Result<Self, FsError> {
        root.directory(path).map(|fd| Self(fd.into()))
    }

    /// Parents that are missing get the usual mode; the state directory itself is nobody else's business.
    fn open_or_make(root: &Root) -> Result<Self, FsError> {
        let (mut directory, mut path) = (Self::open(root, Path::new("/"))?, PathBuf::from("/"));
        for (name, mode) in [("var", 0o755), ("lib", 0o755), ("certwarden", 0o700)] {
            path.push(name);
            directory = match Self::open(root, &path) {
                Err(FsError::NotFound { .. }) => {
                    let made = std::fs::DirBuilder::new().mode(mode).create(directory.path().join(name));
                    made.map_err(|e| FsError::new("create", &path, e))?;
                    Self::open(root, &path)?
                }
                other => other?,
            };
        }
        Ok(directory)
    }

    /// A name for the open directory that no link can redirect (proc(5), `/proc/self/fd`).
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    fn sync(&self) -> std::io::Result<()> {
        self.0.sync_all()
    }
}

fn damaged(root: &Root, detail: &str) -> Loaded {
    let aside = Directory::open(root, Path::new(STATE_DIR)).map_err(|e| e.to_string()).and_then(|directory| {
        let from = directory.path().join(NAME);
        std::fs::rename(&from, from.with_extension("json.corrupt")).map_err(|e| e.to_string())
    });
    let kept = match aside {
        Ok(()) => format!("kept as {FILE}.corrupt"),
        Err(e) => format!("left where it is ({e})"),
    };
    let damage = format!(
        "{FILE} cannot be used ({detail}), {kept}; back-off and observe-only are forgotten: look at \
         `certwarden history` before you rely on this node"
    );
    Loaded { state: DaemonState::default(), damage: Some(damage) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    fn some() -> DaemonState {
        DaemonState {
            failures: 2,
            back_off_until: Some(Timestamp::from_second(1_700_000_000).unwrap()),
            last_transaction: Some(LastTransaction {
                id: Some("t".into()),
                ended_at: Timestamp::from_second(1_700_000_000).unwrap(),
                outcome: Outcome::RolledBack,
                reason: "the kubelet did not start".into(),
                renewed: vec!["apiserver".into()],
            }),
            ..DaemonState::default()
        }
    }

    #[test]
    fn a_new_node_has_no_past() {
        let (_dir, root) = tree();
        assert_eq!(DaemonState::load(&root), Loaded::default());
    }

    #[test]
    fn what_is_saved_is_loaded_and_nobody_else_can_read_it() {
        let (_dir, root) = tree();
        some().save(&root).unwrap();
        some().save(&root).unwrap();
        assert_eq!(DaemonState::load(&root), Loaded { state: some(), damage: None });
        let mode = |path: &str| root.metadata(Path::new(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(STATE_DIR), mode(FILE)), (0o700, 0o600));
        assert_eq!(root.list(Path::new(STATE_DIR)).unwrap(), ["state.json"], "nothing is left over");
    }

    #[test]
    fn a_damaged_file_is_kept_aside_and_told_and_stops_nobody() {
        for text in ["", "{", "[]", "{\"schema\":\"certwarden.state/v9\"}", "{\"failures\":\"many\"}"] {
            let (_dir, root) = tree();
            some().save(&root).unwrap();
            std::fs::write(root.on_host(Path::new(FILE)), text).unwrap();
            let loaded = DaemonState::load(&root);
            assert_eq!(loaded.state, DaemonState::default());
            assert!(loaded.damage.unwrap().contains("kept as /var/lib/certwarden/state.json.corrupt"));
            assert_eq!(root.list(Path::new(STATE_DIR)).unwrap(), ["state.json.corrupt"]);
        }
    }

    #[test]
    fn a_link_in_a_mounted_image_does_not_lead_out_of_it() {
        let (dir, root) = tree();
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("var/lib")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("var/lib/certwarden")).unwrap();
        assert!(some().save(&root).is_err(), "the target does not exist below the root");
        let within = dir.path().join(outside.path().strip_prefix("/").unwrap());
        std::fs::create_dir_all(&within).unwrap();
        some().save(&root).unwrap();
        assert!(within.join("state.json").exists());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn every_standing_survives_a_restart_and_errors_that_are_kept_stay() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        for standing in [
            Standing::Free { failures: 3 },
            Standing::BackingOff { failures: 3, until: at },
            Standing::ObserveOnly { since: at, reason: "rollback failed".into() },
        ] {
            let mut state = some();
            state.set_standing(&standing);
            assert_eq!(state.standing(), standing);
        }
        let errors = vec!["first".to_owned(), "second".to_owned()];
        let mut state = some();
        state.observe_only = Some(ObserveOnly { since: at, reason: "r".into(), errors: errors.clone() });
        state.set_standing(&Standing::ObserveOnly { since: at, reason: "r".into() });
        assert_eq!(state.observe_only.unwrap().errors, errors);
    }
}
