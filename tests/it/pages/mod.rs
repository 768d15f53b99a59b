//! Documents that are made of data. `cargo xtask` writes them, tests compare: both compile these files, so that they cannot
//! differ.

#![allow(dead_code, reason = "tests compare, `xtask` writes")]

pub mod reference;
pub mod reliability;
pub mod versions;

use std::path::Path;

/// The top of the sources, where `Cargo.lock` is; `xtask` is one directory below it.
pub fn repository() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().find(|dir| dir.join("Cargo.lock").exists()).unwrap_or(manifest)
}
