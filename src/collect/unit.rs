//! The kubelet's command line as its systemd unit says it: fragments, drop-ins, environment files (systemd.unit(5),
//! systemd.service(5) "Command lines", systemd.exec(5) "Environment").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::host::fs::Root;

/// Where units are looked for, most important first (systemd.unit(5)).
const UNIT_DIRS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// What execve(2) takes of arguments where the stack has its usual limit: a file of a megabyte that names a variable of
/// a megabyte over and over must not fill the memory.
pub(super) const MAX_ARGUMENTS: usize = 2 << 20;

/// The words of `ExecStart=`, variables expanded. None if there is no such unit here.
pub(super) fn command_line(root: &Root, unit: &str, notes: &mut Vec<String>) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    let fragment = UNIT_DIRS.iter().find_map(|dir| root.read_text(&Path::new(dir).join(unit)).ok())?;
    texts.push(fragment);
    for path in drop_ins(root, unit) {
        match root.read_text(&path) {
            Ok(text) => texts.push(text),
            Err(e) => notes.push(format!("kubelet drop-in not read: {e}")),
        }
    }
    let service = Service::parse(&texts);
    let mut variables = service.environment;
    for file in service.environment_files {
        let (path, optional) = match file.strip_prefix('-') {
            Some(path) => (path, true),
            None => (file.as_str(), false),
        };
        match root.read_text(Path::new(path)) {
            Ok(text) => variables.extend(logical_lines(&text).iter().filter_map(|l| assignment(l))),
            Err(_) if optional => {}
            Err(e) => notes.push(format!("the kubelet's environment not read: {e}")),
        }
    }
    let words = expand(&service.exec_start, &variables);
    if words.is_none() {
        notes.push(format!("the command line of {unit} is longer than the system takes: its flags are not known"));
    }
    Some(words.unwrap_or_default())
}

/// A drop-in of the same name in a more important directory takes another's place.
fn drop_ins(root: &Root, unit: &str) -> Vec<PathBuf> {
    let mut by_name = BTreeMap::new();
    for dir in UNIT_DIRS {
        let dir = Path::new(dir).join(format!("{unit}.d"));
        for name in root.list(&dir).unwrap_or_default() {
            if Path::new(&name).extension().is_some_and(|e| e == "conf") {
                by_name.entry(name.clone()).or_insert_with(|| dir.join(name));
            }
        }
    }
    // a link to /dev/null masks a drop-in (systemd.unit(5))
    let masked = |path: &PathBuf| root.read_link(path).is_ok_and(|target| target == Path::new("/dev/null"));
    by_name.into_values().filter(|path| !masked(path)).collect()
}

#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) environment: BTreeMap<String, String>,
    environment_files: Vec<String>,
    pub(super) exec_start: String,
}

impl Service {
    pub(super) fn parse(texts: &[String]) -> Self {
        let mut service = Self::default();
        for text in texts {
            let mut section = String::new();
            for line in logical_lines(text) {
                if line.starts_with('[') {
                    section = line;
                } else if section == "[Service]"
                    && let Some((key, value)) = line.split_once('=')
                {
                    service.set(key.trim(), value.trim());
                }
            }
        }
        service
    }

    /// An empty value forgets what came before.
    fn set(&mut self, key: &str, value: &str) {
        match (key, value) {
            ("ExecStart", _) => value.clone_into(&mut self.exec_start),
            ("Environment", "") => self.environment.clear(),
            ("Environment", _) => self.environment.extend(words(value).iter().filter_map(|w| assignment(w))),
            ("EnvironmentFile", "") => self.environment_files.clear(),
            ("EnvironmentFile", _) => self.environment_files.push(value.to_owned()),
            _ => {}
        }
    }
}

/// Lines without comments, joined where they end in a backslash.
pub(super) fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
        let (part, continues) = line.strip_suffix('\\').map_or((line, false), |l| (l, true));
        match lines.last_mut() {
            Some(last) if open => {
                last.push(' ');
                last.push_str(part);
            }
            _ => lines.push(part.to_owned()),
        }
        open = continues;
    }
    lines.retain(|l| !l.trim().is_empty());
    lines
}

/// `NAME=value`, the value perhaps in quotes.
pub(super) fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.trim().split_once('=')?;
    let value = value.trim();
    let bare = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
    Some((name.trim().to_owned(), bare.unwrap_or(value).to_owned()))
}

/// Words at white space, quotes joined and taken off.
pub(super) fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut escaped) = (Vec::new(), None::<String>, None, false);
    for c in text.chars() {
        match (quote, c) {
            _ if escaped => {
                word.get_or_insert_default().push(c);
                escaped = false;
            }
            (_, '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// `$NAME` as a word of its own is split at white space, `${NAME}` within a word is not (systemd.service(5)).
/// None if the whole is longer than [`MAX_ARGUMENTS`].
pub(super) fn expand(command: &str, variables: &BTreeMap<String, String>) -> Option<Vec<String>> {
    let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    let (mut expanded, mut room) = (Vec::new(), MAX_ARGUMENTS);
    for word in words(command) {
        let more = match word.strip_prefix('$') {
            Some(name) if !name.is_empty() && !name.starts_with(['{', '$']) => words(value(name)),
            _ => vec![substitute(&word, value)?],
        };
        for word in more {
            room = room.checked_sub(word.len() + 1)?;
            expanded.push(word);
        }
    }
    Some(expanded)
}

fn substitute<'a>(word: &str, value: impl Fn(&str) -> &'a str) -> Option<String> {
    let (mut out, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        match after.split_once('}') {
            Some((name, tail)) => {
                out.push_str(value(name));
                rest = tail;
            }
            None => return Some(out + "${" + after),
        }
        if out.len() > MAX_ARGUMENTS {
            return None;
        }
    }
    Some(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(texts: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
        let service = Service::parse(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        let mut all = service.environment;
        all.extend(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        expand(&service.exec_start, &all).unwrap()
    }

    #[test]
    fn kubeadms_drop_in_replaces_the_command_and_expands_its_variables() {
        let unit = "[Service]\nExecStart=/usr/bin/kubelet\n[Install]\nExecStart=no\n";
        let drop_in = "# c\n[Service]\nEnvironment=\"A=--kubeconfig=/k --x=1\"\nExecStart=\n\
                       ExecStart=/usr/bin/kubelet $A \\\n  $B $NONE --c=${D}\n";
        assert_eq!(
            run(&[unit, drop_in], &[("B", "--b 'two words'"), ("D", "d e")]),
            ["/usr/bin/kubelet", "--kubeconfig=/k", "--x=1", "--b", "two words", "--c=d e"]
        );
    }

    #[test]
    fn a_command_line_that_grows_beyond_what_the_system_takes_is_none() {
        let variables = BTreeMap::from([("A".to_owned(), "x".repeat(1 << 20)), ("B".to_owned(), "y ".repeat(1 << 19))]);
        assert!(expand("kubelet ${A}", &variables).is_some());
        for command in ["${A}".repeat(1 << 18), "${A} ".repeat(1 << 18), "$B ".repeat(1 << 18)] {
            assert_eq!(expand(&command, &variables), None);
        }
    }

    #[test]
    fn an_environment_file_may_quote() {
        assert_eq!(
            assignment("KUBELET_KUBEADM_ARGS=\"--a=b --c\""),
            Some(("KUBELET_KUBEADM_ARGS".into(), "--a=b --c".into()))
        );
        assert_eq!(assignment("nothing"), None);
    }
}
