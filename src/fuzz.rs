//! What must hold of every input from a disk, a program or a server: the targets of `make fuzz`. Each layer keeps its
//! own in a file `fuzz.rs`; this one names them. `cargo test` replays the corpora under `fuzz/` and mutations of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken property is a panic; not part of the product"
)]

use crate::{collect, config, host, model, renew, txn};

/// Panics if the input breaks a property.
pub type Target = fn(&[u8]);

/// The targets by name: `fuzz/fuzz_targets/NAME.rs`, `fuzz/corpus/NAME/`.
pub const TARGETS: [(&str, Target); 16] = [
    ("answers", answers),
    ("cluster-config", renew::fuzz::cluster_config),
    ("config", config::fuzz::fragments),
    ("der", collect::fuzz::der),
    ("key", collect::fuzz::key),
    ("kubeconfig", model::fuzz::kubeconfig),
    ("kubelet", collect::fuzz::kubelet),
    ("ledger", txn::fuzz::ledger),
    ("manifest", collect::fuzz::manifest),
    ("node", collect::fuzz::node),
    ("pem", collect::fuzz::pem),
    ("plain", model::fuzz::plain),
    ("request", renew::fuzz::request),
    ("state", txn::fuzz::state),
    ("token", model::fuzz::token),
    ("unit", collect::fuzz::unit),
];

/// Runs the target of that name.
///
/// # Panics
/// If there is none, or the input breaks one of its properties.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(n, _)| *n == name);
    target.unwrap_or_else(|| panic!("there is no target {name}")).1(data);
}

/// What kubeadm, systemd, the container runtime and the API server say. The first byte chooses who speaks.
fn answers(data: &[u8]) {
    let Some((who, said)) = data.split_first() else { return };
    match who {
        b'r' => host::fuzz::runtime(said),
        b's' => host::fuzz::systemd(said),
        b'a' => host::fuzz::api(said),
        _ => renew::fuzz::staging(said),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::panic::catch_unwind;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::*;

    fn dir(of: &str, name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(of).join(name)
    }

    /// Inputs that are kept: a minimal set that reaches all code that fuzzing reached, and all that ever broke something.
    fn inputs(name: &str) -> Vec<Vec<u8>> {
        let files = ["corpus", "regressions"].map(|of| fs::read_dir(dir(of, name)));
        files.into_iter().flatten().flatten().map(|item| fs::read(item.unwrap().path()).unwrap()).collect()
    }

    #[test]
    fn every_target_has_a_program_and_a_corpus_and_nothing_else_has() {
        let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let listed = |of: &str| -> BTreeSet<String> {
            let files = fs::read_dir(dir(of, "")).unwrap().map(|f| f.unwrap().path());
            files.map(|f| f.file_stem().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(listed("fuzz_targets"), names);
        assert_eq!(listed("corpus"), names);
        assert!(listed("regressions").is_subset(&names), "a regression of nothing");
        for name in names {
            assert!(!inputs(&name).is_empty(), "{name}");
        }
    }

    #[test]
    fn everything_that_is_kept_holds() {
        for (name, target) in TARGETS {
            for input in inputs(name) {
                let holds = catch_unwind(|| target(&input)).is_ok();
                assert!(holds, "{name} breaks at b\"{}\"", input.escape_ascii());
            }
        }
    }

    /// A change that knows nothing of the format, and one that does: pieces of other inputs.
    #[derive(Clone, Debug)]
    enum Edit {
        Put(prop::sample::Index, u8),
        Cut(prop::sample::Index, usize),
        Repeat(prop::sample::Index, usize, usize),
        Splice(prop::sample::Index, prop::sample::Index, prop::sample::Index, usize),
    }

    #[derive(Clone)]
    struct Input(Vec<u8>);

    impl std::fmt::Debug for Input {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "b\"{}\"", self.0.escape_ascii())
        }
    }

    fn edit() -> impl Strategy<Value = Edit> {
        let at = any::<prop::sample::Index>;
        prop_oneof![
            3 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Put(at, byte)),
            2 => (at(), 1usize..40).prop_map(|(at, len)| Edit::Cut(at, len)),
            1 => (at(), 1usize..40, 1usize..200).prop_map(|(at, len, times)| Edit::Repeat(at, len, times)),
            3 => (at(), at(), at(), 1usize..200).prop_map(|(at, other, from, len)| Edit::Splice(at, other, from, len)),
        ]
    }

    fn apply(edits: &[Edit], seeds: &[Vec<u8>], of: prop::sample::Index) -> Vec<u8> {
        let mut bytes = of.get(seeds).clone();
        let piece = |bytes: &[u8], at: usize, len: usize| bytes[at..bytes.len().min(at + len)].to_vec();
        for edit in edits {
            let place = |at: &prop::sample::Index, bytes: &[u8]| at.index(bytes.len() + 1);
            match edit {
                Edit::Put(at, byte) => {
                    let at = place(at, &bytes);
                    if at == bytes.len() { bytes.push(*byte) } else { bytes[at] = *byte }
                }
                Edit::Cut(at, len) => {
                    let at = place(at, &bytes);
                    drop(bytes.drain(at..bytes.len().min(at + len)));
                }
                Edit::Repeat(at, len, times) => {
                    let at = place(at, &bytes);
                    let again = piece(&bytes, at, *len).repeat(*times);
                    drop(bytes.splice(at..at, again));
                }
                Edit::Splice(at, other, from, len) => {
                    let (at, other) = (place(at, &bytes), other.get(seeds));
                    let new = piece(other, place(from, other), *len);
                    drop(bytes.splice(at..at, new));
                }
            }
        }
        bytes
    }

    /// For a longer look: `FUZZ_CASES=100000`, or `make fuzz`, which learns from what it reaches.
    #[test]
    fn every_property_holds_of_mutations_of_what_is_kept() {
        let cases = std::env::var("FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        for (name, target) in TARGETS {
            let seeds = inputs(name);
            let strategy = (any::<prop::sample::Index>(), prop::collection::vec(edit(), 1..6));
            let input = strategy.prop_map(move |(of, edits)| Input(apply(&edits, &seeds, of)));
            let result = TestRunner::new(config.clone()).run(&input, |input| {
                target(&input.0);
                Ok(())
            });
            result.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}
