//! Copies of a renewed kubeconfig, refreshed when the renewal is proven.
//!
//! Last, so that a rollback has nothing to undo here: until then the copies hold what still works. A copy can lie in a
//! directory of somebody who would like to be root. He gains nothing: no link is followed to it; content, owner and mode are
//! those of one opened file; what is written goes only to who held the old identity, key included, in that very file;
//! and whatever he does to it, the transaction does not fail.

use std::path::Path;

use zeroize::Zeroizing;

use crate::host::fs::{FsError, Root};
use crate::model::cause::chain;
use crate::model::inventory::Copy;
use crate::model::kubeconfig;
use crate::model::ledger::Attributes;

use crate::txn::run::Run;
use crate::txn::story;

/// The word in the name of the temporary file beside a copy.
const TAG: &str = "new";

/// Refreshes each copy that still holds what `original` held before this transaction. Failures are notes.
pub fn refresh(run: &mut Run<'_>, original: &Path, copies: &[Copy]) {
    let root = &run.context.host.root;
    let texts = text(root.read_secret(&run.dir.old(original))).zip(text(root.read_secret(original)));
    let Some((old, new)) = texts else {
        run.report.notes.push(format!("the copies of {} were not refreshed: it cannot be read", original.display()));
        return;
    };
    for copy in copies {
        let path = copy.path.display();
        match replace(root, copy, &old, &new) {
            Ok(true) => {
                story::refreshed(&run.dir.id, &copy.path, original);
                run.report.notes.push(format!("{path}, a copy of {}, was refreshed too", original.display()));
            }
            Ok(false) => {}
            Err(e) => {
                let why = why_not(&copy.path, &e);
                story::not_refreshed(&run.dir.id, &copy.path, &why);
                run.report.notes.push(format!("{path} was not refreshed: {why}; copy {} over it", original.display()));
            }
        }
    }
}

/// The directory that certwarden.service may write in beside those of kubeadm, if it is there when the service starts.
const ROOTS: &str = "/root/.kube";

fn why_not(path: &Path, e: &FsError) -> String {
    match e {
        // a mount cannot be made of what is not there yet, and to let the service write all of /root would be too much
        FsError::ReadOnly { .. } if path.parent() == Some(Path::new(ROOTS)) => {
            format!("{e}; {ROOTS} was made after certwarden was started, and is writable from its next start on")
        }
        FsError::ReadOnly { .. } => format!("{e}; add `ReadWritePaths=` with its directory to certwarden.service"),
        e => chain(e),
    }
}

fn text(bytes: Result<Zeroizing<Vec<u8>>, FsError>) -> Option<Zeroizing<String>> {
    let bytes = bytes.ok()?;
    std::str::from_utf8(&bytes).ok().map(|t| Zeroizing::new(t.to_owned()))
}

