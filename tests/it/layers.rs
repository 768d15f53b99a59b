//! The rule of the house (src/lib.rs): imports point down only, and no files import one another in a circle.

mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// Layers from the top; a module may import what stands in a later line, and `SIDEWAYS`.
const LAYERS: [&[&str]; 6] = [
    &["cli", "daemon", "fuzz", "observe", "watch"],
    &["app"],
    &["fleet"],
    &["collect", "renew", "txn", "verify", "config"],
    &["host"],
    &["model"],
];
/// A transaction carries out what the other parts know; drivers start one another.
const SIDEWAYS: [(&str, &str); 8] = [
    ("txn", "renew"),
    ("txn", "verify"),
    ("txn", "collect"),
    ("cli", "daemon"),
    ("cli", "observe"),
    ("daemon", "observe"),
    ("cli", "watch"),
    ("watch", "observe"),
];
/// What the core must not touch: files, processes, clocks, threads that wait, OpenSSL.
const IMPURE: [&str; 13] = [
    "std::fs",
    "std::process",
    "std::net::Tcp",
    "std::thread",
    "std::env",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "openssl::",
    "tokio::",
    "nix::",
    "async ",
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|l| l.contains(&module))
}

fn allowed(from: &str, to: &str) -> bool {
    match (layer(from), layer(to)) {
        _ if from == to || SIDEWAYS.contains(&(from, to)) => true,
        (Some(from), Some(to)) => from < to,
        _ => false,
    }
}

/// The modules of this crate that a line names.
fn named(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    let mut found = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        let rest = &code[at + start.len()..];
        // `use crate::{host::fs, model::cert}` names several
        let group = rest.strip_prefix('{').map(|g| g.split('}').next().unwrap_or(g));
        for path in group.unwrap_or(rest).split(',') {
            let name = path.trim().split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
            found.push(name);
            if group.is_none() {
                break;
            }
        }
    }
    found
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

fn module_of(path: &Path, src: &Path) -> String {
    let first = path.strip_prefix(src).unwrap().components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned()
}

#[test]
fn imports_point_down_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in sources(&src) {
        let module = module_of(&path, &src);
        if matches!(module.as_str(), "lib" | "main" | "bin") {
            continue;
        }
        assert!(layer(&module).is_some(), "{} is in no layer: name it in src/lib.rs and here", path.display());
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            for to in named(line).into_iter().filter(|to| layer(to).is_some()) {
                seen += 1;
                if !allowed(&module, to) {
                    wrong.push(format!("{}:{}: {module} imports {to}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(seen > 20, "the test no longer sees imports");
    assert!(wrong.is_empty(), "imports that point up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in sources(&src.join("model")) {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            for impure in IMPURE.iter().filter(|i| line.contains(**i)) {
                wrong.push(format!("{}:{}: {impure}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "the core does more than decide:\n{}", wrong.join("\n"));
}

#[test]
fn the_rule_tells_up_from_down() {
    assert!(allowed("cli", "model") && allowed("txn", "host") && allowed("txn", "renew") && allowed("model", "model"));
    assert!(!allowed("model", "host") && !allowed("host", "collect") && !allowed("renew", "txn"));
    assert!(!allowed("collect", "config") && !allowed("txn", "fleet") && !allowed("fleet", "app"));
    assert_eq!(named("use crate::{host::fs::Root, model::cert}; // crate::cli"), ["host", "model"]);
    assert_eq!(named("    let x = crate::txn::engine();"), ["txn"]);
}
