//! What certwarden is made of: the licences of the crates that are linked in (`third-party-licences.txt`) and a bill of
//! materials in CycloneDX form (`sbom.cdx.json`). Asked of `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Result;
use crate::pages::repository;

const APACHE: &str = include_str!("../../LICENSE");

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Clone, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    authors: Vec<String>,
    repository: Option<String>,
    manifest_path: String,
    targets: Vec<Target>,
}

#[derive(Clone, Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
    root: String,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    /// None: linked in.
    kind: Option<String>,
}

pub fn write(dir: &Path) -> Result<()> {
    let metadata = metadata()?;
    let linked = linked(&metadata);
    fs::create_dir_all(dir)?;
    fs::write(dir.join("third-party-licences.txt"), licences(&linked)?)?;
    fs::write(dir.join("sbom.cdx.json"), serde_json::to_string_pretty(&bom(&metadata, &linked))? + "\n")?;
    Ok(())
}

fn metadata() -> Result<Metadata> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"];
    let output = Command::new(cargo).args(args).current_dir(repository()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Everything that is reached without build scripts, tests and procedural macros, certwarden itself left out.
fn linked(metadata: &Metadata) -> Vec<&Package> {
    let packages: BTreeMap<&str, &Package> = metadata.packages.iter().map(|p| (p.id.as_str(), p)).collect();
    let is_macro = |p: &Package| p.targets.iter().any(|t| t.kind.iter().any(|k| k == "proc-macro"));
    let (mut reached, mut todo) = (BTreeSet::new(), vec![metadata.resolve.root.as_str()]);
    while let Some(id) = todo.pop() {
        let node = metadata.resolve.nodes.iter().find(|n| n.id == id);
        for dep in node.into_iter().flat_map(|n| &n.deps).filter(|d| d.dep_kinds.iter().any(|k| k.kind.is_none())) {
            if packages.get(dep.pkg.as_str()).is_some_and(|p| !is_macro(p)) && reached.insert(dep.pkg.as_str()) {
                todo.push(&dep.pkg);
            }
        }
    }
    let mut found: Vec<&Package> = reached.iter().filter_map(|id| packages.get(id).copied()).collect();
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    found
}

/// Each crate with its licence, then each distinct text once.
fn licences(linked: &[&Package]) -> io::Result<String> {
    let mut texts: Vec<(String, Vec<String>)> = Vec::new();
    let mut page =
        "certwarden is under the Apache License 2.0 (LICENSE). These crates are linked into it:\n\n".to_owned();
    for package in linked {
        let name = format!("{} {}", package.name, package.version);
        let from = package.repository.as_deref().map(|r| format!("  {r}")).unwrap_or_default();
        let _ = writeln!(page, "{name:32} {}{from}", expression(package));
        for text in licence_texts(package)? {
            match texts.iter_mut().find(|(known, _)| *known == text) {
                Some((_, of)) => of.push(name.clone()),
                None => texts.push((text, vec![name.clone()])),
            }
        }
    }
    for (text, of) in texts {
        let _ = write!(page, "\n{}\n{}:\n\n{}\n", "-".repeat(80), of.join(", "), text);
    }
    Ok(page)
}

fn expression(package: &Package) -> String {
    // the older way to write "or" in Cargo.toml
    package.license.as_deref().unwrap_or("see its texts").replace(" / ", " OR ").replace('/', " OR ")
}

/// The files of the crate that say so; where it has none, the text that its licence has.
fn licence_texts(package: &Package) -> io::Result<Vec<String>> {
    const NAMES: [&str; 5] = ["LICEN", "COPYING", "NOTICE", "UNLICENSE", "COPYRIGHT"];
    let dir = Path::new(&package.manifest_path).parent().unwrap_or(Path::new("/"));
    let mut files: Vec<_> = fs::read_dir(dir)?.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|p| {
        let name = p.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        p.is_file() && NAMES.iter().any(|n| name.starts_with(n))
    });
    files.sort();
    let mut texts = files.iter().map(fs::read_to_string).collect::<io::Result<Vec<String>>>()?;
    if texts.is_empty() {
        let owners = if package.authors.is_empty() { "its authors".to_owned() } else { package.authors.join(", ") };
        let apache = expression(package).contains("Apache-2.0");
        texts.push(if apache {
            format!("Copyright {owners}\n\n{APACHE}")
        } else {
            format!("Copyright (c) {owners}\n\n{MIT}")
        });
    }
    Ok(texts.iter().map(|t| t.replace("\r\n", "\n").trim_matches('\n').to_owned()).collect())
}

/// Without time and serial number: the same sources make the same bytes.
fn bom(metadata: &Metadata, linked: &[&Package]) -> Value {
    let purl = |p: &Package| format!("pkg:cargo/{}@{}", p.name, p.version.replace('+', "%2B"));
    let known: BTreeMap<&str, String> = linked.iter().map(|p| (p.id.as_str(), purl(p))).collect();
    let certwarden = metadata.packages.iter().find(|p| p.id == metadata.resolve.root);
    let version = certwarden.map_or("", |p| p.version.as_str());
    let own = format!("pkg:cargo/certwarden@{version}");
    let components: Vec<Value> = linked
        .iter()
        .map(|p| {
            json!({ "type": "library", "bom-ref": purl(p), "name": p.name, "version": p.version, "purl": purl(p),
                    "licenses": [{ "expression": expression(p) }] })
        })
        .collect();
    let reference = |id: &str| if id == metadata.resolve.root { Some(own.clone()) } else { known.get(id).cloned() };
    let depends = |n: &Node| {
        let all: BTreeSet<String> = n.deps.iter().filter_map(|d| known.get(d.pkg.as_str()).cloned()).collect();
        all
    };
    let nodes = metadata.resolve.nodes.iter();
    let dependencies: BTreeMap<String, BTreeSet<String>> =
        nodes.filter_map(|n| Some((reference(&n.id)?, depends(n)))).collect();
    let dependencies: Vec<Value> = dependencies.iter().map(|(r, on)| json!({ "ref": r, "dependsOn": on })).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "application", "bom-ref": own, "name": "certwarden",
                      "version": version, "licenses": [{ "expression": "Apache-2.0" }] } },
        "components": components,
        "dependencies": dependencies,
    })
}

const MIT: &str = "\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the \"Software\"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.";
