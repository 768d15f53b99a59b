//! The copy of the node's files that kubeadm gets to see: kubeconfigs and certificates, nothing else.
//!
//! `certs renew` reads `certificatesDir` and the kubeconfigs directly below `/etc/kubernetes` (kubernetes:
//! `cmd/kubeadm/app/phases/certs/renewal/manager.go:NewManager`); manifests, `tmp/` with its backups and whatever
//! else lies there is left out. Nothing in the copy leads to a live file: a link out of it becomes the file it
//! leads to, and a directory that is linked to from inside is copied and covered itself.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Order, StagingError, make_dir, read_bounded};
use crate::host::fs::MAX_FILE;

/// Larger trees are not certificates. Half of the tmpfs.
const MAX_BYTES: u64 = 32 << 20;
const MAX_FILES: usize = 4096;

/// A live directory and its copy.
#[derive(Debug)]
struct Area {
    live: PathBuf,
    copy: PathBuf,
}

/// All that has been copied.
#[derive(Debug, Default)]
pub(super) struct Copies {
    areas: Vec<Area>,
    /// Directories that are copied with everything in them.
    whole: Vec<PathBuf>,
    /// Linked-to directories that have still to be copied.
    pending: Vec<PathBuf>,
    bytes: u64,
    files: usize,
}

impl Copies {
    /// Copies what the order needs below `stage`.
    pub(super) fn make(order: &Order, stage: &Path) -> Result<Self, StagingError> {
        let real = |path: &Path| fs::canonicalize(path).map_err(StagingError::io("find", path));
        let kubernetes = real(&order.kubernetes_dir)?;
        let pki = real(&order.pki_dir)?;
        let mut all = Self::default();
        let pki_copy = all.area_for(&pki, &kubernetes, stage)?;
        if all.areas.iter().all(|a| a.live != kubernetes) {
            all.new_area(&kubernetes, stage)?;
        }
        all.whole.push(pki.clone());
        all.tree(&pki, &pki_copy)?;
        all.kubeconfigs(&kubernetes)?;
        while let Some(dir) = all.pending.pop() {
            let copy = all.area_for(&dir, &kubernetes, stage)?;
            all.tree(&dir, &copy)?;
        }
        Ok(all)
    }

    /// (live path, path of its copy).
    pub(super) fn areas(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.areas.iter().map(|a| (a.live.as_path(), a.copy.as_path()))
    }

    /// Where the copy of the directory `dir` is to be: in that of `/etc/kubernetes` if it lies there, else in an area of its own.
    fn area_for(&mut self, dir: &Path, kubernetes: &Path, stage: &Path) -> Result<PathBuf, StagingError> {
        let Ok(below) = dir.strip_prefix(kubernetes) else { return self.new_area(dir, stage) };
        let known = self.areas.iter().find(|a| a.live == kubernetes).map(|a| a.copy.clone());
        let mut copy = known.map_or_else(|| self.new_area(kubernetes, stage), Ok)?;
        let mut live = kubernetes.to_path_buf();
        for part in below {
            (live, copy) = (live.join(part), copy.join(part));
            if !copy.exists() {
                make_dir(&copy)?;
                attributes(&live, &copy)?;
            }
        }
        Ok(copy)
    }

    fn new_area(&mut self, live: &Path, stage: &Path) -> Result<PathBuf, StagingError> {
        let copy = stage.join(format!("area{}", self.areas.len()));
        make_dir(&copy)?;
        attributes(live, &copy)?;
        self.areas.push(Area { live: live.into(), copy: copy.clone() });
        Ok(copy)
    }

