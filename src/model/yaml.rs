//! YAML as Kubernetes' own files use it, from hands that nobody vouches for: bounded in nodes, depth and aliases.

use serde::de::DeserializeOwned;
use serde_saphyr::DuplicateKeyPolicy;
use serde_saphyr::granit_parser::{Scanner, StrInput, Token, TokenType};

/// Deeper than any pod manifest or kubeconfig, shallow enough for every stack.
const MAX_DEPTH: usize = 48;
/// Aliases are legal and nobody uses them in these files; a "billion laughs" needs many.
const MAX_REPLAYED: usize = 10_000;

/// What is wrong with a YAML document, without a quotation from it: a kubeconfig holds keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum YamlError {
    #[error("not YAML of the expected form, at line {line}")]
    At { line: u64 },
    #[error("not YAML of the expected form")]
    Somewhere,
}

/// The first document of `text`; JSON is YAML too.
///
/// # Errors
/// [`YamlError`] for anything that is not a `T`, and for documents that would grow beyond all measure.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let text = first_document(text);
    if let Some(line) = foreign_anchor(text) {
        return Err(YamlError::At { line });
    }
    // Of a key that is there twice the last one counts, as for the kubelet (sigs.k8s.io/yaml, not strict). For that the
    // parser copies every level of the document; hardly any document needs it.
    let once = parse_with(text, DuplicateKeyPolicy::Error);
    let parsed = once.or_else(|_| parse_with(text, DuplicateKeyPolicy::LastWins));
    parsed.map_err(|e| e.location().map_or(YamlError::Somewhere, |l| YamlError::At { line: l.line() }))
}

fn parse_with<T: DeserializeOwned>(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<T, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        duplicate_keys: duplicate_keys,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// The line of an anchor or alias whose name YAML 1.2 continues where the kubelet's parser ends it: `&a:0 b` is the name `a:0` and
/// the text `b` here, the name `a` and the text `:0 b` there (kubernetes: vendor/go.yaml.in/yaml/v2/scannerc.go:
/// `yaml_parser_scan_anchor`, `is_alpha`).
fn foreign_anchor(text: &str) -> Option<u64> {
    // hardly any document has one of these, and scanning it twice takes time
    if !text.contains(['&', '*']) {
        return None;
    }
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut tokens = Scanner::new(StrInput::new(text)).map_while(Result::ok).map(Token::into_parts);
    let foreign = |token: &TokenType<'_>| match token {
        TokenType::Anchor(name) | TokenType::Alias(name) => !name.chars().all(is_of_name),
        _ => false,
    };
    let (span, _) = tokens.find(|(_, token)| foreign(token))?;
    u64::try_from(span.start.line()).ok()
}

/// What follows the first document is not even looked at, as by sigs.k8s.io/yaml. The marks that end one stand at the
/// beginning of a line and cannot be content, not even of a quoted scalar (YAML 1.2 §9.1.2, `c-forbidden`).
fn first_document(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut at, mut begun) = (0, false);
    for line in text.split_inclusive('\n') {
        let is_mark = |mark| {
            line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        let is_content = || !line.trim().is_empty() && !line.starts_with(['#', '%']);
        match (is_mark("---"), is_mark("...")) {
            (true, _) | (_, true) if begun => return text.get(..at).unwrap_or(text),
            (true, _) => begun = true,
            (_, true) => {}
            _ => begun |= is_content(),
        }
        at += line.len();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    #[test]
    fn an_alias_bomb_is_an_error() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            let _ = writeln!(bomb, "a{i}: &a{i} [{refs}]");
        }
        assert!(parse::<serde_json::Value>(&bomb).is_err());
    }

    #[test]
    fn only_the_first_document_counts() {
        let two = parse::<BTreeMap<String, u8>>("---\na: 1\n---\nb: [\n");
        assert_eq!(two, Ok(BTreeMap::from([("a".to_owned(), 1)])));
        let one = BTreeMap::from([("a".to_owned(), 1)]);
        for text in [
            "\u{feff}a: 1\n",
            "\u{feff}---\na: 1\n---\na: 2\n",
            "%YAML 1.2\n# why\n\n---\na: 1\n...\nrubbish: [",
            "a: 1\r\n---\r\na: 2\r\n",
            "{a:\n 1}\n--- {a: 2}",
            "a: 1\n---",
        ] {
            assert_eq!(parse::<BTreeMap<String, u8>>(text), Ok(one.clone()), "{text:?}");
        }
        let dashes = parse::<BTreeMap<String, String>>("a: |\n  ---\n  x\nb: ---x\n").unwrap();
        assert_eq!((dashes["a"].as_str(), dashes["b"].as_str()), ("---\nx\n", "---x"), "no marks");
    }

    #[test]
    fn of_a_key_that_is_there_twice_the_last_one_counts() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Outer {
            a: BTreeMap<String, u8>,
            b: Option<u8>,
        }
        let parsed = parse::<Outer>("a: {x: 1, x: 2}\nb: 1\na: {x: 3, y: 4, x: 5}\nc: {d: 1, d: 2}\nb: 6\n").unwrap();
        let a = BTreeMap::from([("x".to_owned(), 5), ("y".to_owned(), 4)]);
        assert_eq!(parsed, Outer { a, b: Some(6) });
    }

    #[test]
    fn an_anchor_that_the_kubelet_would_read_differently_is_an_error() {
        for (text, line) in [("a: &b:0 c\n", 1), ("a: 1\nb: &ü c\n", 2), ("a: &b 1\nc: *b: d\n", 2)] {
            assert_eq!(parse::<serde_json::Value>(text), Err(YamlError::At { line }), "{text:?}");
        }
        let fine = parse::<BTreeMap<String, String>>("a: &b-0_1 c\nd: *b-0_1\ne: x && y:*z\n\"&x\": '*:'\n").unwrap();
        assert_eq!((fine["d"].as_str(), fine["e"].as_str(), fine["&x"].as_str()), ("c", "x && y:*z", "*:"));
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(parse::<serde_json::Value>(&deep).is_err());
    }

    #[test]
    fn errors_do_not_quote_the_document() {
        let error = parse::<BTreeMap<String, u8>>("a: SECRET\n").unwrap_err();
        assert_eq!(error.to_string(), "not YAML of the expected form, at line 1");
    }
}
