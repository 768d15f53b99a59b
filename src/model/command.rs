//! What a command line runs in the end: behind a shell, `env`, an init for containers and the like. A component is the program
//! that is started, and not a word that ends in its name.

mod shell;

use std::collections::BTreeMap;

/// One program with its arguments.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Program {
    /// The program, then its arguments.
    pub words: Vec<String>,
    /// What of it is not known before it runs: a clause.
    pub doubt: Option<String>,
}

impl Program {
    /// The last part of the program's path.
    pub fn name(&self) -> &str {
        self.words.first().map(|w| basename(w)).unwrap_or_default()
    }

    /// Its arguments.
    pub fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// The variables that a command is started with.
pub type Variables = BTreeMap<String, String>;

/// Behind so many wrappers nobody looks.
const DEEPEST: usize = 8;

/// Every program that a command line runs, in its order: one, unless a shell runs several. What is no wrapper is itself.
pub fn programs(words: &[String], variables: &Variables) -> Vec<Program> {
    let program = Program { words: words.to_vec(), doubt: None };
    unwrap(program, variables, DEEPEST)
}

/// A program that starts another.
struct Wrapper {
    names: &'static [&'static str],
    /// Options whose value is a word of its own.
    valued: &'static [&'static str],
    /// Words before the command.
    operands: usize,
}

/// Their manual pages say which options take a word. `--` ends the options of each.
const WRAPPERS: [Wrapper; 17] = [
    Wrapper { names: &["tini", "tini-static", "docker-init", "catatonit"], valued: &["-p", "-e"], operands: 0 },
    Wrapper { names: &["dumb-init"], valued: &["-r", "--rewrite"], operands: 0 },
    Wrapper { names: &["nice"], valued: &["-n", "--adjustment"], operands: 0 },
    Wrapper { names: &["ionice"], valued: &["-c", "-n", "--class", "--classdata"], operands: 0 },
    Wrapper { names: &["chrt"], valued: &["-T", "-P", "-D"], operands: 1 },
    Wrapper { names: &["taskset"], valued: &[], operands: 1 },
    Wrapper { names: &["numactl"], valued: &["-i", "-m", "-N", "-C", "-p"], operands: 0 },
    Wrapper {
        names: &["nohup", "setsid", "time", "exec", "command", "setarch", "linux64"],
        valued: &["-a"],
        operands: 0,
    },
    Wrapper { names: &["stdbuf"], valued: &["-i", "-o", "-e"], operands: 0 },
    Wrapper { names: &["timeout"], valued: &["-k", "-s", "--kill-after", "--signal"], operands: 1 },
    Wrapper { names: &["systemd-inhibit", "systemd-cat"], valued: &["-t", "-p"], operands: 0 },
    Wrapper { names: &["sudo"], valued: &["-u", "-g", "-h", "-p", "-C", "-D", "-R", "-T"], operands: 0 },
    Wrapper { names: &["su-exec", "gosu", "chroot"], valued: &[], operands: 1 },
    Wrapper { names: &["setpriv", "prlimit", "unshare", "nsenter"], valued: &["-t", "-S", "-G"], operands: 0 },
    Wrapper { names: &["flock"], valued: &["-E", "-w"], operands: 1 },
    // kubernetes release: `images/build/go-runner`
    Wrapper { names: &["go-runner", "kube-log-runner"], valued: &[], operands: 0 },
    Wrapper { names: &["hyperkube", "busybox"], valued: &[], operands: 0 },
];

/// Of these a word that is no option says what is run, and without one it is the program itself.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "ksh", "zsh", "mksh"];

fn unwrap(mut program: Program, variables: &Variables, deep: usize) -> Vec<Program> {
    let name = program.name().to_owned();
    let Some(deep) = deep.checked_sub(1) else {
        program.doubt = Some("it is behind too many wrappers".to_owned());
        return vec![program];
    };
    if SHELLS.contains(&name.as_str()) {
        return shell(program, variables, deep);
    }
    if name == "env" {
        return env(program, variables, deep);
    }
    let Some(wrapper) = WRAPPERS.iter().find(|w| w.names.contains(&name.as_str())) else { return vec![program] };
    let inner = after_options(program.arguments(), wrapper.valued);
    let inner = inner.get(wrapper.operands..).unwrap_or_default().to_vec();
    if inner.is_empty() {
        return vec![program];
    }
    unwrap(Program { words: inner, doubt: program.doubt }, variables, deep)
}

/// The words behind the options.
fn after_options<'a>(mut words: &'a [String], valued: &[&str]) -> &'a [String] {
    while let [first, rest @ ..] = words {
        words = match first.as_str() {
            "--" => return rest,
            option if valued.contains(&option) => rest.get(1..).unwrap_or_default(),
            option if option.starts_with('-') && option.len() > 1 => rest,
            _ => return words,
        };
    }
    words
}

/// env(1).
fn env(program: Program, variables: &Variables, deep: usize) -> Vec<Program> {
    let (mut variables, mut words) = (variables.clone(), program.arguments());
    while let [first, rest @ ..] = words {
        words = match first.as_str() {
            "-i" | "-" | "--ignore-environment" => {
                variables.clear();
                rest
            }
            "-u" | "--unset" => {
                rest.first().and_then(|name| variables.remove(name));
                rest.get(1..).unwrap_or_default()
            }
            "-C" | "--chdir" => rest.get(1..).unwrap_or_default(),
            "-S" | "--split-string" => {
                let doubt = Some("env splits its command itself".to_owned());
                return vec![Program { doubt, ..program }];
            }
            "--" => rest,
            option if option.starts_with('-') => rest,
            assignment => match assignment.split_once('=') {
                Some((name, value)) => {
                    variables.insert(name.to_owned(), value.to_owned());
                    rest
                }
                None => break,
            },
        };
    }
    if words.is_empty() {
        return vec![program];
    }
    let inner = Program { words: words.to_vec(), doubt: program.doubt.clone() };
    unwrap(inner, &variables, deep)
}

/// `sh -c SCRIPT`; a script in a file is not read.
fn shell(program: Program, variables: &Variables, deep: usize) -> Vec<Program> {
    let mut words = program.arguments();
    let mut command = false;
    while let [first, rest @ ..] = words {
        let Some(letters) = first.strip_prefix(['-', '+']).filter(|l| !l.is_empty()) else { break };
        if letters == "-" {
            words = rest;
            break;
        }
        let long = letters.starts_with('-');
        command |= !long && letters.contains('c');
        // `-o pipefail`, `-euo pipefail`
        words = if !long && letters.ends_with('o') { rest.get(1..).unwrap_or_default() } else { rest };
    }
    let Some(script) = words.first().filter(|_| command) else {
        let doubt = Some("it is started by a script, which is not read".to_owned());
        return vec![Program { doubt, ..program }];
    };
    let found = shell::commands(script, variables, words.get(1..).unwrap_or_default());
    found.into_iter().flat_map(|(inner, known)| unwrap(inner, &known, deep)).collect()
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests;
