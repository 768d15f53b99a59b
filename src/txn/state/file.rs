//! The file `state.json`: read without a side effect, changed by one writer at a time.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{DaemonState, SCHEMA, STATE_DIR};
use crate::host::fs::{FsError, Root};
use crate::model::cause::chain;

const FILE: &str = "/var/lib/certwarden/state.json";
const NAME: &str = "state.json";
/// A damaged one: one generation is enough, it is for a person who looks soon.
const ASIDE: &str = "state.json.corrupt";
/// A few hundred bytes in truth; errors are bounded sentences.
const MAX_STATE: u64 = 1 << 20;
/// How long another writer is waited for: it holds the lock for the time of one small file's fsync, and the daemon's
/// watchdog must not wait for a process that is stopped.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// What [`DaemonState::load`] found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// That of a new node, if the file could not be used.
    pub state: DaemonState,
    pub damage: Option<Damage>,
}

/// Why `state.json` is of no use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Damage {
    /// The disk or the directory does not answer; what the file says may be well.
    #[error(
        "{FILE} cannot be read ({0}): what is remembered is not known, and nothing is written over it; check the disk below {STATE_DIR}"
    )]
    Unreadable(String),
    /// It was read, and is not what was written.
    #[error(
        "{FILE} cannot be used ({0}) and is kept as {FILE}.corrupt at the next change; back-off and observe-only are \
         forgotten: check `certwarden history` before you rely on this node"
    )]
    Malformed(String),
}

/// Why a change could not be made durable. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Unreadable(Damage),
    #[error("another certwarden keeps {STATE_DIR} locked")]
    Busy,
    #[error("change {FILE}")]
    Fs(#[from] FsError),
}

impl DaemonState {
    /// Reads, and changes nothing. Never fails: no file is a new node; whoever decides by the answer also tells the damage.
    pub fn load(root: &Root) -> Loaded {
        let damaged = |damage| Loaded { state: Self::default(), damage: Some(damage) };
        let bytes = match root.read(Path::new(FILE), MAX_STATE) {
            Ok(bytes) => bytes,
            Err(FsError::NotFound { .. }) => return Loaded::default(),
            Err(e @ (FsError::TooLarge { .. } | FsError::NotAFile { .. } | FsError::Dangling { .. })) => {
                return damaged(Damage::Malformed(e.to_string()));
            }
            Err(e) => return damaged(Damage::Unreadable(chain(&e))),
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(state) if state.schema == SCHEMA => Loaded { state, damage: None },
            Ok(state) => damaged(Damage::Malformed(format!("schema is `{}` and not `{SCHEMA}`", state.schema))),
            Err(e) => damaged(Damage::Malformed(e.to_string())),
        }
    }

    /// As [`load`](Self::load); damage is logged.
    pub fn load_and_warn(root: &Root) -> Self {
        let Loaded { state, damage } = Self::load(root);
        if let Some(damage) = damage {
            tracing::warn!("{damage}");
        }
        state
    }

    /// Changes what is on the disk now, whoever wrote it; returns what is there then. No other writer comes in between.
    /// Durable when it returns: temporary file in the same directory, fsync, rename, fsync of the directory.
    /// A malformed file is kept aside first; over one that cannot be read nothing is written.
    ///
    /// # Errors
    /// [`StateError`]; the old file is then untouched.
    pub fn change(root: &Root, change: impl FnOnce(&mut Self)) -> Result<Self, StateError> {
        let directory = Directory::open_or_make(root)?;
        directory.lock()?;
        let Loaded { mut state, damage } = Self::load(root);
        match damage {
            None => {}
            Some(damage @ Damage::Unreadable(_)) => return Err(StateError::Unreadable(damage)),
            Some(damage @ Damage::Malformed(_)) => {
                tracing::warn!("{damage}");
                let aside = std::fs::rename(directory.path().join(NAME), directory.path().join(ASIDE));
                aside.map_err(|e| FsError::new("keep aside", Path::new(FILE), e))?;
            }
        }
        change(&mut state);
        directory.write(&state)?;
        Ok(state)
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
                    match made {
                        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                            return Err(FsError::new("create", &path, e));
                        }
                        _ => Self::open(root, &path)?,
                    }
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

