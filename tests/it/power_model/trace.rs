//! What a program did to the files below a directory, from strace(1).

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One successful call that changes files or syncs them. Paths are relative to the directory.
#[derive(Clone)]
pub enum Op {
    Mkdir {
        path: PathBuf,
        mode: u32,
    },
    /// Opened with O_CREAT; it may have been there.
    Create {
        path: PathBuf,
        mode: u32,
    },
    Truncate {
        path: PathBuf,
        len: usize,
    },
    Write {
        path: PathBuf,
        at: usize,
        bytes: Vec<u8>,
    },
    Chmod {
        path: PathBuf,
        mode: u32,
    },
    Chown {
        path: PathBuf,
        uid: u32,
        gid: u32,
    },
    Xattr {
        path: PathBuf,
        name: OsString,
        value: Vec<u8>,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    Sync {
        path: PathBuf,
    },
}

impl std::fmt::Debug for Op {
    /// Without contents, which may be keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, path) = match self {
            Self::Mkdir { path, .. } => ("mkdir", path),
            Self::Create { path, .. } => ("create", path),
            Self::Truncate { path, .. } => ("truncate", path),
            Self::Write { path, .. } => ("write", path),
            Self::Chmod { path, .. } => ("chmod", path),
            Self::Chown { path, .. } => ("chown", path),
            Self::Xattr { path, .. } => ("setxattr", path),
            Self::Rename { to, .. } => ("rename to", to),
            Self::Remove { path } => ("remove", path),
            Self::Sync { path } => ("fsync", path),
        };
        write!(f, "{what} {}", path.display())
    }
}

const CALLS: &str = "trace=%file,%desc";
/// Calls on files and descriptors that change no file.
const HARMLESS: &[&str] = &[
    "access",
    "faccessat",
    "faccessat2",
    "newfstatat",
    "statx",
    "stat",
    "lstat",
    "fstat",
    "fstatfs",
    "statfs",
    "readlink",
    "readlinkat",
    "read",
    "pread64",
    "close",
    "getdents64",
    "mmap",
    "fcntl",
    "flock",
    "ioctl",
    "poll",
    "ppoll",
    "dup",
    "dup2",
    "dup3",
    "fgetxattr",
    "flistxattr",
    "getxattr",
    "listxattr",
    "execve",
    "getcwd",
    "chdir",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "eventfd2",
    "timerfd_create",
    "timerfd_settime",
    "fadvise64",
    "pipe2",
    "pidfd_open",
    "signalfd4",
    "utimensat",
];

/// Runs the program under strace and gives what it did below `root`.
pub fn record(program: &mut Command, root: &Path) -> Vec<Op> {
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-xx", "-s", "16777216", "-e", CALLS, "-o"]).arg(out.path());
    strace.arg(program.get_program()).args(program.get_args());
    let output = strace.output().expect("strace is installed by tools/setup");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut reader = Reader {
        root: root.to_path_buf(),
        at: HashMap::new(),
        opened: HashMap::new(),
        unfinished: HashMap::new(),
        ops: Vec::new(),
    };
    for line in fs::read_to_string(out.path()).unwrap().lines() {
        reader.line(line);
    }
    reader.ops
}

struct Reader {
    root: PathBuf,
    /// Where the next write of a descriptor goes.
    at: HashMap<u64, usize>,
    opened: HashMap<u64, PathBuf>,
    /// Calls that have not returned yet, by process id.
    unfinished: HashMap<String, String>,
    ops: Vec<Op>,
}

/// An argument: `9</path>`, `"string"`, or words.
#[derive(Debug)]
struct Arg<'a>(&'a str);

impl Arg<'_> {
    fn string(&self) -> Vec<u8> {
        unescape(self.0.trim_matches('"'))
    }
    fn path(&self) -> PathBuf {
        OsString::from_vec(self.string()).into()
    }
    fn fd(&self) -> Option<(u64, PathBuf)> {
        let (number, path) = self.0.split_once('<')?;
        Some((number.parse().unwrap_or(u64::MAX), OsString::from_vec(unescape(path.trim_end_matches('>'))).into()))
    }
    fn number(&self) -> u64 {
        self.0.parse().unwrap_or_else(|_| panic!("{} is no number", self.0))
    }
    fn octal(&self) -> u32 {
        u32::from_str_radix(self.0, 8).unwrap_or_else(|_| panic!("{} is no mode", self.0))
    }
}

fn unescape(hex: &str) -> Vec<u8> {
    hex.split("\\x").skip(1).map(|b| u8::from_str_radix(&b[..2], 16).unwrap()).collect()
}

