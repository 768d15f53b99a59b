//! Static pod manifests in every form that YAML has for one and the same pod: what certwarden reads is what libyaml reads, by whose
//! port the kubelet reads them (kubernetes: `sigs.k8s.io/yaml`), or it says that it is no manifest.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_debug_implementations,
    reason = "a test fails by panicking; made by proptest's macro"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use certwarden::collect::collect;
use certwarden::host::fs::Root;
use certwarden::model::policy::Kubeconfigs;
use jiff::Timestamp;
use libyaml_safer::{Document, NodeData, Parser};
use proptest::prelude::*;
use serde_json::json;

/// The flags of each component, and what is said of the manifests besides.
type Read = (BTreeMap<String, BTreeMap<String, String>>, Vec<String>);

fn certwarden(manifest: &str) -> Read {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("etc/kubernetes/manifests");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("a.yaml"), manifest).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let node = collect(&root, Timestamp::UNIX_EPOCH, &Kubeconfigs::default()).node;
    let flags = node.static_pods.into_iter().map(|(component, pod)| (component.to_string(), pod.flags)).collect();
    (flags, node.notes.into_iter().filter(|note| note.contains("a.yaml")).collect())
}

/// The words of the first container's command and arguments, by libyaml. None: it is refused.
fn libyaml(text: &str) -> Option<Vec<String>> {
    // 0.3.0 panics at a tag before a comma of a flow collection (`scanner.rs`: "TODO"): then it says nothing of this text
    let load = || {
        let mut bytes = text.as_bytes();
        let mut parser = Parser::new();
        parser.set_input(&mut bytes);
        Document::load(&mut parser)
    };
    let document = std::panic::catch_unwind(load).ok()?.ok()?;
    let get = |mapping: i32, key: &str| -> Option<i32> {
        let NodeData::Mapping { pairs, .. } = &document.get_node(mapping)?.data else { return None };
        let is = |k: i32| matches!(document.get_node(k).map(|n| &n.data), Some(NodeData::Scalar { value, .. }) if value == key);
        pairs.iter().rev().find(|p| is(p.key)).map(|p| p.value)
    };
    let items = |node: i32| -> Option<Vec<i32>> {
        let NodeData::Sequence { items, .. } = &document.get_node(node)?.data else { return None };
        Some(items.clone())
    };
    let words = |node: i32| -> Option<Vec<String>> {
        let word = |n: i32| match &document.get_node(n)?.data {
            NodeData::Scalar { value, .. } => Some(value.clone()),
            _ => None,
        };
        items(node)?.into_iter().map(word).collect()
    };
    let containers = items(get(get(1, "spec")?, "containers")?)?;
    let first = *containers.first()?;
    let mut all = words(get(first, "command")?)?;
    if let Some(args) = get(first, "args") {
        all.extend(words(args)?);
    }
    Some(all)
}

/// The pod in the one form that cannot be read in two ways.
fn as_json(words: &[String]) -> String {
    let container = json!({"name": "c", "command": words.get(..1), "args": words.get(1..)});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}})
        .to_string()
}

/// Renders the pod, with a choice wherever YAML leaves one.
struct Writer {
    choices: Vec<u8>,
    made: usize,
    text: String,
    anchors: Vec<String>,
    in_block: bool,
}

impl Writer {
    fn choose(&mut self, of: usize) -> usize {
        self.made += 1;
        usize::from(self.choices[self.made % self.choices.len()]) % of
    }

    fn one_of(&mut self, texts: &[&str]) {
        let choice = self.choose(texts.len());
        self.text += texts[choice];
    }

    fn comment(&mut self) {
        let choice = self.choose(6);
        match choice {
            // it would be of a block scalar's text
            0 if !self.in_block => self.text += "  # - --no=flag, \"'",
            1 => self.text += "\n\n# [",
            _ => {}
        }
        self.text += "\n";
        self.in_block = false;
    }

    /// A scalar after what stands on its line already; `flow`: within brackets.
    fn scalar(&mut self, word: &str, indent: usize, flow: bool) {
        if let Some(at) = self.anchors.iter().position(|a| a == word)
            && self.choose(2) == 0
        {
            // a space, or what follows would be of its name
            let _ = write!(self.text, "*a{at} ");
            return;
        }
        if self.choose(8) == 0 {
            let _ = write!(self.text, "&a{} ", self.anchors.len());
            self.anchors.push(word.to_owned());
        }
        if self.choose(8) == 0 {
            self.text += "!!str ";
        }
        let inner = " ".repeat(indent + 2);
        match self.choose(5) {
            0 if is_plain(word) => self.text += word,
            1 if !word.contains(['\n', '\t']) => {
                let _ = write!(self.text, "'{}'", word.replace('\'', "''"));
            }
            2 if !flow && is_block(word) => {
                self.in_block = true;
                let _ = write!(self.text, "|-\n{inner}{}", word.replace('\n', &format!("\n{inner}")));
            }
            3 if !flow && is_block(word) && !word.contains('\n') => {
                self.in_block = true;
                // one space between words is a line's end as well; a line that begins with a tab is not folded (YAML 1.2 §8.1.3)
                let letters: Vec<char> = word.chars().collect();
                let between = |w: &[char]| w[1] == ' ' && ![w[0], w[2]].iter().any(|c| c.is_whitespace());
                let end = letters.windows(3).position(between).map_or(letters.len(), |at| at + 1);
                let (line, rest) = letters.split_at(end);
                let _ = write!(self.text, ">-\n{inner}{}", line.iter().collect::<String>());
                if let Some((_, rest)) = rest.split_first() {
                    let _ = write!(self.text, "\n{inner}{}", rest.iter().collect::<String>());
                }
            }
            _ => self.double_quoted(word),
        }
    }

