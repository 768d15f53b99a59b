//! Environment variables: assignments, and the files of `EnvironmentFile=`, whose quotes are neither a unit's nor a shell's
//! (systemd.exec(5); systemd: `src/basic/env-file.c:parse_env_file_internal`).

/// `NAME=value`, if the name is one (systemd: `src/basic/env-util.c:env_assignment_is_valid`).
pub fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_name.then(|| (name.to_owned(), value.to_owned()))
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    BeforeKey,
    Key,
    BeforeValue,
    Value,
    ValueEscape,
    Single,
    Double,
    DoubleEscape,
    Comment,
    CommentEscape,
}

/// What a backslash takes its meaning from within double quotes (systemd: `src/basic/escape.h:SHELL_NEED_ESCAPE`).
const SHELL_NEED_ESCAPE: [char; 4] = ['"', '\\', '`', '$'];
const NEWLINES: [char; 2] = ['\n', '\r'];

#[derive(Default)]
struct Pair {
    key: String,
    value: String,
    /// So much of the value is kept when white space at its end is taken off: what stood in quotes.
    kept: usize,
}

impl Pair {
    fn end(&mut self, found: &mut Vec<(String, String)>) {
        let end = self.value.trim_end().len().max(self.kept);
        self.value.truncate(end);
        found.extend(assignment(&format!("{}={}", self.key.trim_end(), self.value)));
        *self = Self::default();
    }

    fn literal(&mut self, c: char) {
        self.value.push(c);
        self.kept = self.value.len();
    }
}

/// The variables of a file, in its order; of a name that is there twice the last one counts. The error says what may be
/// read in two ways.
pub fn file(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let (mut found, mut pair, mut state) = (Vec::new(), Pair::default(), State::BeforeKey);
    for c in text.chars() {
        state = step(state, c, &mut pair, &mut found)?;
    }
    match state {
        State::Single | State::Double | State::DoubleEscape => return Err("a quote in it is not closed"),
        State::BeforeValue | State::Value | State::ValueEscape => pair.end(&mut found),
        _ => {}
    }
    Ok(found)
}

fn step(state: State, c: char, pair: &mut Pair, found: &mut Vec<(String, String)>) -> Result<State, &'static str> {
    let newline = NEWLINES.contains(&c);
    Ok(match state {
        State::BeforeKey | State::Key if newline => {
            *pair = Pair::default();
            State::BeforeKey
        }
        State::BeforeKey if c == '#' || c == ';' => State::Comment,
        State::BeforeKey if c.is_ascii_whitespace() => State::BeforeKey,
        State::Key if c == '=' => State::BeforeValue,
        State::BeforeKey | State::Key => {
            pair.key.push(c);
            State::Key
        }
        State::BeforeValue | State::Value if newline => {
            pair.end(found);
            State::BeforeKey
        }
        State::BeforeValue | State::Value if c == '\\' => State::ValueEscape,
        State::BeforeValue if c == '\'' => State::Single,
        State::BeforeValue if c == '"' => State::Double,
        State::BeforeValue if c.is_ascii_whitespace() => State::BeforeValue,
        State::BeforeValue | State::Value => {
            pair.value.push(c);
            State::Value
        }
        State::ValueEscape => {
            if !newline {
                pair.literal(c);
            }
            State::Value
        }
        State::Single | State::Double | State::DoubleEscape => quoted(state, c, pair),
        State::Comment if newline => State::BeforeKey,
        State::Comment if c == '\\' => State::CommentEscape,
        // a comment goes on with the next line before systemd 254, and ends since (its NEWS)
        State::CommentEscape if newline => return Err("a comment in it ends with a backslash"),
        State::Comment | State::CommentEscape => State::Comment,
    })
}

fn quoted(state: State, c: char, pair: &mut Pair) -> State {
    match state {
        State::Single if c == '\'' => State::BeforeValue,
        State::Double if c == '"' => State::BeforeValue,
        State::Double if c == '\\' => State::DoubleEscape,
        State::DoubleEscape => {
            if !SHELL_NEED_ESCAPE.contains(&c) && c != '\n' {
                pair.literal('\\');
            }
            if c != '\n' {
                pair.literal(c);
            }
            State::Double
        }
        other => {
            pair.literal(c);
            other
        }
    }
}
