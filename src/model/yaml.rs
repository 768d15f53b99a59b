//! YAML as Kubernetes' own files use it, from hands that nobody vouches for: bounded in nodes, depth and aliases.

use serde::de::DeserializeOwned;
use serde_saphyr::DuplicateKeyPolicy;

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
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        // as the kubelet reads manifests (sigs.k8s.io/yaml, not strict)
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        with_snippet: false,
    };
    // one document at a time: what follows the first is not even looked at, as by sigs.k8s.io/yaml
    let mut reader = text.as_bytes();
    let first = serde_saphyr::read_with_options(&mut reader, options.clone()).next();
    let parsed = first.unwrap_or_else(|| serde_saphyr::from_str_with_options(text, options));
    parsed.map_err(|e| e.location().map_or(YamlError::Somewhere, |l| YamlError::At { line: l.line() }))
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
        assert_eq!(parse::<BTreeMap<String, u8>>("\u{feff}a: 1\n").map(|m| m.len()), Ok(1), "a byte order mark");
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
