//! The gate `kubelet-binary`: whether a restart of the kubelet would be an upgrade.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::host::Host;
use crate::host::process;
use crate::host::systemd::UnitStatus;
use crate::model::gate::{Gate, Refusal};
use crate::model::inventory::Inventory;
use crate::model::program::{FileId, Started, Times};

use super::processes::started;
use super::refusal;

/// The kubelet's program of its last start that was seen.
pub const REMEMBERED: &str = "/var/lib/certwarden/kubelet-program.json";
const MAX_REMEMBERED: u64 = 1 << 14;

/// A kubelet whose file was replaced since it started. The kernel marks such a process's executable (proc_pid_exe(5)),
/// but shows it only to those who may trace it; a sandboxed daemon compares the file with what it was before.
pub(in crate::verify) fn kubelet_binary(host: &Host, inventory: &Inventory) -> Option<Refusal> {
    let name = &inventory.node.kubelet.unit;
    let unit = host.services.status(name).ok().filter(|s| s.main_pid != 0)?;
    let replaced = match exe(host, unit.main_pid) {
        Some(exe) => is_deleted_kubelet(host, unit.main_pid, &exe),
        None => is_replaced(host, &unit)?,
    };
    replaced.then(|| {
        let reason = "the kubelet that runs is not the one on the disk: a restart would be an upgrade";
        refusal(Gate::KubeletBinary, reason, format!("restart {name} when you mean to, then run again"))
    })
}

/// What is to be remembered of the kubelet's present start, if nothing is yet and its file is still the one that was started.
pub fn to_remember(host: &Host, inventory: &Inventory) -> Option<Started> {
    let unit = host.services.status(&inventory.node.kubelet.unit).ok().filter(|s| s.main_pid != 0)?;
    if remembered(host, &unit).is_some() {
        return None;
    }
    let path = program(host, unit.main_pid)?;
    let file = host.root.metadata(&path).ok()?;
    let replaced = times(&file).after(started(host, unit.main_pid)?);
    (!replaced).then(|| {
        let sha256 = process::sha256(&host.root, &path).ok()?;
        let id = id(&file);
        // it may have been replaced meanwhile
        let same = host.root.metadata(&path).is_ok_and(|now| self::id(&now) == id);
        same.then_some(Started { invocation: unit.invocation_id, pid: unit.main_pid, path, file: id, sha256 })
    })?
}

fn exe(host: &Host, pid: u32) -> Option<PathBuf> {
    host.root.read_link(&PathBuf::from(format!("/proc/{pid}/exe"))).ok()
}

/// A file that was replaced by one with the same content (an installation again, ostree) is no other kubelet.
fn is_deleted_kubelet(host: &Host, pid: u32, exe: &Path) -> bool {
    let text = exe.to_string_lossy();
    let Some(path) = text.strip_suffix(" (deleted)").map(Path::new).filter(|path| is_kubelet(path)) else {
        return false;
    };
    let digest = |path: &Path| process::sha256(&host.root, path).ok();
    let runs = digest(&PathBuf::from(format!("/proc/{pid}/exe")));
    runs.is_none() || runs != digest(path)
}

fn is_replaced(host: &Host, unit: &UnitStatus) -> Option<bool> {
    let path = program(host, unit.main_pid)?;
    let file = host.root.metadata(&path).ok()?;
    Some(match remembered(host, unit).filter(|known| known.path == path) {
        Some(known) => known.replaced(id(&file), || process::sha256(&host.root, &path).ok()),
        None => times(&file).after(started(host, unit.main_pid)?),
    })
}

fn remembered(host: &Host, unit: &UnitStatus) -> Option<Started> {
    let bytes = host.root.read(Path::new(REMEMBERED), MAX_REMEMBERED).ok()?;
    let known: Started = serde_json::from_slice(&bytes).ok()?;
    known.is_of(&unit.invocation_id, unit.main_pid).then_some(known)
}

fn id(file: &Metadata) -> FileId {
    FileId { device: file.dev(), inode: file.ino(), size: file.len(), modified: (file.mtime(), file.mtime_nsec()) }
}

/// By ctime where there is no time of birth: nobody can set it.
fn times(file: &Metadata) -> Times {
    let born = file.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Times { born: born.and_then(|at| i64::try_from(at.as_secs()).ok()), changed: file.ctime() }
}

/// The kubelet's file as its process was started by: systemd says the whole path (systemd.service(5) "Command lines").
/// None where the unit's process is a script that starts the kubelet: then it is the shell's file.
fn program(host: &Host, pid: u32) -> Option<PathBuf> {
    let line = host.root.read(&PathBuf::from(format!("/proc/{pid}/cmdline")), 1 << 16).ok()?;
    let program = PathBuf::from(OsStr::from_bytes(line.split(|b| *b == 0).next()?));
    (program.is_absolute() && is_kubelet(&program)).then_some(program)
}

/// Also `kubelet-1.34` and its like.
fn is_kubelet(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name.as_bytes().starts_with(b"kubelet"))
}

#[cfg(test)]
mod tests;