impl Reader {
    /// `PID name(arguments) = result`; what another thread came in between is put together again.
    fn line(&mut self, line: &str) {
        let (pid, rest) = line.split_once(' ').unwrap_or_else(|| panic!("strace: {line}"));
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            self.unfinished.insert(pid.to_owned(), begun.to_owned());
            return;
        }
        let resumed = rest.strip_prefix("<... ").and_then(|r| r.split_once(" resumed>"));
        let whole = match resumed {
            Some((_, end)) => self.unfinished.remove(pid).unwrap_or_default() + end,
            None => rest.to_owned(),
        };
        if whole.starts_with(['+', '-']) {
            return; // an exit or a signal
        }
        let (name, rest) = whole.split_once('(').unwrap_or_else(|| panic!("strace: {line}"));
        if HARMLESS.contains(&name) {
            return;
        }
        let (args, result) = rest.rsplit_once(" = ").unwrap_or_else(|| panic!("strace: {line}"));
        if result.starts_with(['-', '?']) {
            return;
        }
        // with -xx no comma is in a string
        let args: Vec<Arg<'_>> = args.trim_end().trim_end_matches(')').split(", ").map(|a| Arg(a.trim())).collect();
        self.call(name, &args, result);
    }

    fn call(&mut self, name: &str, args: &[Arg<'_>], result: &str) {
        let own_fd = |arg: &Arg<'_>| arg.fd().and_then(|(fd, path)| Some((fd, self.below(&path)?)));
        match name {
            "open" | "openat" => self.open(name, args, result),
            "openat2" => {
                assert!(!args.iter().any(|a| a.0.contains("O_CREAT")), "teach the model openat2");
                if let Some((fd, path)) = Arg(result).fd() {
                    self.opened.insert(fd, path);
                    self.at.insert(fd, 0);
                }
            }
            "write" | "ftruncate" | "fchmod" | "fchown" | "fsetxattr" | "fsync" | "fdatasync" | "lseek" => {
                let Some((fd, path)) = own_fd(&args[0]) else { return };
                match name {
                    "write" => {
                        let at = self.at.entry(fd).or_default();
                        let bytes = args[1].string();
                        let op = Op::Write { path, at: *at, bytes: bytes.clone() };
                        *at += bytes.len();
                        self.ops.push(op);
                    }
                    "lseek" => drop(self.at.insert(fd, result.parse().unwrap())),
                    "ftruncate" => {
                        self.ops.push(Op::Truncate { path, len: usize::try_from(args[1].number()).unwrap() });
                    }
                    "fchmod" => self.ops.push(Op::Chmod { path, mode: args[1].octal() }),
                    "fchown" => {
                        let id = |arg: &Arg<'_>| u32::try_from(arg.number()).unwrap();
                        self.ops.push(Op::Chown { path, uid: id(&args[1]), gid: id(&args[2]) });
                    }
                    "fsetxattr" => {
                        let name = OsString::from_vec(args[1].string());
                        self.ops.push(Op::Xattr { path, name, value: args[2].string() });
                    }
                    _ => self.ops.push(Op::Sync { path }),
                }
            }
            // room beyond the end: no byte of the file changes
            "fallocate" => assert!(args[1].0.contains("KEEP_SIZE"), "teach the model fallocate"),
            "mkdir" => self.push_at(None, &args[0], |path| Op::Mkdir { path, mode: args[1].octal() }),
            "mkdirat" => self.push_at(Some(&args[0]), &args[1], |path| Op::Mkdir { path, mode: args[2].octal() }),
            "unlink" | "rmdir" => self.push_at(None, &args[0], |path| Op::Remove { path }),
            "unlinkat" => self.push_at(Some(&args[0]), &args[1], |path| Op::Remove { path }),
            "rename" => self.rename((None, &args[0]), (None, &args[1])),
            "renameat" | "renameat2" => self.rename((Some(&args[0]), &args[1]), (Some(&args[2]), &args[3])),
            _ => {
                let ours = args.iter().any(|a| a.fd().is_some_and(|(_, p)| self.below(&p).is_some()));
                assert!(!ours, "the model of the disk does not know {name}: teach it");
            }
        }
    }

    fn open(&mut self, name: &str, args: &[Arg<'_>], result: &str) {
        let Some((fd, path)) = Arg(result).fd() else { return };
        self.opened.insert(fd, path.clone());
        self.at.insert(fd, 0);
        let (flags, mode) = if name == "open" { (1, 2) } else { (2, 3) };
        let Some(path) = self.below(&path) else { return };
        if args[flags].0.contains("O_CREAT") {
            self.ops.push(Op::Create { path: path.clone(), mode: args[mode].octal() });
        }
        if args[flags].0.contains("O_TRUNC") {
            self.ops.push(Op::Truncate { path, len: 0 });
        }
    }

    fn rename(&mut self, from: (Option<&Arg<'_>>, &Arg<'_>), to: (Option<&Arg<'_>>, &Arg<'_>)) {
        if let (Some(from), Some(to)) = (self.at(from.0, from.1), self.at(to.0, to.1)) {
            self.ops.push(Op::Rename { from, to });
        }
    }

    fn push_at(&mut self, dir: Option<&Arg<'_>>, path: &Arg<'_>, op: impl FnOnce(PathBuf) -> Op) {
        if let Some(path) = self.at(dir, path) {
            self.ops.push(op(path));
        }
    }

    fn at(&self, dir: Option<&Arg<'_>>, path: &Arg<'_>) -> Option<PathBuf> {
        let dir = dir.and_then(|d| Some(d.fd()?.1)).unwrap_or_default();
        self.below(&dir.join(path.path()))
    }

    /// Relative to the root; None for what lies elsewhere.
    fn below(&self, path: &Path) -> Option<PathBuf> {
        let by_fd = path.strip_prefix("/proc/self/fd").ok().and_then(|rest| {
            let mut parts = rest.components();
            let fd: u64 = parts.next()?.as_os_str().to_str()?.parse().ok()?;
            Some(self.opened.get(&fd)?.join(parts.as_path()))
        });
        Some(by_fd.as_deref().unwrap_or(path).strip_prefix(&self.root).ok()?.to_path_buf())
    }
}
