//! The operator's configuration: TOML fragments, merged per key, judged as a whole
//! (docs/architecture.md, "Configuration").
//!
//! Three stages, each in a file of its own: [`fragment`] finds and reads the files that count, [`merge`] lays
//! them over each other key by key and remembers where each value came from, [`rules`] judges what must hold
//! between keys. The structs of [`model::policy`](crate::model::policy) are the schema; [`schema`] derives the
//! known keys from them, so that a key exists in exactly one place.
//!
//! All errors of all files are collected: whoever repairs a configuration repairs it once.

mod error;
mod fragment;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod merge;
mod rules;
mod schema;
mod toml_text;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use error::{ConfigError, Fault, Problem};
pub use schema::effective_values;

use crate::host::fs::Root;
use crate::model::policy::Policy;

/// Exit code for a configuration that cannot be used (sysexits(3), `EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;

/// Fragment directories, weakest first. A file in a later one replaces the file of the same name in an earlier one.
pub const DIRECTORIES: [&str; 3] =
    ["/usr/lib/certwarden/config.d", "/run/certwarden/config.d", "/etc/certwarden/config.d"];

/// Read after every fragment, so that it has the last word.
pub const MAIN_FILE: &str = "/etc/certwarden/certwarden.toml";

/// What the files say, and where they say it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub policy: Policy,
    /// Where the value of a key comes from, dotted (`renew.renew-before`). Of the others it is the default.
    pub origins: BTreeMap<String, Origin>,
    /// The files that were read, in the order in which they were merged.
    pub files: Vec<PathBuf>,
}

/// Where a value comes from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Origin {
    #[default]
    Default,
    /// `line` and `column` count from 1; the column counts characters.
    File { path: PathBuf, line: usize, column: usize },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.pad("default"),
            Self::File { path, line, .. } => f.pad(&format!("{}:{line}", path.display())),
        }
    }
}

/// Whom a faulty configuration trusts all the same: `gates.trusted-owners`, as far as it can be read. A recovery must be
/// able to write what the transaction wrote.
pub fn trusted_owners(root: &Root) -> Vec<String> {
    let mut problems = Vec::new();
    let fragments = fragment::read_all(root, &mut problems);
    merge::merge(&fragments, &mut problems).policy(&mut problems).gates.trusted_owners
}

/// Reads the configuration below `root`. No file at all is the default configuration.
///
/// # Errors
/// [`ConfigError`] with every problem of every file, never only the first.
pub fn load(root: &Root) -> Result<Settings, ConfigError> {
    let mut problems = Vec::new();
    let fragments = fragment::read_all(root, &mut problems);
    let merged = merge::merge(&fragments, &mut problems);
    let policy = merged.policy(&mut problems);
    rules::check(&policy, &merged, &mut problems);
    if problems.is_empty() {
        let files = fragments.into_iter().map(|f| f.path).collect();
        Ok(Settings { policy, origins: merged.origins(), files })
    } else {
        Err(ConfigError { problems })
    }
}
