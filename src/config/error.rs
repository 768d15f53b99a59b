//! What is wrong with a configuration: file, line, column, key, and what to do.

use std::path::PathBuf;

use crate::host::fs::FsError;

/// Everything that is wrong, in the order of the files. Never empty.
#[derive(Debug)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl std::fmt::Display for ConfigError {
    /// One problem a line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    pub path: PathBuf,
    /// Line and column, from 1; None where the fault is the file's and not a line's.
    pub position: Option<(usize, usize)>,
    /// The dotted key, where one is at fault.
    pub key: Option<String>,
    pub fault: Fault,
}

impl std::fmt::Display for Problem {
    /// `FILE:LINE:COLUMN: KEY: what; what to do`, as compilers do, so that editors can jump there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        match &self.key {
            Some(key) => write!(f, " {key}: {}", self.fault),
            None => write!(f, " {}", self.fault),
        }
    }
}

/// The kinds of fault.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("cannot be read: {0}")]
    Unreadable(FsError),
    #[error("is not a directory")]
    NotADirectory,
    #[error("is not UTF-8 text")]
    NotText,
    #[error("is writable by {who} (mode {mode:04o}): whoever can write it commands a root daemon; chmod go-w it")]
    Writable { who: &'static str, mode: u32 },
    #[error("belongs to uid {uid} and not to root: whoever owns it commands a root daemon; chown it to root")]
    Owner { uid: u32 },
    #[error("is not valid TOML: {0}")]
    Syntax(String),
    #[error("unknown key{}", hint(.nearest.as_deref()))]
    UnknownKey { nearest: Option<String> },
    #[error("is a section, not a value: write `[{section}]` and its keys below")]
    SectionExpected { section: String },
    #[error("is a value, not a section")]
    ValueExpected,
    #[error("{message}{}", hint(.nearest.as_deref()))]
    BadValue { message: String, nearest: Option<String> },
    /// Values that do not go together, or are out of range.
    #[error("{0}")]
    Rule(String),
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default()
}
