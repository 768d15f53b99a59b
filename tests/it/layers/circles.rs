//! No files import one another in a circle: of two files one can be read, and changed, without the other.
//!
//! A module and the files below it are one subject (`x.rs` puts together what `x/` holds, and what is there knows what `x.rs`
//! defines), so that an import from a module of its own parts is none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use super::sources;

type Module = Vec<String>;

/// The modules of a crate and what each imports.
struct Crate {
    code: BTreeMap<Module, String>,
    /// `pub use`: where a name of a module comes from.
    names: BTreeMap<(Module, String), Module>,
}

fn words(path: &str) -> Module {
    path.split("::").map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Code without comments, texts and unit tests.
fn bare(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut bare = String::new();
    for line in product.lines() {
        let mut inside = false;
        let mut before = ' ';
        for (at, c) in line.char_indices() {
            if !inside && line[at..].starts_with("//") {
                break;
            }
            if c == '"' && before != '\\' && before != '\'' {
                inside = !inside;
            }
            if !inside {
                bare.push(c);
            }
            before = c;
        }
        bare.push('\n');
    }
    bare
}

/// Every path of `a::{b, c::{d, e}}`.
fn leaves(tree: &str) -> Vec<Module> {
    let tree = tree.split(" as ").next().unwrap_or_default().trim();
    let Some((head, rest)) = tree.split_once('{') else { return vec![words(tree)] };
    let body = rest.rsplit_once('}').map_or(rest, |(body, _)| body);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in body.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    let of = |part: &String| leaves(part).into_iter().map(|leaf| [words(head), leaf].concat());
    parts.iter().filter(|part| !part.trim().is_empty()).flat_map(of).collect()
}

/// `use` declarations, and whether each is public.
fn uses(code: &str) -> Vec<(bool, Module)> {
    let mut found = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        let public = line.starts_with("pub");
        let Some(at) = line.strip_prefix("use ").or_else(|| line.split_once(" use ").map(|(_, tree)| tree)) else {
            continue;
        };
        if !public && !line.starts_with("use ") {
            continue;
        }
        let mut tree = at.to_owned();
        while !tree.contains(';') {
            let Some(more) = lines.next() else { break };
            tree.push_str(more);
        }
        let tree = tree.split(';').next().unwrap_or_default();
        found.extend(leaves(tree).into_iter().map(|path| (public, path)));
    }
    found
}

/// Paths in the code itself, `super::x::y`.
fn paths(code: &str) -> Vec<Module> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c: char| !is_word(c)).filter(|path| path.contains("::") && !path.starts_with(':')).map(words).collect()
}

impl Crate {
    fn of(files: impl IntoIterator<Item = (Module, String)>) -> Self {
        let code = files.into_iter().map(|(module, text)| (module, bare(&text))).collect();
        let mut all = Self { code, names: BTreeMap::new() };
        for (module, code) in &all.code {
            for (_, path) in uses(code).into_iter().filter(|(public, _)| *public) {
                let (Some(name), Some(from)) = (path.last().cloned(), all.absolute(module, &path)) else { continue };
                all.names.insert((module.clone(), name), from);
            }
        }
        all
    }

