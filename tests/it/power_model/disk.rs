//! A disk that loses what was not synced: POSIX promises nothing of an operation before the fsync of the file, or of the
//! directory that it changed (fsync(2)), and nothing of the order between them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::trace::Op;

/// What a file is, besides its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    pub owner: (u32, u32),
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// None: made since, so that it is not compared.
    pub modified: Option<SystemTime>,
}

#[derive(Clone, Debug)]
enum Inode {
    File(File),
    Link(PathBuf),
    Dir { mode: u32, names: BTreeMap<OsString, usize> },
}

/// Something that an operation changed and that may be lost, as a whole.
#[derive(Clone, Debug)]
enum Effect {
    /// Names of one directory, at once: a rename takes one and gives one.
    Names {
        dir: usize,
        names: Vec<(OsString, Option<usize>)>,
    },
    File {
        inode: usize,
        op: Op,
    },
}

/// What becomes of an effect that was not synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    Kept,
    Lost,
    /// A write of which only this share of 256 has arrived; what is no write is kept.
    Torn(u8),
    /// A write whose length has arrived and whose content has not.
    Zeroed,
}

/// What was changed, for whoever decides its fate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Name,
    Content,
}

/// As the running system sees it, and what of it is surely on the disk.
#[derive(Clone, Debug)]
pub struct Disk {
    seen: Vec<Inode>,
    durable: Vec<Inode>,
    pending: Vec<Effect>,
}

const ROOT: usize = 0;

impl Disk {
    /// The tree as it lies there, all of it durable.
    pub fn load(root: &Path) -> Self {
        let mut inodes = Vec::new();
        load(root, &mut inodes);
        Self { seen: inodes.clone(), durable: inodes, pending: Vec::new() }
    }

    pub fn apply(&mut self, op: &Op) {
        let inode = |path: &PathBuf| self.find(path).unwrap_or_else(|| panic!("{} is not there", path.display()));
        match op {
            Op::Mkdir { path, mode } => self.make(path, Inode::Dir { mode: *mode, names: BTreeMap::new() }),
            Op::Create { path, mode } if self.find(path).is_none() => self.make(path, Inode::File(File::new(*mode))),
            Op::Create { .. } => {}
            Op::Remove { path } => {
                let (dir, name) = self.place(path);
                self.change(Effect::Names { dir, names: vec![(name, None)] });
            }
            Op::Rename { from, to } => {
                let (moved, (dir, old), (also, new)) = (inode(from), self.place(from), self.place(to));
                assert_eq!(dir, also, "a rename from one directory to another: teach the model");
                self.change(Effect::Names { dir, names: vec![(old, None), (new, Some(moved))] });
            }
            Op::Truncate { path, .. }
            | Op::Write { path, .. }
            | Op::Chmod { path, .. }
            | Op::Chown { path, .. }
            | Op::Xattr { path, .. } => {
                let inode = inode(path);
                self.change(Effect::File { inode, op: op.clone() });
            }
            Op::Sync { path } => {
                let synced = inode(path);
                let own = |e: &Effect| matches!(e, Effect::Names { dir: i, .. } | Effect::File { inode: i, .. } if *i == synced);
                let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending).into_iter().partition(own);
                for effect in &now {
                    take(&mut self.durable, effect, Fate::Kept);
                }
                self.pending = later;
            }
        }
    }

    /// The disk after a power cut now; `fate` decides over each effect that was not synced, in its order.
    pub fn cut(&self, mut fate: impl FnMut(Kind) -> Fate) -> Self {
        let mut inodes = self.durable.clone();
        for effect in &self.pending {
            let kind = if matches!(effect, Effect::Names { .. }) { Kind::Name } else { Kind::Content };
            take(&mut inodes, effect, fate(kind));
        }
        Self { seen: inodes.clone(), durable: inodes, pending: Vec::new() }
    }

    /// How many effects could be lost now.
    pub fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// Writes what is seen to an empty directory.
    pub fn write_to(&self, dir: &Path) {
        write(&self.seen, ROOT, dir);
    }

    /// Every file that is seen, by path.
    pub fn files(&self) -> BTreeMap<PathBuf, File> {
        let mut all = BTreeMap::new();
        collect(&self.seen, ROOT, Path::new(""), &mut all);
        all
    }

    fn find(&self, path: &Path) -> Option<usize> {
        path.components().try_fold(ROOT, |at, name| match &self.seen[at] {
            Inode::Dir { names, .. } => names.get(name.as_os_str()).copied(),
            Inode::File(_) | Inode::Link(_) => None,
        })
    }

    fn place(&self, path: &Path) -> (usize, OsString) {
        let dir = path.parent().and_then(|p| self.find(p));
        (dir.unwrap_or_else(|| panic!("{}: no directory", path.display())), path.file_name().unwrap().to_owned())
    }

    fn make(&mut self, path: &Path, inode: Inode) {
        let (dir, name) = self.place(path);
        let new = self.seen.len();
        self.durable.push(inode.clone()); // without a name nobody sees it
        self.seen.push(inode);
        self.change(Effect::Names { dir, names: vec![(name, Some(new))] });
    }

    fn change(&mut self, effect: Effect) {
        take(&mut self.seen, &effect, Fate::Kept);
        self.pending.push(effect);
    }
}

