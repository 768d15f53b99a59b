//! The ledger on the disk: one JSON record a line, appended and synced **before** the act that it announces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::host::fs::{FsError, Root};
use crate::model::component::Component;
use crate::model::ledger::{FileRecord, Record, SCHEMA, State};

use super::dir::TxnDir;

/// A ledger has some ten records; file lists and attributes make them long, but not this long.
const MAX_LEDGER: u64 = 8 << 20;

/// Space that an open ledger keeps for its last records: a rollback must be announced on a full disk, too. All records
/// behind the first two are some hundred bytes, a reason some thousand.
const RESERVE: i64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("{} is damaged in line {line}; certwarden touches nothing until an operator has looked at it", path.display())]
    Damaged {
        path: PathBuf,
        line: usize,
        #[source]
        source: Option<serde_json::Error>,
    },
    #[error("{} was written by another version of certwarden (schema {schema})", path.display())]
    Schema { path: PathBuf, schema: String },
    #[error("a transaction cannot become {to} when it is {from}")]
    Illegal { from: State, to: State },
    #[error("encode a ledger record")]
    Encode(#[source] serde_json::Error),
    #[error(transparent)]
    Fs(#[from] FsError),
}

/// A transaction's ledger as it is on the disk.
#[derive(Clone, Debug)]
pub struct Ledger {
    dir: TxnDir,
    records: Vec<Record>,
    /// Bytes up to the last whole line.
    whole: u64,
    /// Who drives this process, for what it records.
    by: Option<String>,
}

/// Who begins a transaction. Nobody: a service, which overrides nothing.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    pub by: Option<String>,
    /// Ids of gates.
    pub forced: Vec<String>,
}