    /// What lies directly in `/etc/kubernetes`: kubeconfigs, and links by which the certificates are also known.
    fn kubeconfigs(&mut self, kubernetes: &Path) -> Result<(), StagingError> {
        let Some(copy) = self.areas.iter().find(|a| a.live == kubernetes).map(|a| a.copy.clone()) else {
            return Ok(());
        };
        for (name, path) in list(kubernetes)? {
            let target = copy.join(&name);
            let meta = path.symlink_metadata().map_err(StagingError::io("examine", &path))?;
            let known = meta.is_symlink() && fs::canonicalize(&path).is_ok_and(|t| self.holds(&t));
            let conf = path.extension().is_some_and(|e| e == "conf");
            if target.symlink_metadata().is_err() && (known || (conf && !meta.is_dir())) {
                self.entry(&path, &target)?;
            }
        }
        Ok(())
    }

    fn tree(&mut self, live: &Path, copy: &Path) -> Result<(), StagingError> {
        for (name, path) in list(live)? {
            self.entry(&path, &copy.join(name))?;
        }
        Ok(())
    }

    fn entry(&mut self, live: &Path, copy: &Path) -> Result<(), StagingError> {
        let meta = live.symlink_metadata().map_err(StagingError::io("examine", live))?;
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(StagingError::TooMuch { path: live.into(), limit: "4096 files" });
        }
        if meta.is_symlink() {
            self.link(live, copy)
        } else if meta.is_dir() {
            make_dir(copy)?;
            self.tree(live, copy)?;
            attributes(live, copy)
        } else {
            self.file(live, copy)
        }
    }

    /// Copies a regular file; others, and files that are too large to be a certificate, are left out.
    fn file(&mut self, live: &Path, copy: &Path) -> Result<(), StagingError> {
        let meta = live.symlink_metadata().map_err(StagingError::io("examine", live))?;
        if !meta.is_file() || meta.len() > MAX_FILE {
            return Ok(());
        }
        let bytes = Zeroizing::new(read_bounded(live, MAX_FILE).map_err(StagingError::io("read", live))?);
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_BYTES {
            return Err(StagingError::TooMuch { path: live.into(), limit: "32 MiB" });
        }
        fs::write(copy, &bytes).map_err(StagingError::io("copy", live))?;
        attributes(live, copy)
    }

    fn link(&mut self, live: &Path, copy: &Path) -> Result<(), StagingError> {
        let text = fs::read_link(live).map_err(StagingError::io("read the link", live))?;
        let keep = || symlink(&text, copy).map_err(StagingError::io("copy the link", live));
        match fs::canonicalize(live) {
            Err(_) => keep(), // leads nowhere there and here
            Ok(target) if self.holds(&target) => keep(),
            Ok(target) if target.is_dir() => {
                let contains_area = self.areas.iter().any(|a| a.live.starts_with(&target));
                // `/`, `/etc`, `/srv`: somebody's whole tree
                if contains_area || target.components().count() < 3 {
                    return Err(StagingError::TooWide { link: live.into(), target });
                }
                self.whole.push(target.clone());
                self.pending.push(target);
                keep()
            }
            Ok(target) => self.file(&target, copy),
        }
    }

    fn holds(&self, path: &Path) -> bool {
        self.whole.iter().any(|w| path.starts_with(w))
    }
}

/// (name, path), sorted.
fn list(dir: &Path) -> Result<Vec<(std::ffi::OsString, PathBuf)>, StagingError> {
    let entries = fs::read_dir(dir).map_err(StagingError::io("list", dir))?;
    let mut all = entries
        .map(|e| e.map(|e| (e.file_name(), e.path())))
        .collect::<Result<Vec<_>, _>>()
        .map_err(StagingError::io("list", dir))?;
    all.sort();
    Ok(all)
}

