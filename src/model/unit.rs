//! A service of systemd as its unit files describe it: which directories count, what the files say, and the command that
//! follows from it. Read as systemd reads them (systemd.unit(5), systemd.service(5), systemd.exec(5); the sources are named
//! where the manual pages are silent). What is not read so for certain is a doubt: then nobody goes by a name that the
//! command line seems to give.

mod directories;
mod environment;
mod exec;
mod lines;
mod loaded;
mod specifier;
mod words;

use std::collections::BTreeMap;

pub use directories::{UNIT_DIRS, drop_in_dirs};
pub use environment::{assignment, file};
pub use exec::{MAX_ARGUMENTS, TooLong, expand};
pub use lines::{Line, lines};
pub use loaded::{Loaded, LoadedCommand};
pub use specifier::Machine;
use words::Rules;

/// What the fragment and its drop-ins say of a service, in the order of the files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Service {
    /// `Environment=`.
    pub environment: BTreeMap<String, String>,
    /// `EnvironmentFile=`, with `-` before it where the file may be missing.
    pub environment_files: Vec<String>,
    /// `UnsetEnvironment=`: names or whole assignments.
    pub unset: Vec<String>,
    /// The words of `ExecStart=`, specifiers resolved, variables not.
    pub exec_start: Vec<String>,
    /// `:` before the program: variables are left as they are.
    pub verbatim: bool,
    /// `Slice=`.
    pub slice: Option<String>,
    /// What was not understood: clauses.
    pub doubts: Vec<String>,
}

impl Service {
    /// Of the texts of the fragment and its drop-ins, in this order.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>, machine: &Machine) -> Self {
        let mut service = Self::default();
        for text in texts {
            for line in lines(text).into_iter().filter(|l| l.section == "Service") {
                service.set(&line, machine);
            }
        }
        service
    }

    /// An empty value forgets what came before.
    fn set(&mut self, line: &Line, machine: &Machine) {
        let value = line.value.as_str();
        match line.key.as_str() {
            "ExecStart" if value.is_empty() => self.exec_start.clear(),
            "ExecStart" => self.command(value, machine),
            "Environment" if value.is_empty() => self.environment.clear(),
            "Environment" => {
                let pairs = self.words("Environment", value, machine);
                self.environment.extend(pairs.iter().filter_map(|pair| assignment(pair)));
            }
            "EnvironmentFile" if value.is_empty() => self.environment_files.clear(),
            "EnvironmentFile" => {
                let path = self.resolved(value, machine);
                self.environment_files.push(path);
            }
            "UnsetEnvironment" if value.is_empty() => self.unset.clear(),
            "UnsetEnvironment" => {
                let names = self.words("UnsetEnvironment", value, machine);
                self.unset.extend(names);
            }
            "Slice" => self.slice = Some(self.resolved(value, machine)).filter(|s| !s.is_empty()),
            "PassEnvironment" | "RootDirectory" | "RootImage" if !value.is_empty() => {
                self.doubts.push(format!("the unit sets {}={value}", line.key));
            }
            _ => {}
        }
    }

    fn command(&mut self, value: &str, machine: &Machine) {
        if !self.exec_start.is_empty() {
            self.doubts.push("the unit has several commands in ExecStart=".to_owned());
        }
        match exec::command(value) {
            Ok(command) => {
                self.doubts.extend(command.doubt.map(str::to_owned));
                self.verbatim = command.verbatim;
                self.exec_start = command.words.iter().map(|word| self.resolved(word, machine)).collect();
            }
            Err(words::Unbalanced) => self.doubts.push("a quote in ExecStart= is not closed".to_owned()),
        }
    }

    fn words(&mut self, key: &str, value: &str, machine: &Machine) -> Vec<String> {
        let Ok(words) = words::split(value, Rules::Strict) else {
            self.doubts.push(format!("{key}= has a quote that is not closed or an unknown escape"));
            return Vec::new();
        };
        words.iter().map(|word| self.resolved(word, machine)).collect()
    }

    fn resolved(&mut self, text: &str, machine: &Machine) -> String {
        specifier::resolve(text, machine).unwrap_or_else(|specifier| {
            self.doubts.push(format!("the unit uses the specifier {specifier}, whose value is not known here"));
            text.to_owned()
        })
    }
}

#[cfg(test)]
mod tests;
