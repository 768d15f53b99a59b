//! The simple commands of a shell script, with the words that the shell makes of them (POSIX.1, "Shell Command Language"): quotes,
//! variables whose value is known, lists, loops, here-documents. Nothing is run, so that every command of a script counts,
//! whatever stands before it.

use super::{Program, Variables};

/// A script longer than this is not read.
const LONGEST: usize = 256 << 10;

/// Words after which a command begins.
const BEFORE: [&str; 11] = ["if", "then", "else", "elif", "while", "until", "do", "!", "{", "exec", "command"];
/// Words that begin no command.
const NONE: [&str; 8] = ["fi", "done", "}", "esac", "in", "for", "case", "select"];

/// Each simple command, with the variables that it is started with.
pub(super) fn commands(script: &str, variables: &Variables, positional: &[String]) -> Vec<(Program, Variables)> {
    let mut reader = Reader { rest: script, variables: variables.clone(), positional, here: Vec::new() };
    let mut found = Vec::new();
    if script.len() > LONGEST {
        let doubt = Some("its script is too long".to_owned());
        return vec![(Program { words: Vec::new(), doubt }, variables.clone())];
    }
    while !reader.rest.is_empty() {
        let words = reader.command();
        found.extend(reader.simple(words));
    }
    found
}

struct Reader<'a> {
    rest: &'a str,
    variables: Variables,
    positional: &'a [String],
    /// The ends of here-documents that begin with the next line.
    here: Vec<String>,
}

/// A word of the script.
#[derive(Default)]
struct Word {
    /// More than one, or none, where a variable was split.
    texts: Vec<String>,
    doubt: Option<String>,
    /// Not in quotes, so that a word of the language may be meant.
    bare: bool,
}