/// Whether the copy held `old` and holds `new` now.
fn replace(root: &Root, copy: &Copy, old: &str, new: &str) -> Result<bool, FsError> {
    let place = root.place_without_links(&copy.path)?;
    let seen = place.look()?;
    let fresh = std::str::from_utf8(&seen.bytes).ok().and_then(|t| kubeconfig::refreshed(t, old, new, copy.told));
    let Some(fresh) = fresh else { return Ok(false) };
    // set-id bits on a kubeconfig have no meaning, and its owner set them
    let attributes = Attributes { mode: seen.attributes.mode & 0o777, mtime_ns: 0, atime_ns: 0, ..seen.attributes };
    let put = place.write_temp(TAG, fresh.as_bytes(), &attributes).and_then(|()| place.rename_temp(TAG));
    put.inspect_err(|_| {
        let _ = place.remove_temp(TAG); // the first error is the one to report
    })?;
    place.sync_dir()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    const OLD: &str = "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {}}]\n\
                       users: [{name: u, user: {client-certificate-data: T0xEIENFUlQ=, client-key-data: T0xEIEtFWQ==}}]\n";

    fn new() -> String {
        OLD.replace("T0xEIENFUlQ=", "TkVX").replace("T0xEIEtFWQ==", "S0VZ")
    }

    struct Home(tempfile::TempDir, Root);

    impl Home {
        fn with(content: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("home/eve/.kube")).unwrap();
            fs::create_dir_all(dir.path().join("root/.kube")).unwrap();
            fs::write(dir.path().join("home/eve/.kube/config"), content).unwrap();
            fs::write(dir.path().join("root/.kube/config"), OLD).unwrap();
            let root = Root::open(dir.path()).unwrap();
            Self(dir, root)
        }

        fn path(&self, below: &str) -> std::path::PathBuf {
            self.0.path().join(below)
        }

        fn refresh(&self, told: bool) -> Result<bool, FsError> {
            replace(&self.1, &Copy { path: "/home/eve/.kube/config".into(), told }, OLD, &new())
        }

        fn content(&self) -> String {
            fs::read_to_string(self.path("home/eve/.kube/config")).unwrap()
        }
    }

    #[test]
    fn an_identical_copy_is_refreshed_with_owner_and_mode_and_only_once() {
        let home = Home::with(OLD);
        let path = home.path("home/eve/.kube/config");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
        }
        let before = fs::metadata(&path).unwrap();
        assert!(home.refresh(false).unwrap());
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
        assert_eq!(home.content(), new());
        assert!(!home.refresh(false).unwrap(), "it is no copy of the old one any more");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file is left over");
    }

    #[test]
    fn a_copy_with_changes_of_its_owner_is_refreshed_only_if_we_are_told_of_it_and_keeps_them() {
        let own = OLD.replace("cluster: {}", "cluster: {server: https://vip}");
        let home = Home::with(&own);
        assert!(!home.refresh(false).unwrap());
        assert_eq!(home.content(), own);
        assert!(home.refresh(true).unwrap());
        assert_eq!(home.content(), new().replace("cluster: {}", "cluster: {server: https://vip}"));
    }

    #[test]
    fn who_does_not_hold_the_old_key_gets_no_new_one() {
        // the certificate is no secret
        let without_key = OLD.replace("T0xEIEtFWQ==", "QU5PVEhFUg==");
        for told in [false, true] {
            let home = Home::with(&without_key);
            assert!(!home.refresh(told).unwrap());
            assert_eq!(home.content(), without_key);
        }
    }

    #[test]
    fn a_directory_that_the_sandbox_does_not_know_is_told_with_what_to_do() {
        let error = |path: &str| FsError::ReadOnly { action: "replace", path: path.into() };
        for (path, remedy) in [
            ("/root/.kube/config", "made after certwarden was started, and is writable from its next start on"),
            ("/home/eve/.kube/config", "add `ReadWritePaths=` with its directory"),
        ] {
            let why = why_not(Path::new(path), &error(path));
            assert!(why.contains(remedy), "{why}");
        }
    }

    #[test]
    fn no_link_leads_to_or_from_a_copy() {
        type Plant = fn(&Home);
        let plants: [(&str, Plant); 3] = [
            ("the file", |home| {
                fs::remove_file(home.path("home/eve/.kube/config")).unwrap();
                symlink("/root/.kube/config", home.path("home/eve/.kube/config")).unwrap();
            }),
            ("its directory", |home| {
                fs::remove_dir_all(home.path("home/eve/.kube")).unwrap();
                symlink("/root/.kube", home.path("home/eve/.kube")).unwrap();
            }),
            ("the file, a hard one", |home| {
                fs::remove_file(home.path("home/eve/.kube/config")).unwrap();
                fs::hard_link(home.path("root/.kube/config"), home.path("home/eve/.kube/config")).unwrap();
            }),
        ];
        for (what, plant) in plants {
            let home = Home::with(OLD);
            plant(&home);
            let e = home.refresh(true).unwrap_err();
            assert!(matches!(e, FsError::LinkOnTheWay { .. } | FsError::SeveralNames { .. }), "{what}: {e}");
            assert_eq!(fs::read_to_string(home.path("root/.kube/config")).unwrap(), OLD, "{what}");
        }
    }

    #[test]
    fn a_temporary_name_that_was_planted_is_replaced_and_not_written_through() {
        let home = Home::with(OLD);
        fs::write(home.path("root/bystander"), "mine").unwrap();
        symlink("/root/bystander", home.path("home/eve/.kube/.config.certwarden-new")).unwrap();
        assert!(home.refresh(false).unwrap());
        assert_eq!(fs::read_to_string(home.path("root/bystander")).unwrap(), "mine");
        assert_eq!(home.content(), new());
    }

    #[test]
    fn a_fifo_in_a_copy_s_place_is_an_error_and_does_not_block() {
        let home = Home::with(OLD);
        let path = home.path("home/eve/.kube/config");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(home.refresh(true), Err(FsError::NotAFile { .. })));
    }
}