impl Ledger {
    /// Opens a transaction: the backups exist and are durable, this record says so.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(
        root: &Root,
        dir: &TxnDir,
        files: Vec<FileRecord>,
        at: Timestamp,
        begun: Begun,
    ) -> Result<Self, LedgerError> {
        let mut ledger = Self { dir: dir.clone(), records: Vec::new(), whole: 0, by: begun.by };
        root.place(&dir.ledger())?.reserve(RESERVE)?;
        ledger.append(root, Record { files, forced: begun.forced, ..record(State::Open, at) })?;
        Ok(ledger)
    }

    /// Reads a ledger. None if there is no whole record in it: then the transaction never began.
    ///
    /// # Errors
    /// [`LedgerError`]. A torn last line (power cut in mid-append) is no damage: its act had not begun.
    pub fn load(root: &Root, dir: &TxnDir) -> Result<Option<Self>, LedgerError> {
        let path = dir.ledger();
        let bytes = match root.read(&path, MAX_LEDGER) {
            Err(FsError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        let (records, whole) = read(&bytes, &path)?;
        Ok(if records.is_empty() {
            None
        } else {
            Some(Self { dir: dir.clone(), records, whole: whole as u64, by: None })
        })
    }

    /// The same, driven by this person from now on.
    #[must_use]
    pub fn driven_by(self, by: Option<String>) -> Self {
        Self { by, ..self }
    }

    /// Whether the file speaks of this state at all: cheaper than to read it, and enough to know that it does not.
    pub fn mentions(root: &Root, dir: &TxnDir, state: State) -> bool {
        let word = format!("\"state\":\"{state}\"");
        let bytes = root.read(&dir.ledger(), MAX_LEDGER).unwrap_or_default();
        bytes.windows(word.len()).any(|w| w == word.as_bytes())
    }

    /// Announces the next state.
    ///
    /// # Errors
    /// [`LedgerError`]; the state is then as before.
    pub fn enter(&mut self, root: &Root, state: State, at: Timestamp, reason: Option<&str>) -> Result<(), LedgerError> {
        self.append(root, Record { reason: reason.map(str::to_owned), ..record(state, at) })
    }

    /// Announces that the staged files are durable and valid.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn staged(
        &mut self,
        root: &Root,
        digests: BTreeMap<PathBuf, String>,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        self.append(root, Record { staged: digests, ..record(State::Staged, at) })
    }

    /// Announces that the new files stay although not all could be proven; `left` has not taken them up yet.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn unproven(
        &mut self,
        root: &Root,
        at: Timestamp,
        reason: &str,
        left: Vec<Component>,
    ) -> Result<(), LedgerError> {
        self.append(root, Record { reason: Some(reason.to_owned()), left, ..record(State::Unproven, at) })
    }

    /// Records that these steps of a recovery failed, so that the next one knows.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn failed(&mut self, root: &Root, at: Timestamp, reason: &str, steps: Vec<String>) -> Result<(), LedgerError> {
        self.append(root, Record { reason: Some(reason.to_owned()), failed: steps, ..record(self.state(), at) })
    }

    /// Whether an earlier recovery has recorded that this step failed, or a rollback that it did.
    pub fn failed_before(&self, step: &str) -> bool {
        self.records.iter().any(|r| r.state == State::RollbackFailed || r.failed.iter().any(|failed| failed == step))
    }

    /// Who has not taken up the new files; None: nobody, as far as is recorded.
    pub fn left(&self) -> Option<Vec<Component>> {
        match self.records.last()? {
            Record { state: State::Unproven, left, .. } => Some(left.clone()),
            // with a reason: 0.1.0's word for what all had taken up and could not be proven
            Record { state: State::Committed, reason: Some(_), .. } => Some(Vec::new()),
            _ => None,
        }
    }

    fn append(&mut self, root: &Root, record: Record) -> Result<(), LedgerError> {
        let record = Record { by: self.by.clone(), ..record };
        if let Some(last) = self.records.last()
            && !last.state.may_become(record.state)
        {
            return Err(LedgerError::Illegal { from: last.state, to: record.state });
        }
        let mut line = serde_json::to_vec(&record).map_err(LedgerError::Encode)?;
        line.push(b'\n');
        root.place(&self.dir.ledger())?.append_line(&line, self.whole)?;
        self.whole += line.len() as u64;
        self.records.push(record); // belief in memory changes after the disk did
        Ok(())
    }

    pub fn dir(&self) -> &TxnDir {
        &self.dir
    }

    pub fn state(&self) -> State {
        self.records.last().map_or(State::Open, |r| r.state)
    }

    pub fn opened_at(&self) -> Option<Timestamp> {
        self.records.first().map(|r| r.at)
    }

    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The live files as they were.
    pub fn files(&self) -> &[FileRecord] {
        self.records.first().map_or(&[], |r| &r.files)
    }

    /// SHA-256 of each staged file by live path; empty before `staged`.
    pub fn digests(&self) -> &BTreeMap<PathBuf, String> {
        static NONE: BTreeMap<PathBuf, String> = BTreeMap::new();
        self.records.iter().find(|r| r.state == State::Staged).map_or(&NONE, |r| &r.staged)
    }
}

/// The records of a ledger's whole lines, and how many bytes those are.
pub(super) fn read(bytes: &[u8], path: &Path) -> Result<(Vec<Record>, usize), LedgerError> {
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let mut records: Vec<Record> = Vec::new();
    for (i, line) in bytes.get(..whole).unwrap_or_default().split_inclusive(|b| *b == b'\n').enumerate() {
        let damaged = |source| LedgerError::Damaged { path: path.into(), line: i + 1, source };
        let record: Record = serde_json::from_slice(line).map_err(|e| damaged(Some(e)))?;
        if record.schema != SCHEMA {
            return Err(LedgerError::Schema { path: path.into(), schema: record.schema });
        }
        let fits = match records.last() {
            None => record.state == State::Open,
            Some(last) => last.state.may_become(record.state),
        };
        if !fits {
            return Err(damaged(None));
        }
        records.push(record);
    }
    Ok((records, whole))
}

