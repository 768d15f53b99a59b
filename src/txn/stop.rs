//! Why a run does not go on, and whether that may pass by itself.

use std::error::Error;

use nix::errno::Errno;

use super::files::FilesError;
use super::ledger::LedgerError;
use crate::host::cri::CriError;
use crate::host::fs::FsError;
use crate::host::systemd::SystemdError;
use crate::model::cause::chain;
use crate::verify::unit::UnitUnproven;

/// Why a run does not go on.
#[derive(Debug)]
pub enum Stop {
    /// A sentence: what failed and why.
    Failed(String),
    /// The same, and it may pass without anybody's doing: a disk that does not answer, a mount that is not there yet, a
    /// container runtime that is starting. A renewal is rolled back for it; a recovery is tried again.
    Passing(String),
    /// SIGTERM, or the machine is going down.
    Asked,
    /// A sentence: all is done and proven, and the ledger took no record of it. Nothing is wrong with the node.
    Unrecorded(String),
}

impl Stop {
    pub fn sentence(self) -> String {
        match self {
            Self::Failed(why) | Self::Passing(why) | Self::Unrecorded(why) => why,
            Self::Asked => "stopped".to_owned(),
        }
    }
}

impl<E: Error + 'static> From<E> for Stop {
    fn from(e: E) -> Self {
        let why = chain(&e);
        if may_pass(&e) { Self::Passing(why) } else { Self::Failed(why) }
    }
}

fn may_pass(e: &(dyn Error + 'static)) -> bool {
    let fs = e.downcast_ref().is_some_and(file_may_pass);
    let files = match e.downcast_ref() {
        Some(FilesError::Fs(e)) => file_may_pass(e),
        Some(FilesError::NotMounted { .. }) => true,
        _ => false,
    };
    let ledger = matches!(e.downcast_ref(), Some(LedgerError::Fs(e)) if file_may_pass(e));
    let runtime = matches!(e.downcast_ref(), Some(CriError::Connect { .. } | CriError::TimedOut { .. }));
    let systemd = matches!(e.downcast_ref(), Some(SystemdError::TimedOut { .. } | SystemdError::Unreachable { .. }));
    let unit = matches!(e.downcast_ref(), Some(UnitUnproven::CannotTell { .. }));
    fs || files || ledger || runtime || systemd || unit
}

/// A directory that is missing is a file system that is not mounted, as far as anybody can tell; a file that the state
/// directory should hold is told by errors of its own ([`FilesError`]).
fn file_may_pass(e: &FsError) -> bool {
    match e {
        FsError::NotFound { .. } | FsError::Dangling { .. } | FsError::ReadOnly { .. } | FsError::NoSpace { .. } => {
            true
        }
        FsError::Io { source, .. } => source.raw_os_error().map(Errno::from_raw).is_some_and(|errno| {
            matches!(
                errno,
                // the disk or its bus, a file server, too little memory or too many open files: errno(3)
                Errno::EIO
                    | Errno::ENXIO
                    | Errno::ENODEV
                    | Errno::ESTALE
                    | Errno::EREMOTEIO
                    | Errno::ENOTCONN
                    | Errno::EHOSTDOWN
                    | Errno::ETIMEDOUT
                    | Errno::EBUSY
                    | Errno::EAGAIN
                    | Errno::EINTR
                    | Errno::ENOMEM
                    | Errno::EMFILE
                    | Errno::ENFILE
            )
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn passes(e: impl Error + 'static) -> bool {
        matches!(Stop::from(e), Stop::Passing(_))
    }

    #[test]
    fn what_may_pass_by_itself_is_known_through_every_layer_and_what_needs_a_person_is_not_taken_for_it() {
        let fs = |errno| FsError::new("open", Path::new("/var/lib/kubelet/pki"), errno);
        for errno in [Errno::EIO, Errno::EROFS, Errno::ENOENT, Errno::ENOSPC, Errno::EDQUOT, Errno::ESTALE] {
            assert!(passes(fs(errno)), "{errno}");
            assert!(passes(FilesError::Fs(fs(errno))), "{errno}");
            assert!(passes(LedgerError::Fs(fs(errno))), "{errno}");
        }
        for errno in [Errno::EISDIR, Errno::ENOTEMPTY, Errno::EACCES, Errno::EXDEV, Errno::ELOOP] {
            assert!(!passes(FilesError::Fs(fs(errno))), "{errno}");
        }
        assert!(!passes(FilesError::BackupDamaged { path: "/a".into() }));
        assert!(!passes(FilesError::BackupMissing { path: "/a".into() }));
        let limit = std::time::Duration::from_secs(1);
        assert!(passes(CriError::TimedOut { what: "list containers", limit }));
        assert!(!passes(CriError::Call { what: "stop a container", detail: "no".into() }));
        assert!(passes(SystemdError::Unreachable { detail: "no".into() }));
        assert!(!passes(SystemdError::Masked { unit: "kubelet.service".into() }));
    }
}
