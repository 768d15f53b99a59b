//! A fragment's text as keys and values with their positions.

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

/// Something written in a fragment.
#[derive(Debug)]
pub(super) enum Item {
    /// A key whose value is no table.
    Leaf { path: Vec<String>, value: Value, at: usize },
    /// A table that was opened, with or without keys in it.
    Section { path: Vec<String>, at: usize },
}

/// A syntax error: byte offset and text.
pub(super) type SyntaxError = (usize, String);

/// Everything that is written in `text`, in its order of keys. Offsets are those of the keys, in bytes.
pub(super) fn items(text: &str) -> Result<Vec<Item>, Vec<SyntaxError>> {
    let syntax = |e: &toml::de::Error| (e.span().map_or(0, |s| s.start), e.message().to_owned());
    let (spanned, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(syntax).collect());
    }
    // the same text once more as plain values: what the parser's own tree cannot hold (an integer beyond 64 bits) fails here
    let values: Table = toml::from_str(text).map_err(|e| vec![syntax(&e)])?;
    let mut found = Vec::new();
    walk(spanned.get_ref(), &values, &mut Vec::new(), &mut found);
    Ok(found)
}

fn walk(spanned: &DeTable<'_>, values: &Table, path: &mut Vec<String>, found: &mut Vec<Item>) {
    for (key, spanned_value) in spanned {
        let (name, at) = (key.get_ref().to_string(), key.span().start);
        let Some(value) = values.get(&name) else { continue };
        path.push(name);
        match (Spanned::get_ref(spanned_value), value) {
            (DeValue::Table(inner), Value::Table(inner_values)) => {
                found.push(Item::Section { path: path.clone(), at });
                walk(inner, inner_values, path, found);
            }
            _ => found.push(Item::Leaf { path: path.clone(), value: value.clone(), at }),
        }
        path.pop();
    }
}

/// Line and column of a byte offset, both from 1; the column counts characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    (line, before.get(line_start..).unwrap_or("").chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a = 1\nß = 2\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, text.find('2').unwrap()), (2, 5));
        assert_eq!(position(text, 10_000), (3, 1));
    }

    #[test]
    fn a_dotted_key_and_a_section_give_the_same_path() {
        for text in
            ["renew.renew-before = \"1d\"", "[renew]\nrenew-before = \"1d\"", "renew = { renew-before = \"1d\" }"]
        {
            let leaves: Vec<_> = items(text)
                .unwrap()
                .into_iter()
                .filter_map(|i| if let Item::Leaf { path, .. } = i { Some(path.join(".")) } else { None })
                .collect();
            assert_eq!(leaves, ["renew.renew-before"], "{text}");
        }
    }
}
