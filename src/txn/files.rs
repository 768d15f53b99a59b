//! The live files of a transaction: what is there, its backup, and what is staged in its place.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::host::fs::replace::{Here, Place};
use crate::host::fs::{FsError, Root};
use crate::model::inventory::{Form, Inventory};
use crate::model::ledger::{Attributes, FileRecord, LINK, NOTHING, UNREAD};
use crate::model::places::Places;
use crate::renew::Staged;

use super::dir::TxnDir;

#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("{} has changed since it was backed up: somebody else is at work; run again when they are done", path.display())]
    ChangedMeanwhile { path: PathBuf },
    #[error("the backup of {} is damaged: its SHA-256 is not the recorded one", path.display())]
    BackupDamaged { path: PathBuf },
    #[error("the backup of {} is missing in the state directory", path.display())]
    BackupMissing { path: PathBuf },
    #[error("the staged {} is damaged: its SHA-256 is not the recorded one", path.display())]
    StagedDamaged { path: PathBuf },
    #[error("{} and {} are one file by two paths: give each credential files of its own", path.display(), other.display())]
    OnePlace { path: PathBuf, other: PathBuf },
    #[error("{} is empty and had files: mount its file system", dir.display())]
    NotMounted { dir: PathBuf },
    #[error("{} was not staged", path.display())]
    NotStaged { path: PathBuf },
    #[error(transparent)]
    Fs(#[from] FsError),
}

/// Which files of the inventory are one file by several paths. What leads nowhere is another's question.
pub fn places(root: &Root, inventory: &Inventory) -> Places {
    let mut first: BTreeMap<(u64, u64, OsString), &Path> = BTreeMap::new();
    let mut places = Places::default();
    for path in inventory.entries.iter().flat_map(|e| e.form.files()) {
        let Ok(id) = root.place(path).and_then(|p| p.id()) else { continue };
        match first.entry(id) {
            Entry::Vacant(new) => drop(new.insert(path)),
            Entry::Occupied(known) => places.is(path, known.get()),
        }
    }
    places
}

/// SHA-256, lower-case hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    crate::host::crypto::sha256_hex(bytes)
}

/// What is at a place, as a record has it: the SHA-256 of a file's content, `link:TARGET`, `nothing`; and where the name
/// itself is wanted, `unread` of what cannot be read.
pub(super) fn seen(place: &Place, by_name: bool) -> Result<String, FsError> {
    Ok(match place.here()? {
        Here::Nothing => NOTHING.to_owned(),
        Here::Link(to) => format!("{LINK}{}", to.display()),
        Here::Other if by_name => UNREAD.to_owned(),
        Here::File | Here::Other => match place.read_secret() {
            Err(FsError::NotFound { .. }) => NOTHING.to_owned(),
            Err(_) if by_name => UNREAD.to_owned(),
            read => digest(&read?),
        },
    })
}

/// The place that a record means.
pub(super) fn place_of(root: &Root, record: &FileRecord) -> Result<Place, FsError> {
    if record.by_name { root.place_by_name(&record.path) } else { root.place(&record.path) }
}

/// Whether the directory of every file is there, and something in it: an empty one that had files is a mount point whose file
/// system is not mounted, and what is put there would be hidden by it later.
///
/// # Errors
/// [`FilesError`] of the first that is not.
pub fn reachable(root: &Root, files: &[FileRecord]) -> Result<(), FilesError> {
    for file in files.iter().filter(|f| f.sha256 != NOTHING) {
        place_of(root, file)?;
        let dir = file.path.parent().unwrap_or(&file.path);
        if root.list(dir)?.iter().all(|name| name.starts_with('.')) {
            return Err(FilesError::NotMounted { dir: dir.to_path_buf() });
        }
    }
    Ok(())
}

/// A file of an item as it is now.
struct Present {
    record: FileRecord,
    place: Place,
    /// What is kept of it.
    copy: Option<Zeroizing<Vec<u8>>>,
}

fn present(root: &Root, entry: &str, form: &Form, path: &Path) -> Result<Present, FsError> {
    let mut record = FileRecord {
        path: path.to_path_buf(),
        entry: entry.to_owned(),
        sha256: String::new(),
        attributes: Attributes::default(),
        by_name: form.by_name(),
    };
    let place = place_of(root, &record)?;
    let here = place.here()?;
    record.sha256 = if form.may_be_missing() { seen(&place, record.by_name)? } else { digest(&place.read_secret()?) };
    if record.sha256 == UNREAD {
        return Ok(Present { record, place, copy: None }); // it is kept itself
    }
    if here == Here::File || !form.may_be_missing() {
        record.attributes = place.attributes()?;
    }
    // a link's copy is what it leads to, for whoever wants that back some day
    match root.read_secret(path) {
        Ok(bytes) => Ok(Present { record, place, copy: Some(bytes) }),
        Err(e) if here == Here::File => Err(e),
        Err(_) => Ok(Present { record, place, copy: None }),
    }
}

/// Whether every file of the form could be backed up now.
///
/// # Errors
/// [`FsError`], as [`back_up`] would say.
pub fn foresee(root: &Root, form: &Form) -> Result<(), FsError> {
    form.files().into_iter().try_for_each(|path| present(root, "", form, path).map(drop))
}

/// Copies every file of the forms into the transaction and says what it was. Durable on return.
///
/// # Errors
/// [`FilesError`]; nothing live is touched.
pub fn back_up(root: &Root, dir: &TxnDir, items: &[(&str, &Form)]) -> Result<Vec<FileRecord>, FilesError> {
    let mut records = Vec::new();
    let mut known: BTreeMap<(u64, u64, OsString), PathBuf> = BTreeMap::new();
    for (entry, form) in items {
        for path in form.files() {
            let Present { record, place, copy } = present(root, entry, form, path)?;
            if let Some(other) = known.insert(place.id()?, path.to_path_buf()) {
                return Err(FilesError::OnePlace { path: path.to_path_buf(), other });
            }
            if let Some(bytes) = copy {
                let copy = dir.old(path);
                make_parent(root, &copy)?;
                root.write(&copy, &bytes, 0o600)?;
            }
            records.push(record);
        }
    }
    Ok(records)
}

/// Writes the staged files into the transaction. Durable on return.
///
/// # Errors
/// [`FilesError`].
pub fn keep_staged(root: &Root, dir: &TxnDir, staged: &Staged) -> Result<BTreeMap<PathBuf, String>, FilesError> {
    let to = |(path, to): (&PathBuf, &PathBuf)| (path.clone(), format!("{LINK}{}", to.display()));
    let mut digests: BTreeMap<PathBuf, String> = staged.links.iter().map(to).collect();
    for (path, bytes) in &staged.files {
        let copy = dir.new_file(path);
        make_parent(root, &copy)?;
        root.write(&copy, bytes, 0o600)?;
        digests.insert(path.clone(), digest(bytes));
    }
    Ok(digests)
}

fn make_parent(root: &Root, path: &Path) -> Result<(), FsError> {
    path.parent().map_or(Ok(()), |parent| root.create_dir_all(parent, 0o700))
}

/// Sentences about what cannot be read and has to make room.
pub fn set_aside(root: &Root, dir: &TxnDir, files: &[FileRecord]) -> Vec<String> {
    let unread = files.iter().filter(|f| f.sha256 == UNREAD);
    let aside = |f: &FileRecord| Some((f.path.display().to_string(), place_of(root, f).ok()?.aside(&dir.id)));
    let told = unread.filter_map(aside);
    told.map(|(path, to)| {
        format!("what lies at {path} cannot be read: it makes room as {}, for you to look at", to.display())
    })
    .collect()
}