    /// Until it is dropped, or its process is dead (flock(2); of the directory, so that there is no file more).
    fn lock(&self) -> Result<(), StateError> {
        let began = Instant::now();
        loop {
            match self.0.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_RETRY),
                Err(TryLockError::WouldBlock) => return Err(StateError::Busy),
                Err(TryLockError::Error(e)) => return Err(FsError::new("lock", Path::new(STATE_DIR), e).into()),
            }
        }
    }

    fn write(&self, state: &DaemonState) -> Result<(), FsError> {
        let fail = |action| move |e| FsError::new(action, Path::new(FILE), e);
        let json = serde_json::to_vec_pretty(state).map_err(|e| fail("encode")(e.into()))?;
        // mode 0600 by mkstemp
        let file = tempfile::Builder::new().prefix(".state.json.").tempfile_in(self.path());
        let mut file = file.map_err(fail("create"))?;
        file.write_all(&json).map_err(fail("write"))?;
        file.as_file().sync_all().map_err(fail("fsync"))?;
        file.persist(self.path().join(NAME)).map_err(|e| fail("replace")(e.error))?;
        self.0.sync_all().map_err(fail("fsync the directory of"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jiff::Timestamp;

    use super::*;
    use crate::model::report::Outcome;
    use crate::txn::state::LastTransaction;

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

    fn save(root: &Root) -> Result<DaemonState, StateError> {
        DaemonState::change(root, |state| *state = some())
    }

    #[test]
    fn a_new_node_has_no_past() {
        let (_dir, root) = tree();
        assert_eq!(DaemonState::load(&root), Loaded::default());
    }

    #[test]
    fn what_is_saved_is_loaded_and_nobody_else_can_read_it() {
        let (_dir, root) = tree();
        save(&root).unwrap();
        save(&root).unwrap();
        assert_eq!(DaemonState::load(&root), Loaded { state: some(), damage: None });
        let mode = |path: &str| root.metadata(Path::new(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(STATE_DIR), mode(FILE)), (0o700, 0o600));
        assert_eq!(root.list(Path::new(STATE_DIR)).unwrap(), ["state.json"], "nothing is left over");
    }

    #[test]
    fn reading_a_damaged_file_changes_nothing_and_the_next_change_keeps_it_aside() {
        for text in ["", "{", "[]", "{\"schema\":\"certwarden.state/v9\"}", "{\"failures\":\"many\"}"] {
            let (_dir, root) = tree();
            save(&root).unwrap();
            std::fs::write(root.on_host(Path::new(FILE)), text).unwrap();
            for _ in 0..2 {
                let loaded = DaemonState::load(&root);
                assert_eq!(loaded.state, DaemonState::default());
                assert!(matches!(loaded.damage, Some(Damage::Malformed(_))), "{:?}", loaded.damage);
            }
            assert_eq!(std::fs::read_to_string(root.on_host(Path::new(FILE))).unwrap(), text);
            save(&root).unwrap();
            assert_eq!(DaemonState::load(&root), Loaded { state: some(), damage: None });
            assert_eq!(std::fs::read_to_string(root.on_host(Path::new(STATE_DIR)).join(ASIDE)).unwrap(), text);
        }
    }

    #[test]
    fn over_a_file_that_cannot_be_read_nothing_is_written() {
        let (_dir, root) = tree();
        save(&root).unwrap();
        let file = root.on_host(Path::new(FILE));
        std::fs::remove_file(&file).unwrap();
        // ELOOP: an error of reading, as EIO is, that root gets as well
        std::os::unix::fs::symlink("state.json", &file).unwrap();
        assert!(matches!(DaemonState::load(&root).damage, Some(Damage::Unreadable(_))));
        let told = save(&root).unwrap_err().to_string();
        assert!(told.contains("cannot be read") && told.contains("nothing is written over it"), "{told}");
        assert_eq!(root.list(Path::new(STATE_DIR)).unwrap(), ["state.json"]);
        assert!(file.is_symlink(), "it is as it was");
    }

    #[test]
    fn of_many_writers_none_undoes_what_another_has_written() {
        let (_dir, root) = tree();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        DaemonState::change(&root, |state| state.failures += 1).unwrap();
                    }
                });
            }
        });
        assert_eq!(DaemonState::load(&root).state.failures, 200);
    }

    #[test]
    fn a_link_in_a_mounted_image_does_not_lead_out_of_it() {
        let (dir, root) = tree();
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("var/lib")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("var/lib/certwarden")).unwrap();
        assert!(save(&root).is_err(), "the target does not exist below the root");
        let within = dir.path().join(outside.path().strip_prefix("/").unwrap());
        std::fs::create_dir_all(&within).unwrap();
        save(&root).unwrap();
        assert!(within.join("state.json").exists());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
