//! New files for old ones and back: prepared beside the live files, then renamed back to back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::host::fs::replace::{Here, Place};
use crate::host::fs::{FsError, Root};
use crate::model::ledger::{Attributes, FileRecord, LINK, NOTHING, UNREAD};

use super::dir::TxnDir;
use super::files::{FilesError, digest, place_of, seen};

/// The words in the names of temporary files beside live ones. The same for every transaction, so that recovery
/// and the next transaction find what a dead one left.
const NEW: &str = "new";
const OLD: &str = "old";

/// Complete, durable files and links beside their targets, ready to be renamed back to back.
#[derive(Debug)]
pub struct Prepared {
    places: Vec<(Place, Act)>,
    tag: &'static str,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Act {
    Rename,
    /// The same after what lies there was moved aside, with that at the end of its name.
    Replace(String),
    /// There was nothing before.
    Remove,
    /// The way back of [`Replace`](Self::Replace).
    BringBack(String),
}

/// Puts the staged files beside the live ones, with the live ones' owner, mode and extended attributes.
///
/// # Errors
/// [`FilesError`]; nothing live is touched, [`sweep`] removes what was made.
pub fn prepare_new(
    root: &Root,
    dir: &TxnDir,
    files: &[FileRecord],
    staged: &BTreeMap<PathBuf, String>,
) -> Result<Prepared, FilesError> {
    prepare(root, dir, files, NEW, |place, file| {
        let not_staged = || FilesError::NotStaged { path: file.path.clone() };
        let wanted = staged.get(&file.path).ok_or_else(not_staged)?;
        if let Some(to) = wanted.strip_prefix(LINK) {
            return Ok(place.link_temp(NEW, Path::new(to))?);
        }
        let bytes = root.read_secret(&dir.new_file(&file.path)).map_err(|e| match e {
            FsError::NotFound { .. } => not_staged(),
            other => FilesError::Fs(other),
        })?;
        if *wanted != digest(&bytes) {
            return Err(FilesError::StagedDamaged { path: file.path.clone() });
        }
        // the time of a new file is now
        let attributes = if is_content(&file.sha256) {
            Attributes { mtime_ns: 0, atime_ns: 0, ..file.attributes.clone() }
        } else {
            own()
        };
        Ok(place.write_temp(NEW, &bytes, &attributes)?)
    })
}

/// Neither a link nor nothing, and it was read.
fn is_content(recorded: &str) -> bool {
    recorded != NOTHING && recorded != UNREAD && !recorded.starts_with(LINK)
}

/// Of a file that was not there: certwarden's owner, and nobody else reads it.
fn own() -> Attributes {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    Attributes { uid, gid, mode: 0o600, ..Attributes::default() }
}

/// Puts the backups beside the live files, with everything they had, times too. Done before the commit, so that the way
/// back is renames alone and needs no space; what is there whole is not written again.
///
/// # Errors
/// [`FilesError`]; a backup that is not what was recorded is never used.
pub fn prepare_old(root: &Root, dir: &TxnDir, files: &[FileRecord]) -> Result<Prepared, FilesError> {
    prepare(root, dir, files, OLD, |place, file| {
        if let Some(to) = file.sha256.strip_prefix(LINK) {
            return Ok(place.link_temp(OLD, Path::new(to))?);
        }
        if !is_content(&file.sha256) || is_whole(place, file) {
            return Ok(());
        }
        let bytes = root.read_secret(&dir.old(&file.path)).map_err(|e| match e {
            FsError::NotFound { .. } => FilesError::BackupMissing { path: file.path.clone() },
            other => FilesError::Fs(other),
        })?;
        if digest(&bytes) != file.sha256 {
            return Err(FilesError::BackupDamaged { path: file.path.clone() });
        }
        Ok(place.write_temp(OLD, &bytes, &file.attributes)?)
    })
}

fn prepare(
    root: &Root,
    dir: &TxnDir,
    files: &[FileRecord],
    tag: &'static str,
    mut put_beside: impl FnMut(&Place, &FileRecord) -> Result<(), FilesError>,
) -> Result<Prepared, FilesError> {
    let mut places = Vec::new();
    for file in files {
        let place = place_of(root, file)?;
        place.replaceable()?;
        put_beside(&place, file)?;
        let act = match file.sha256.as_str() {
            NOTHING if tag == OLD => Act::Remove,
            UNREAD if tag == OLD => Act::BringBack(dir.id.clone()),
            UNREAD => Act::Replace(dir.id.clone()),
            _ => Act::Rename,
        };
        places.push((place, act));
    }
    Ok(Prepared { places, tag })
}

/// Whether the old file lies beside its place with everything it had. The time of the last access is nobody's promise.
fn is_whole(place: &Place, file: &FileRecord) -> bool {
    let Ok(beside) = place.beside(OLD) else { return false };
    let (Ok(bytes), Ok(has)) = (beside.read_secret(), beside.attributes()) else { return false };
    let wants = &file.attributes;
    let same = (has.uid, has.gid, has.mode, has.mtime_ns) == (wants.uid, wants.gid, wants.mode, wants.mtime_ns);
    same && wants.xattrs.iter().all(|(name, value)| has.xattrs.get(name) == Some(value))
        && digest(&bytes) == file.sha256
}