/// Owner first: chown(2) clears bits of the mode.
fn attributes(live: &Path, copy: &Path) -> Result<(), StagingError> {
    let meta = live.metadata().map_err(StagingError::io("examine", live))?;
    chown(copy, Some(meta.uid()), Some(meta.gid())).map_err(StagingError::io("copy the owner of", live))?;
    let mode = fs::Permissions::from_mode(meta.mode() & 0o7777);
    fs::set_permissions(copy, mode).map_err(StagingError::io("copy the mode of", live))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree {
        dir: tempfile::TempDir,
        order: Order,
    }

    impl Tree {
        fn new(pki: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |p: &str| dir.path().canonicalize().unwrap().join(p);
            for sub in ["k/pki/etcd", "k/manifests", "k/tmp", "ssl", "stage"] {
                fs::create_dir_all(at(sub)).unwrap();
            }
            for file in
                ["k/pki/ca.crt", "k/pki/etcd/ca.crt", "k/admin.conf", "k/manifests/a.yaml", "k/tmp/b", "ssl/x.crt"]
            {
                fs::write(at(file), file).unwrap();
            }
            let order = Order {
                kubeadm: at("kubeadm"),
                verb: Vec::new(),
                config: at("c"),
                kubernetes_dir: at("k"),
                pki_dir: at(pki),
                workdir: at(""),
                limit_secs: 1,
                names: Vec::new(),
            };
            Self { dir, order }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join(path)
        }

        fn copy(&self) -> Copies {
            Copies::make(&self.order, &self.at("stage")).unwrap()
        }
    }

    #[test]
    fn manifests_and_backups_stay_out_of_the_copy() {
        let tree = Tree::new("k/pki");
        assert_eq!(tree.copy().areas().count(), 1);
        assert!(tree.at("stage/area0/pki/etcd/ca.crt").is_file());
        assert!(tree.at("stage/area0/admin.conf").is_file());
        assert!(!tree.at("stage/area0/manifests").exists());
        assert!(!tree.at("stage/area0/tmp").exists());
    }

    #[test]
    fn certificates_outside_of_etc_kubernetes_are_covered_too() {
        let tree = Tree::new("ssl");
        let copies = tree.copy();
        let live: Vec<_> = copies.areas().map(|(live, _)| live.to_path_buf()).collect();
        assert_eq!(live, [tree.at("ssl"), tree.at("k")]);
        assert!(!tree.at("stage/area1/pki").exists(), "a directory that kubeadm does not read is not copied");
    }

    #[test]
    fn no_link_in_the_copy_leads_to_a_live_file() {
        let tree = Tree::new("k/pki");
        symlink(tree.at("ssl/x.crt"), tree.at("k/pki/out.crt")).unwrap();
        symlink("ca.crt", tree.at("k/pki/in.crt")).unwrap();
        symlink(tree.at("ssl"), tree.at("k/pki/dir")).unwrap();
        let copies = tree.copy();
        assert!(tree.at("stage/area0/pki/in.crt").is_symlink());
        assert!(tree.at("stage/area0/pki/dir").is_symlink());
        assert!(copies.areas().any(|(live, _)| live == tree.at("ssl")), "a linked directory becomes an area");
        // either a file of its own, or a link into a covered area
        let out = tree.at("stage/area0/pki/out.crt");
        assert!(!out.is_symlink() || copies.areas().any(|(live, _)| out.canonicalize().unwrap().starts_with(live)));
    }

    #[test]
    fn a_link_to_somebodys_whole_tree_is_refused() {
        let tree = Tree::new("k/pki");
        symlink("/usr", tree.at("k/pki/all")).unwrap();
        let error = Copies::make(&tree.order, &tree.at("stage")).unwrap_err().to_string();
        assert!(error.contains("too wide"), "{error}");
    }

    #[test]
    fn the_name_by_which_certificates_are_also_known_works_in_the_copy() {
        let tree = Tree::new("k/ssl");
        fs::rename(tree.at("k/pki"), tree.at("k/real")).unwrap();
        symlink("real", tree.at("k/ssl")).unwrap();
        tree.copy();
        assert!(tree.at("stage/area0/ssl").is_symlink());
        assert!(tree.at("stage/area0/ssl/ca.crt").is_file());
    }
}