impl Reader<'_> {
    /// The words up to the next end of a command.
    fn command(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        loop {
            self.blanks();
            let mut chars = self.rest.chars();
            match chars.next() {
                None => return words,
                Some('\n') => {
                    self.rest = chars.as_str();
                    self.here_documents();
                    return words;
                }
                Some(';' | '&' | '|' | '(' | ')') => {
                    self.rest = chars.as_str();
                    return words;
                }
                Some('#') => self.rest = self.rest.find('\n').and_then(|at| self.rest.get(at..)).unwrap_or_default(),
                Some('<' | '>') => self.redirection(),
                Some(_) => {
                    let before = self.rest.len();
                    let word = self.word();
                    // `2>file`
                    let number = word.bare && word.texts.iter().all(|t| t.bytes().all(|b| b.is_ascii_digit()));
                    if !(number && self.rest.starts_with(['<', '>'])) {
                        words.push(word);
                    }
                    if self.rest.len() == before {
                        self.rest = chars.as_str(); // nothing can be made of it
                    }
                }
            }
        }
    }

    fn blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r']);
            match self.rest.strip_prefix("\\\n") {
                Some(rest) => self.rest = rest,
                None => return,
            }
        }
    }

    fn redirection(&mut self) {
        let operator = self.rest.len() - self.rest.trim_start_matches(['<', '>']).len();
        let here = self.rest.starts_with("<<") && operator == 2;
        self.rest = self.rest.get(operator..).unwrap_or_default().trim_start_matches(['&', '|', '-']);
        self.blanks();
        let target = self.word();
        if here {
            self.here.extend(target.texts.into_iter().next());
        }
    }

    fn here_documents(&mut self) {
        for end in std::mem::take(&mut self.here) {
            while !self.rest.is_empty() {
                let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
                self.rest = rest;
                if line.trim_start_matches('\t') == end {
                    break;
                }
            }
        }
    }

    fn word(&mut self) -> Word {
        let mut word = Word { bare: true, ..Word::default() };
        let mut text: Option<String> = None;
        while let Some(c) = self.rest.chars().next() {
            let after = self.rest.get(c.len_utf8()..).unwrap_or_default();
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                '\'' => {
                    let (inner, rest) = after.split_once('\'').unwrap_or((after, ""));
                    text.get_or_insert_default().push_str(inner);
                    (self.rest, word.bare) = (rest, false);
                }
                '"' => {
                    self.rest = after;
                    word.bare = false;
                    self.double(text.get_or_insert_default(), &mut word.doubt);
                }
                '\\' => {
                    let escaped = after.chars().next();
                    text.get_or_insert_default().extend(escaped.filter(|c| *c != '\n'));
                    self.rest = after.get(escaped.map_or(0, char::len_utf8)..).unwrap_or_default();
                }
                '$' | '`' => {
                    let value = self.expansion(&mut word.doubt);
                    // what a variable holds is split, and its parts belong to what surrounds it
                    let mut parts = value.split_ascii_whitespace();
                    if value.starts_with(|c: char| c.is_ascii_whitespace()) {
                        word.texts.extend(text.take());
                    }
                    if let Some(first) = parts.next() {
                        text.get_or_insert_default().push_str(first);
                    }
                    for part in parts {
                        word.texts.extend(text.replace(part.to_owned()));
                    }
                    word.bare = false;
                }
                _ => {
                    text.get_or_insert_default().push(c);
                    self.rest = after;
                }
            }
        }
        word.texts.extend(text);
        word
    }

    /// Behind the first `"`.
    fn double(&mut self, text: &mut String, doubt: &mut Option<String>) {
        while let Some(c) = self.rest.chars().next() {
            let after = self.rest.get(c.len_utf8()..).unwrap_or_default();
            match c {
                '"' => {
                    self.rest = after;
                    return;
                }
                '\\' => {
                    let escaped = after.chars().next();
                    match escaped {
                        Some('\n') => {}
                        Some(e @ ('"' | '\\' | '$' | '`')) => text.push(e),
                        other => {
                            text.push('\\');
                            text.extend(other);
                        }
                    }
                    self.rest = after.get(escaped.map_or(0, char::len_utf8)..).unwrap_or_default();
                }
                '$' | '`' => {
                    let value = self.expansion(doubt);
                    text.push_str(&value);
                }
                _ => {
                    text.push(c);
                    self.rest = after;
                }
            }
        }
        *doubt = Some("a quote in its script is not closed".to_owned());
    }

    /// The value of what begins with `$` or a back quote; what is not known stays as it stands there.
    fn expansion(&mut self, doubt: &mut Option<String>) -> String {
        let start = self.rest;
        let mut unknown = |length: usize| {
            let (text, rest) = start.split_at_checked(length).unwrap_or((start, ""));
            *doubt = Some(format!("its script uses {text}, whose value is not known here"));
            (text.to_owned(), rest)
        };
        let name_of = |text: &str| {
            let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
            text.get(..end).unwrap_or_default().to_owned()
        };
        let (value, rest) = if let Some(inner) = start.strip_prefix("${") {
            let name = name_of(inner);
            let tail = inner.get(name.len()..).unwrap_or_default();
            match (self.known(&name), tail.split_once('}')) {
                (Some(value), Some(("", rest))) => (value, rest),
                (Some(value), Some((operator, rest))) if operator.starts_with(":-") && !value.is_empty() => {
                    (value, rest)
                }
                (None, Some((operator, rest))) if operator.starts_with(":-") && !operator.contains('$') => {
                    (operator.get(2..).unwrap_or_default().to_owned(), rest)
                }
                (_, Some((operator, _))) => unknown(2 + name.len() + operator.len() + 1),
                (_, None) => unknown(start.len()),
            }
        } else if start.starts_with("$(") || start.starts_with('`') {
            unknown(substitution(start))
        } else {
            let name = start.get(1..).map(|rest| {
                let name = name_of(rest);
                // `$1`, `$@`
                if name.is_empty() { rest.chars().next().map(String::from).unwrap_or_default() } else { name }
            });
            let name = name.unwrap_or_default();
            let rest = start.get(1 + name.len()..).unwrap_or_default();
            match self.known(&name) {
                Some(value) => (value, rest),
                None if name.is_empty() => ("$".to_owned(), rest),
                None => unknown(1 + name.len()),
            }
        };
        self.rest = rest;
        value
    }

    fn known(&self, name: &str) -> Option<String> {
        match name {
            "@" | "*" => Some(self.positional.get(1..).unwrap_or_default().join(" ")),
            _ => match name.parse::<usize>() {
                Ok(at) => Some(self.positional.get(at).cloned().unwrap_or_default()),
                Err(_) => self.variables.get(name).cloned(),
            },
        }
    }

    /// The command that some words are, if they are one.
    fn simple(&mut self, words: Vec<Word>) -> Option<(Program, Variables)> {
        let (mut variables, mut program) = (self.variables.clone(), Program::default());
        let mut begun = false;
        let mut assigned = Vec::new();
        for word in words {
            let text = word.texts.first().map(String::as_str).unwrap_or_default();
            if !begun && word.bare && BEFORE.contains(&text) {
                continue;
            }
            if !begun && word.bare && NONE.contains(&text) {
                return None;
            }
            let pair = text.split_once('=').filter(|(name, _)| is_name(name)).filter(|_| !begun);
            if let Some((name, _)) = pair {
                let whole = word.texts.join(" ");
                let value = whole.get(name.len() + 1..).unwrap_or_default().to_owned();
                // what is not known stays unknown
                match word.doubt {
                    None => drop(variables.insert(name.to_owned(), value.clone())),
                    Some(_) => drop(variables.remove(name)),
                }
                assigned.push((name.to_owned(), word.doubt.is_none().then_some(value)));
                continue;
            }
            if !begun && matches!(text, "export" | "readonly" | "local" | "declare") {
                continue;
            }
            begun |= !word.texts.is_empty();
            program.words.extend(word.texts);
            program.doubt = program.doubt.or(word.doubt);
        }
        if !begun {
            for (name, value) in assigned {
                match value {
                    Some(value) => drop(self.variables.insert(name, value)),
                    None => drop(self.variables.remove(&name)),
                }
            }
        }
        begun.then_some((program, variables))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The length of `$(…)` or of what stands in back quotes.
fn substitution(text: &str) -> usize {
    if let Some(inner) = text.strip_prefix('`') {
        return inner.find('`').map_or(text.len(), |at| at + 2);
    }
    let mut open = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => open += 1,
            ')' if open == 1 => return at + 1,
            ')' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    text.len()
}
