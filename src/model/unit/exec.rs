//! The command of `ExecStart=` (systemd.service(5), "Command lines").

use std::collections::BTreeMap;

use super::words::{self, Rules, Unbalanced};

/// What execve(2) takes of arguments where the stack has its usual limit: a file of a megabyte that names a variable of
/// a megabyte over and over must not fill the memory.
pub const MAX_ARGUMENTS: usize = 2 << 20;

/// The command line is longer than [`MAX_ARGUMENTS`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooLong;

/// One command, its specifiers and variables not resolved.
pub(super) struct Command {
    pub(super) words: Vec<String>,
    /// `:`, variables are left as they are.
    pub(super) verbatim: bool,
    /// A clause.
    pub(super) doubt: Option<&'static str>,
}

/// systemd: `src/core/load-fragment.c:config_parse_exec`.
pub(super) fn command(value: &str) -> Result<Command, Unbalanced> {
    let mut rest = value;
    let program = words::next(&mut rest, Rules::Unit)?.unwrap_or_default();
    let path = program.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let prefix = program.get(..program.len() - path.len()).unwrap_or_default();
    let mut command = Command { words: vec![path.to_owned()], verbatim: prefix.contains(':'), doubt: None };
    if prefix.contains('@') {
        // the next word is what the program is told that it is called
        let none = is_separator(rest, ";").is_some() || words::next(&mut rest, Rules::Unit)?.is_none();
        command.doubt = none.then_some("the unit gives its program no name behind the @");
    }
    loop {
        if let Some(after) = is_separator(rest, "\\;") {
            command.words.push(";".to_owned());
            rest = after.trim_start();
        } else if is_separator(rest, ";").is_some() {
            command.doubt = Some("the unit has several commands in ExecStart=");
            return Ok(command);
        } else if let Some(word) = words::next(&mut rest, Rules::Unit)? {
            command.words.push(word);
        } else {
            return Ok(command);
        }
    }
}

/// What is behind `mark`, if that is a word of its own.
fn is_separator<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.strip_prefix(mark).filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// The words with their variables: `$NAME` as a word of its own is split at white space, `${NAME}` within a word is not, `$$`
/// is a dollar sign (systemd: `src/basic/env-util.c:replace_env_argv`).
///
/// # Errors
/// [`TooLong`].
pub fn expand(command: &[String], variables: &BTreeMap<String, String>) -> Result<Vec<String>, TooLong> {
    let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    let (mut expanded, mut room) = (Vec::new(), MAX_ARGUMENTS);
    for word in command {
        let more = match word.strip_prefix('$') {
            Some(name) if !name.starts_with(['{', '$']) => words::split(value(name), Rules::Value).unwrap_or_default(),
            _ => vec![substitute(word, value)?],
        };
        for word in more {
            room = room.checked_sub(word.len() + 1).ok_or(TooLong)?;
            expanded.push(word);
        }
    }
    Ok(expanded)
}

fn substitute<'a>(word: &str, value: impl Fn(&str) -> &'a str) -> Result<String, TooLong> {
    let (mut out, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        rest = match (braced, after.strip_prefix('$')) {
            (Some((name, tail)), _) => {
                out.push_str(value(name));
                tail
            }
            (None, Some(tail)) => {
                out.push('$');
                tail
            }
            (None, None) => {
                out.push('$');
                after
            }
        };
        if out.len() > MAX_ARGUMENTS {
            return Err(TooLong);
        }
    }
    Ok(out + rest)
}