    /// None: it is of another crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let up = path.iter().take_while(|word| *word == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module, &path[1..]].concat()),
            "super" => Some([&module[..module.len().checked_sub(up)?], &path[up..]].concat()),
            part => {
                let own = [module.clone(), vec![part.to_owned()]].concat();
                self.code.contains_key(&own).then(|| [module, path].concat())
            }
        }
    }

    /// The file that a path leads to, through what others hand on.
    fn file(&self, path: &[String]) -> Option<Module> {
        let module = (1..=path.len()).rev().map(|n| path[..n].to_vec()).find(|m| self.code.contains_key(m))?;
        let rest = &path[module.len()..];
        let handed_on = rest.first().and_then(|name| self.names.get(&(module.clone(), name.clone())));
        match handed_on {
            Some(from) if from != path => self.file(&[&from[..], &rest[1..]].concat()),
            _ => Some(module),
        }
    }

    fn imports(&self, module: &Module) -> BTreeSet<Module> {
        let code = &self.code[module];
        let named = uses(code).into_iter().map(|(_, path)| path).chain(paths(code));
        let files = named.filter_map(|path| self.file(&self.absolute(module, &path)?));
        files.filter(|file| !file.starts_with(module)).collect()
    }

    /// The shortest circle through each module that is in one.
    fn circles(&self) -> Vec<Vec<Module>> {
        let imports: BTreeMap<&Module, BTreeSet<Module>> = self.code.keys().map(|m| (m, self.imports(m))).collect();
        let mut found: BTreeMap<BTreeSet<Module>, Vec<Module>> = BTreeMap::new();
        for start in self.code.keys() {
            let mut queue: VecDeque<Vec<Module>> = [vec![start.clone()]].into();
            let mut seen = BTreeSet::new();
            while let Some(way) = queue.pop_front() {
                let here = way.last().unwrap();
                if here == start && way.len() > 1 {
                    found.entry(way.iter().cloned().collect()).or_insert(way);
                    break;
                }
                for next in imports.get(here).into_iter().flatten() {
                    if seen.insert(next.clone()) {
                        queue.push_back([way.clone(), vec![next.clone()]].concat());
                    }
                }
            }
        }
        found.into_values().collect()
    }
}

/// `src/txn/steps.rs` is `txn::steps`; None for programs.
fn module_of(path: &Path, src: &Path) -> Option<Module> {
    let path = path.strip_prefix(src).unwrap().with_extension("");
    let module: Module = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    (!matches!(module[0].as_str(), "lib" | "main" | "bin")).then_some(module)
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&src).into_iter().filter_map(|p| Some((module_of(&p, &src)?, fs::read_to_string(&p).unwrap())));
    let all = Crate::of(files);
    let imports: usize = all.code.keys().map(|m| all.imports(m).len()).sum();
    assert!(all.code.len() > 300 && imports > 1_500, "the test no longer sees imports: {imports}");
    let words = |way: Vec<Module>| way.iter().map(|m| m.join("::")).collect::<Vec<_>>().join(" -> ");
    let circles: Vec<String> = all.circles().into_iter().map(words).collect();
    assert!(circles.is_empty(), "files that import one another:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_seen_however_it_is_written() {
    let circles = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(module, text)| (words(module), (*text).to_owned()));
        Crate::of(files).circles().len()
    };
    assert_eq!(circles(&[("a", "use crate::b::{B, c};"), ("b", "")]), 0);
    assert_eq!(circles(&[("a", "use crate::b::B;"), ("b", "use crate::{x::Y,\n    a::A};")]), 1);
    assert_eq!(circles(&[("a", "use crate::b::B;"), ("b", "fn f() { crate::a::f() }")]), 1);
    assert_eq!(circles(&[("a", "use crate::b::B;"), ("b", "// crate::a\nconst A: &str = \"crate::a::A\";")]), 0);
    let three = [("m::a", "use super::b;"), ("m::b", "use super::c::C;"), ("m::c", "use super::a::A;"), ("m", "")];
    assert_eq!(circles(&three), 1);
    // a name that a module hands on is of the file that defines it
    let handed_on = [("m", "pub use a::A;"), ("m::a", "use super::b::B;"), ("m::b", "use super::A;")];
    assert_eq!(circles(&handed_on), 1);
    // a module and its own parts are one subject
    assert_eq!(circles(&[("m", "mod a;\nuse a::A;"), ("m::a", "use super::M;")]), 0);
    assert_eq!(
        circles(&[("m", ""), ("m::a", "#[cfg(test)]\nmod tests {\n use crate::b::B; }"), ("b", "use crate::m::a;")]),
        0
    );
}