impl Prepared {
    /// Whether every live file is still the one that was backed up; seen through the directories that the renames will
    /// go through, so that nobody can show another file here than is replaced there.
    ///
    /// # Errors
    /// [`FilesError::ChangedMeanwhile`] names the first that is not; one that cannot be read is an error, too.
    pub fn unchanged(&self, files: &[FileRecord]) -> Result<(), FilesError> {
        for ((place, _), file) in self.places.iter().zip(files) {
            match seen(place, file.by_name) {
                Ok(live) if live == file.sha256 => {}
                Ok(_) | Err(FsError::NotFound { .. }) => {
                    return Err(FilesError::ChangedMeanwhile { path: file.path.clone() });
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// All renames back to back, then what goes away, so that no link leads to nothing; then every directory synced once.
    ///
    /// # Errors
    /// [`FilesError`]; some live files may then be replaced and others not.
    pub fn put_in_place(self) -> Result<(), FilesError> {
        for (place, act) in &self.places {
            match act {
                Act::Rename => place.rename_temp(self.tag)?,
                Act::Replace(aside) => {
                    // a commit that is completed finds its own link here
                    if !matches!(place.here()?, Here::Link(_)) {
                        place.move_aside(aside)?;
                    }
                    place.rename_temp(self.tag)?;
                }
                Act::BringBack(aside) => place.bring_back(aside)?,
                Act::Remove => {}
            }
        }
        for (place, _) in self.places.iter().filter(|(_, act)| *act == Act::Remove) {
            place.remove()?;
        }
        let mut synced = BTreeSet::new();
        for (place, _) in &self.places {
            if synced.insert(place.dir_id()?) {
                place.sync_dir()?;
            }
        }
        Ok(())
    }
}

/// Removes what a preparation left beside the live files. Goes through all, and reports the first failure.
///
/// # Errors
/// [`FilesError`].
pub fn sweep(root: &Root, files: &[FileRecord]) -> Result<(), FilesError> {
    remove(root, files, &[NEW, OLD])
}

/// The same, less the way back: of a rollback that failed, which a second try may have no other room for.
///
/// # Errors
/// [`FilesError`].
pub fn sweep_new(root: &Root, files: &[FileRecord]) -> Result<(), FilesError> {
    remove(root, files, &[NEW])
}

fn remove(root: &Root, files: &[FileRecord], tags: &[&str]) -> Result<(), FilesError> {
    let mut first = Ok(());
    for file in files {
        for tag in tags {
            let swept = place_of(root, file).and_then(|p| p.remove_temp(tag));
            if first.is_ok() {
                first = swept;
            }
        }
    }
    Ok(first?)
}

/// Puts every live file back that the transaction replaced; the others are left alone.
///
/// A file that is neither the old nor the staged one was written by somebody else since. It stays if all files
/// of its entry are such (a whole pair renewed by hand), and is put back otherwise: a key that does not fit its
/// certificate helps nobody. A link that leads elsewhere by now is whole by itself and stays, too.
///
/// # Errors
/// [`FilesError`].
pub fn put_back(
    root: &Root,
    dir: &TxnDir,
    files: &[FileRecord],
    staged: &BTreeMap<PathBuf, String>,
) -> Result<Vec<String>, FilesError> {
    let live: Vec<Option<String>> = files
        .iter()
        .map(|f| place_of(root, f).and_then(|p| seen(&p, f.by_name)).ok().filter(|s| s != NOTHING || f.by_name))
        .collect();
    // between being moved aside and the link in its place there is nothing
    let moved = |f: &FileRecord, now: &str| f.sha256 == UNREAD && now == NOTHING;
    let is_foreign = |f: &FileRecord, now: &Option<String>| {
        now.as_ref().is_some_and(|d| *d != f.sha256 && staged.get(&f.path) != Some(d) && !moved(f, d))
    };
    let mut whole_foreign: BTreeMap<&str, bool> = BTreeMap::new();
    for (file, now) in files.iter().zip(&live) {
        *whole_foreign.entry(&file.entry).or_insert(true) &= is_foreign(file, now);
    }
    let stays = |entry: &str| whole_foreign.get(entry).copied().unwrap_or(false);
    let notes = whole_foreign
        .iter()
        .filter(|(_, foreign)| **foreign)
        .map(|(entry, _)| format!("{entry} was replaced by somebody else meanwhile and was left as it is"))
        .collect();
    let wanted: Vec<FileRecord> = files
        .iter()
        .zip(&live)
        .filter(|(f, now)| now.as_ref() != Some(&f.sha256) && !stays(&f.entry))
        .filter(|(f, now)| !(f.by_name && is_foreign(f, now)))
        .map(|(f, _)| f.clone())
        .collect();
    prepare_old(root, dir, &wanted)?.put_in_place()?;
    sweep(root, files)?;
    Ok(notes)
}