fn record(state: State, at: Timestamp) -> Record {
    Record {
        schema: SCHEMA.to_owned(),
        at,
        state,
        files: Vec::new(),
        staged: BTreeMap::new(),
        reason: None,
        left: Vec::new(),
        failed: Vec::new(),
        by: None,
        forced: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::store;

    fn opened() -> (tempfile::TempDir, Root, Ledger) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let txn = store::create(&root, Timestamp::UNIX_EPOCH).unwrap();
        let ledger = Ledger::open(&root, &txn, Vec::new(), Timestamp::UNIX_EPOCH, Begun::default()).unwrap();
        (dir, root, ledger)
    }

    #[test]
    fn a_record_cut_by_a_power_failure_counts_as_never_written() {
        let (_dir, root, mut ledger) = opened();
        ledger.staged(&root, BTreeMap::new(), Timestamp::UNIX_EPOCH).unwrap();
        let path = root.on_host(&ledger.dir().ledger());
        let text = std::fs::read(&path).unwrap();
        for cut in 1..text.len() {
            std::fs::write(&path, &text[..cut]).unwrap();
            let loaded = Ledger::load(&root, ledger.dir()).unwrap();
            let lines = text[..cut].split(|b| *b == b'\n').count() - 1;
            assert_eq!(loaded.map_or(0, |l| l.records().len()), lines, "cut at {cut}");
        }
    }

    #[test]
    fn the_record_after_a_torn_one_is_readable() {
        let (_dir, root, ledger) = opened();
        let path = root.on_host(&ledger.dir().ledger());
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"schema\":\"certw");
        std::fs::write(&path, &text).unwrap();
        let mut again = Ledger::load(&root, ledger.dir()).unwrap().unwrap();
        again.enter(&root, State::Discarded, Timestamp::UNIX_EPOCH, Some("why")).unwrap();
        assert_eq!(Ledger::load(&root, ledger.dir()).unwrap().unwrap().state(), State::Discarded);
    }

    #[test]
    fn a_damaged_ledger_stops_everything_instead_of_being_guessed_at() {
        let (_dir, root, ledger) = opened();
        let path = root.on_host(&ledger.dir().ledger());
        for text in
            ["rubbish\n", "{\"schema\":\"certwarden.ledger/v9\",\"at\":\"2026-01-01T00:00:00Z\",\"state\":\"open\"}\n"]
        {
            std::fs::write(&path, text).unwrap();
            assert!(Ledger::load(&root, ledger.dir()).is_err(), "{text}");
            assert!(store::unfinished(&root).is_err());
        }
    }

    #[test]
    fn a_damaged_ledger_that_is_older_than_a_closed_one_stops_nobody_and_is_removed_in_time() {
        let (_dir, root, damaged) = opened();
        std::fs::write(root.on_host(&damaged.dir().ledger()), "rubbish\n").unwrap();
        let newer = || {
            let txn = store::create(&root, Timestamp::UNIX_EPOCH).unwrap();
            let mut ledger = Ledger::open(&root, &txn, Vec::new(), Timestamp::UNIX_EPOCH, Begun::default()).unwrap();
            ledger.enter(&root, State::Discarded, Timestamp::UNIX_EPOCH, None).unwrap();
            ledger
        };
        assert!(store::unfinished(&root).is_err(), "it may be open");
        newer();
        let kept = |generations| {
            let rules = crate::model::policy::State { generations, ..crate::model::policy::State::default() };
            crate::txn::retention::apply(&root, &rules, None);
        };
        assert_eq!(store::unfinished(&root).unwrap().len(), 0);
        assert_eq!(store::unreadable(&root).unwrap(), [damaged.dir().clone()]);
        kept(1);
        assert_eq!(store::unreadable(&root).unwrap().len(), 1, "kept as long as others");
        kept(0);
        assert_eq!(store::unreadable(&root).unwrap().len(), 0);
        // an open one besides is found
        let damaged = newer();
        newer();
        std::fs::write(root.on_host(&damaged.dir().ledger()), "rubbish\n").unwrap();
        let txn = store::create(&root, Timestamp::UNIX_EPOCH).unwrap();
        Ledger::open(&root, &txn, Vec::new(), Timestamp::UNIX_EPOCH, Begun::default()).unwrap();
        let open = store::unfinished(&root).unwrap();
        assert_eq!(open.iter().map(|(dir, _)| dir.id.clone()).collect::<Vec<_>>(), [txn.id]);
    }

    #[test]
    fn a_transaction_cannot_be_committed_before_it_was_staged() {
        let (_dir, root, mut ledger) = opened();
        let e = ledger.enter(&root, State::Committing, Timestamp::UNIX_EPOCH, None).unwrap_err();
        assert!(matches!(e, LedgerError::Illegal { .. }));
        assert_eq!(ledger.state(), State::Open);
    }
}
