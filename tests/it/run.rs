//! The programs themselves, run on a node tree that somebody has changed.

#![allow(dead_code, reason = "each user takes what it needs")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use openssl::x509::X509;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{DAY, Options, Tree};

/// A node tree, and the programs that are run on it.
pub struct Node {
    _dir: TempDir,
    pub tree: Tree,
}

pub fn node(options: Options, change: impl FnOnce(&Tree)) -> Node {
    let dir = TempDir::new().unwrap();
    let tree = Tree::build(dir.path(), options);
    change(&tree);
    Node { _dir: dir, tree }
}

pub fn control_plane(change: impl FnOnce(&Tree)) -> Node {
    node(Options::default(), change)
}

pub fn soon(change: impl FnOnce(&Tree)) -> Node {
    node(Options { left: 10 * DAY, ..Options::default() }, change)
}

impl Node {
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwarden"));
        command.arg("--root").arg(&self.tree.root).args(args).output().unwrap()
    }

    pub fn check(&self) -> Value {
        serde_json::from_slice(&self.run(&["check", "-o", "json"]).stdout).unwrap()
    }

    #[track_caller]
    pub fn assert_well(&self) {
        let output = self.run(&["check", "-o", "wide"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    }

    pub fn entry(&self, name: &str) -> Option<Value> {
        let document = self.check();
        document["entries"].as_array().unwrap().iter().find(|e| e["name"] == name).cloned()
    }

    #[track_caller]
    pub fn problems(&self, name: &str) -> Vec<String> {
        let entry = self.entry(name).unwrap_or_else(|| panic!("no {name}"));
        entry["problems"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Everything below /etc and /var/lib/kubelet, links as what they lead to.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for dir in ["etc", "var/lib/kubelet"] {
            walk(&self.tree.root.join(dir), &mut found);
        }
        found
    }

    pub fn certificate(&self, path: &str) -> X509 {
        X509::from_pem(&fs::read(self.tree.at(path)).unwrap()).unwrap()
    }
}

fn walk(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            found.insert(path, target.into_os_string().into_encoded_bytes());
        } else if meta.is_dir() {
            walk(&path, found);
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}