    fn double_quoted(&mut self, word: &str) {
        self.text.push('"');
        for c in word.chars() {
            match c {
                '"' | '\\' => self.text.extend(['\\', c]),
                '\n' => self.text += "\\n",
                '\t' => self.text += "\\t",
                c if !c.is_ascii() || self.choose(9) == 0 => {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(c));
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    fn sequence(&mut self, words: &[String], indent: usize, flow: bool) {
        if flow || words.is_empty() || self.choose(3) == 0 {
            self.text += " [";
            for (i, word) in words.iter().enumerate() {
                self.one_of(&[" ", ""]);
                if self.choose(5) == 0 {
                    let _ = write!(self.text, "\n{}", " ".repeat(indent + 2));
                }
                self.scalar(word, indent, true);
                if i + 1 < words.len() || self.choose(3) == 0 {
                    self.text += ", ";
                }
            }
            self.text += "]";
            return;
        }
        // a sequence may begin where its key does
        let at = indent + [0, 2][self.choose(2)];
        for word in words {
            self.comment();
            let _ = write!(self.text, "{}- ", " ".repeat(at));
            self.scalar(word, at, false);
        }
    }

    fn pod(mut self, words: &[String]) -> String {
        self.one_of(&["", "---\n", "# managed\n\n", "\u{feff}"]);
        let split = 1 + self.choose(words.len());
        let (command, args) = words.split_at(split.min(words.len()));
        if self.choose(4) == 0 {
            self.text += "kind: Pod\nspec: {containers: [{name: c, command:";
            self.sequence(command, 2, true);
            self.text += ", args:";
            self.sequence(args, 2, true);
            self.text += "}]}\n";
        } else {
            self.text += "\"kind\": Pod\nspec:";
            self.comment();
            self.text += "  containers:\n  - name: c\n    command:";
            self.sequence(command, 4, false);
            self.comment();
            // the other form of a key
            let explicit = self.choose(3) == 0;
            self.text += if explicit { "    ? args\n    :" } else { "    args:" };
            self.sequence(args, if explicit { 6 } else { 4 }, false);
            self.comment();
            self.text += "metadata: {name: p}\n";
        }
        self.one_of(&["", "---\nkind: Pod\n", "...\n", "--- [rubbish\n"]);
        if self.choose(5) == 0 { self.text.replace('\n', "\r\n") } else { self.text }
    }
}

/// Means itself wherever it stands.
fn is_plain(word: &str) -> bool {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '=' | '-' | '@');
    let begins = |c: char| c.is_ascii_alphabetic() || c == '/';
    word.chars().all(usual) && word.trim_start_matches("--").starts_with(begins) && word.contains(['/', '-'])
}

/// Every line of it can be a block scalar's.
fn is_block(word: &str) -> bool {
    let line = |l: &str| !l.is_empty() && !l.starts_with([' ', '\t']) && !l.ends_with([' ', '\t']) && !l.contains("  ");
    word.split('\n').all(line)
}

fn words() -> impl Strategy<Value = Vec<String>> {
    let name = prop::sample::select(vec!["tls-cert-file", "tls_cert_file", "etcd-servers", "secure-port", "x", "v"]);
    let value = prop_oneof![
        "/[a-z]{1,8}/[a-z.]{1,8}",
        "[0-9]{1,5}",
        "(true|null|no|~)",
        "[ -#%-~\u{e4}\u{4e2d}\n\t]{1,24}", // not $, of which the kubelet makes another word
    ];
    let flag = (name, value, 0..3_u8).prop_map(|(name, value, form)| match form {
        0 if !value.starts_with('-') => vec![format!("--{name}"), value],
        1 => vec![format!("-{name}={value}")],
        _ => vec![format!("--{name}={value}")],
    });
    prop::collection::vec(flag, 0..6)
        .prop_map(|flags| std::iter::once("kube-apiserver".to_owned()).chain(flags.into_iter().flatten()).collect())
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 3..64)
}

fn written(words: &[String], choices: Vec<u8>) -> String {
    Writer { choices, made: 0, text: String::new(), anchors: Vec::new(), in_block: false }.pod(words)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_pod_is_read_alike_in_all_its_forms(words in words(), choices in choices()) {
        let text = written(&words, choices);
        prop_assert_eq!(libyaml(&text), Some(words.clone()), "{}", text);
        let (flags, notes) = certwarden(&text);
        prop_assert_eq!((&flags, &notes), (&certwarden(&as_json(&words)).0, &Vec::new()), "{}", text);
        prop_assert!(flags.contains_key("kube-apiserver"), "{}", text);
    }

    #[test]
    fn what_is_no_longer_the_same_pod_is_read_as_libyaml_does_or_it_is_said_that_it_is_not_read(
        words in words(),
        choices in choices(),
        at in any::<prop::sample::Index>(),
        mark in prop::sample::select(vec!["\n", " ", "'", "\"", "#", ":", "-", "[", "]", ",", "&", "*", "\\", "|", ">", "  "]),
    ) {
        let mut text = written(&words, choices);
        let at = (0..=text.len()).rev().find(|i| *i <= at.index(text.len() + 1) && text.is_char_boundary(*i)).unwrap();
        text.insert_str(at, mark);
        let Some(words) = libyaml(&text) else { return Ok(()) };
        let (flags, notes) = certwarden(&text);
        prop_assert!(!notes.is_empty() || flags == certwarden(&as_json(&words)).0, "{:?}\n{}", words, text);
    }
}