impl File {
    fn new(mode: u32) -> Self {
        Self { bytes: Vec::new(), mode, owner: (0, 0), xattrs: BTreeMap::new(), modified: None }
    }
}

fn take(inodes: &mut [Inode], effect: &Effect, fate: Fate) {
    match (effect, fate) {
        (_, Fate::Lost) => {}
        (Effect::Names { dir, names: changed }, _) => {
            let Inode::Dir { names, .. } = &mut inodes[*dir] else { panic!("no directory") };
            for (name, to) in changed {
                match to {
                    Some(inode) => drop(names.insert(name.clone(), *inode)),
                    None => drop(names.remove(name)),
                }
            }
        }
        (Effect::File { inode, op }, fate) => {
            let Inode::File(file) = &mut inodes[*inode] else { panic!("no file") };
            match op {
                Op::Write { at, bytes, .. } => {
                    let mut arrived = bytes.clone();
                    match fate {
                        Fate::Torn(share) => arrived.truncate(bytes.len() * usize::from(share) / 256),
                        Fate::Zeroed => arrived.fill(0),
                        Fate::Kept | Fate::Lost => {}
                    }
                    let end = at + arrived.len();
                    if file.bytes.len() < end {
                        file.bytes.resize(end, 0);
                    }
                    file.bytes[*at..end].copy_from_slice(&arrived);
                }
                Op::Truncate { len, .. } => file.bytes.resize(*len, 0),
                Op::Chmod { mode, .. } => file.mode = *mode,
                Op::Chown { uid, gid, .. } => file.owner = (*uid, *gid),
                Op::Xattr { name, value, .. } => drop(file.xattrs.insert(name.clone(), value.clone())),
                _ => panic!("{op:?} changes no file"),
            }
        }
    }
}

fn load(path: &Path, inodes: &mut Vec<Inode>) -> usize {
    let at = inodes.len();
    let meta = path.symlink_metadata().unwrap();
    inodes.push(Inode::Link(PathBuf::new()));
    inodes[at] = if meta.is_dir() {
        let mut names = BTreeMap::new();
        for item in fs::read_dir(path).unwrap() {
            let item = item.unwrap();
            names.insert(item.file_name(), load(&item.path(), inodes));
        }
        Inode::Dir { mode: meta.mode() & 0o7777, names }
    } else if meta.is_symlink() {
        Inode::Link(fs::read_link(path).unwrap())
    } else {
        let names = xattr::list(path).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
        let value = |name: OsString| Some((name.clone(), xattr::get(path, name).ok()??));
        Inode::File(File {
            bytes: fs::read(path).unwrap(),
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            xattrs: names.into_iter().filter_map(value).collect(),
            modified: meta.modified().ok(),
        })
    };
    at
}

fn write(inodes: &[Inode], inode: usize, path: &Path) {
    match &inodes[inode] {
        Inode::Dir { mode, names } => {
            fs::create_dir_all(path).unwrap();
            for (name, child) in names {
                write(inodes, *child, &path.join(name));
            }
            fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        Inode::Link(target) => symlink(target, path).unwrap(),
        Inode::File(file) => {
            fs::write(path, &file.bytes).unwrap();
            chown(path, Some(file.owner.0), Some(file.owner.1)).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(file.mode)).unwrap();
            for (name, value) in &file.xattrs {
                xattr::set(path, name, value).unwrap();
            }
            if let Some(time) = file.modified {
                fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
            }
        }
    }
}

fn collect(inodes: &[Inode], inode: usize, path: &Path, all: &mut BTreeMap<PathBuf, File>) {
    match &inodes[inode] {
        Inode::Dir { names, .. } => {
            for (name, child) in names {
                collect(inodes, *child, &path.join(name), all);
            }
        }
        Inode::Link(target) => {
            let bytes = target.as_os_str().as_encoded_bytes().to_vec();
            all.insert(path.to_path_buf(), File { bytes, ..File::new(0) });
        }
        Inode::File(file) => drop(all.insert(path.to_path_buf(), file.clone())),
    }
}
