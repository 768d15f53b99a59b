//! Words as systemd takes them out of a line (systemd: `src/basic/extract-word.c:extract_first_word`).

/// A quote that is not closed, or an escape that is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unbalanced;

/// How quotes and backslashes are meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rules {
    /// In a unit file: C escapes; those that are unknown stay as they are (`extract_first_word_and_warn`).
    Unit,
    /// The same, where an unknown escape is an error (`Environment=`; `src/core/load-fragment.c:config_parse_environ`).
    Strict,
    /// In the value of a variable that is split: a backslash is taken off, an open quote ends with the text
    /// (`src/basic/env-util.c:replace_env_argv`).
    Value,
}

/// All words of a text.
pub(super) fn split(text: &str, rules: Rules) -> Result<Vec<String>, Unbalanced> {
    let (mut words, mut rest) = (Vec::new(), text);
    while let Some(word) = next(&mut rest, rules)? {
        words.push(word);
    }
    Ok(words)
}

/// The first word, which is taken off `rest`.
pub(super) fn next(rest: &mut &str, rules: Rules) -> Result<Option<String>, Unbalanced> {
    *rest = rest.trim_start_matches(SEPARATORS);
    if rest.is_empty() {
        return Ok(None);
    }
    let (mut word, mut quote) = (String::new(), None);
    loop {
        let mut chars = rest.chars();
        let Some(c) = chars.next() else { break };
        let after = chars.as_str();
        match (quote, c) {
            (_, '\\') => *rest = escape(after, &mut word, rules)?,
            (Some(q), _) if c == q => (quote, *rest) = (None, after),
            (None, '"' | '\'') => (quote, *rest) = (Some(c), after),
            (None, _) if SEPARATORS.contains(&c) => {
                *rest = after.trim_start_matches(SEPARATORS);
                return Ok(Some(word));
            }
            _ => {
                word.push(c);
                *rest = after;
            }
        }
    }
    if quote.is_some() && rules != Rules::Value { Err(Unbalanced) } else { Ok(Some(word)) }
}

const SEPARATORS: [char; 4] = [' ', '\t', '\n', '\r'];

/// What a backslash before `text` adds to the word; the rest behind it.
fn escape<'a>(text: &'a str, word: &mut String, rules: Rules) -> Result<&'a str, Unbalanced> {
    let mut chars = text.chars();
    let Some(c) = chars.next() else {
        return match rules {
            Rules::Strict => Err(Unbalanced),
            Rules::Value => Ok(text),
            Rules::Unit => {
                word.push('\\');
                Ok(text)
            }
        };
    };
    if rules == Rules::Value {
        word.push(c);
        return Ok(chars.as_str());
    }
    if let Some((meant, rest)) = c_escape(c, chars.as_str()) {
        word.push(meant);
        return Ok(rest);
    }
    if rules == Rules::Strict {
        return Err(Unbalanced);
    }
    word.push('\\');
    word.push(c);
    Ok(chars.as_str())
}

/// systemd: `src/basic/escape.c:cunescape_one`.
fn c_escape(c: char, rest: &str) -> Option<(char, &str)> {
    let number = |radix, digits: &str, rest| {
        let code = u32::from_str_radix(digits, radix).ok().filter(|code| *code != 0)?;
        char::from_u32(code).map(|c| (c, rest))
    };
    let hex = |len: usize| {
        let (digits, rest) = rest.split_at_checked(len)?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| number(16, digits, rest))?
    };
    let plain = |meant| Some((meant, rest));
    match c {
        'a' => plain('\u{7}'),
        'b' => plain('\u{8}'),
        'f' => plain('\u{c}'),
        'n' => plain('\n'),
        'r' => plain('\r'),
        't' => plain('\t'),
        'v' => plain('\u{b}'),
        's' => plain(' '),
        '\\' | '"' | '\'' => plain(c),
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        '0'..='7' => {
            let (digits, tail) =
                rest.split_at_checked(2).filter(|(d, _)| d.bytes().all(|b| (b'0'..=b'7').contains(&b)))?;
            number(8, &format!("{c}{digits}"), tail)
        }
        _ => None,
    }
}
