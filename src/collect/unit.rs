//! The kubelet's command line as its systemd unit says it: fragment, drop-ins, environment files, found where systemd finds
//! them ([`crate::model::unit`] reads them).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::host::fs::{FsError, Root};
use crate::host::systemd;
use crate::model::command::Variables;
use crate::model::unit::{self, Loaded, Machine, Service, UNIT_DIRS};

/// What a unit starts, as far as its files say.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// The words of `ExecStart=`, with specifiers and variables.
    pub(super) words: Vec<String>,
    pub(super) variables: Variables,
    /// Below `/sys/fs/cgroup`.
    pub(super) control_group: PathBuf,
    /// What was not understood: clauses.
    pub(super) doubts: Vec<String>,
}

impl Unit {
    /// One of which no file is found; it may run all the same.
    pub(super) fn absent(name: &str) -> Self {
        Self { control_group: control_group(name, None), ..Self::default() }
    }
}

/// As systemd has loaded it, else as its files say. None if there is no such unit here.
pub(super) fn find(root: &Root, name: &str, host_name: Option<&str>) -> Option<Unit> {
    // an image has no systemd that could be asked
    let loaded = Some(name).filter(|_| root.is_live()).and_then(systemd::loaded);
    as_loaded(root, name, loaded).or_else(|| load(root, name, host_name))
}

/// None where systemd does not answer, or has no such unit.
fn as_loaded(root: &Root, name: &str, loaded: Option<Loaded>) -> Option<Unit> {
    let loaded = loaded.and_then(|loaded| Service::loaded(name, loaded));
    loaded.map(|service| described(root, name, service, Vec::new()))
}

fn load(root: &Root, name: &str, host_name: Option<&str>) -> Option<Unit> {
    // most of them are on no machine, and each has directories of drop-ins besides
    let dirs: Vec<&str> = UNIT_DIRS.into_iter().filter(|dir| root.symlink_metadata(Path::new(dir)).is_ok()).collect();
    let (path, text) = dirs.iter().find_map(|dir| fragment(root, &Path::new(dir).join(name)))?;
    let (mut doubts, mut texts) = (Vec::new(), Vec::new());
    match text {
        Ok(text) if text.trim().is_empty() || is_null(root, &path) => {
            // systemd.unit(5): masked; drop-ins do not count then
            doubts.push(format!("{} is masked", path.display()));
            return Some(Unit { doubts, ..Unit::absent(name) });
        }
        Ok(text) => texts.push(text),
        Err(e) => doubts.push(format!("the unit was not read: {e}")),
    }
    for path in drop_ins(root, &dirs, &names(root, name, &path)) {
        match root.read_text(&path) {
            Ok(text) => texts.push(text),
            Err(e) => doubts.push(format!("a drop-in was not read: {e}")),
        }
    }
    let machine_id = root.read_text(Path::new("/etc/machine-id")).ok().map(|id| id.trim().to_owned());
    let machine = Machine { host_name: host_name.map(str::to_owned), machine_id, unit: name.to_owned() };
    let service = Service::parse(texts.iter().map(String::as_str), &machine);
    Some(described(root, name, service, doubts))
}

/// What a service starts, with what its environment files say.
fn described(root: &Root, name: &str, service: Service, doubts: Vec<String>) -> Unit {
    let control_group = control_group(name, service.slice.as_deref());
    let mut found = Unit { control_group, doubts, ..Unit::default() };
    found.doubts.extend(service.doubts.iter().cloned());
    let variables = variables(root, &service, &mut found.doubts);
    if service.verbatim {
        found.words = service.exec_start;
    } else {
        match unit::expand(&service.exec_start, &variables) {
            Ok(words) => found.words = words,
            Err(unit::TooLong) => found.doubts.push("the command is longer than the system takes".to_owned()),
        }
    }
    found.variables = variables;
    found
}

/// A unit file, if there is one.
fn fragment(root: &Root, path: &Path) -> Option<(PathBuf, Result<String, FsError>)> {
    let text = match root.read_text(path) {
        Err(FsError::NotFound { .. }) => return None,
        // a link to /dev/null masks it, which is no file that could be read
        _ if is_null(root, path) => Ok(String::new()),
        text => text,
    };
    Some((path.to_path_buf(), text))
}

fn is_null(root: &Root, path: &Path) -> bool {
    root.read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

/// Of the unit, and of what its file is a link to: an alias has the drop-ins of both.
fn names(root: &Root, name: &str, path: &Path) -> Vec<String> {
    let alias = root.read_link(path).ok().and_then(|to| Some(to.file_name()?.to_str()?.to_owned()));
    let mut names = vec![name.to_owned()];
    names.extend(alias.filter(|alias| alias != name && alias.rsplit_once('.').is_some()));
    names
}

/// In the order in which they count: by their names, whatever their directories.
fn drop_ins(root: &Root, dirs: &[&str], names: &[String]) -> Vec<PathBuf> {
    let mut by_name = BTreeMap::new();
    for dir in unit::drop_in_dirs(dirs, names) {
        let dir = Path::new(&dir);
        for name in root.list(dir).unwrap_or_default() {
            if Path::new(&name).extension().is_some_and(|e| e == "conf") {
                by_name.entry(name.clone()).or_insert_with(|| dir.join(name));
            }
        }
    }
    // a link to /dev/null masks a drop-in (systemd.unit(5))
    by_name.into_values().filter(|path| !is_null(root, path)).collect()
}

/// Files override what the unit says itself (systemd.exec(5)).
fn variables(root: &Root, service: &Service, doubts: &mut Vec<String>) -> Variables {
    let mut variables = service.environment.clone();
    for file in &service.environment_files {
        let (path, optional) = file.strip_prefix('-').map_or((file.as_str(), false), |path| (path, true));
        if path.contains(['*', '?', '[']) {
            doubts.push(format!("EnvironmentFile={file} is a pattern"));
            continue;
        }
        match root.read_text(Path::new(path)) {
            Ok(text) => match unit::file(&text) {
                Ok(found) => variables.extend(found),
                Err(why) => doubts.push(format!("{path} was not understood: {why}")),
            },
            Err(FsError::NotFound { .. }) if optional => {}
            Err(e) => doubts.push(format!("the environment was not read: {e}")),
        }
    }
    for unset in &service.unset {
        match unset.split_once('=') {
            Some((name, value)) if variables.get(name).is_some_and(|v| v == value) => drop(variables.remove(name)),
            Some(_) => {}
            None => drop(variables.remove(unset)),
        }
    }
    variables
}

/// Where systemd keeps the processes of a service (systemd.slice(5): `a-b.slice` is within `a.slice`).
fn control_group(unit: &str, slice: Option<&str>) -> PathBuf {
    let slice = slice.and_then(|s| s.strip_suffix(".slice")).unwrap_or("system");
    let ends = slice.match_indices('-').map(|(at, _)| at).chain([slice.len()]);
    let mut path: PathBuf = ends.filter_map(|end| slice.get(..end)).map(|s| format!("{s}.slice")).collect();
    if slice == "-" {
        path = PathBuf::new();
    }
    path.join(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::unit::LoadedCommand;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    const PLAIN: (&str, &str) = ("usr/local/lib/systemd/system/kubelet.service", "[Service]\nExecStart=/k $A\n");

    fn words(files: &[(&str, &str)]) -> Vec<String> {
        let (_dir, root) = tree(&[&[PLAIN], files].concat());
        let unit = load(&root, "kubelet.service", Some("n")).unwrap();
        assert_eq!(unit.doubts, Vec::<String>::new(), "{files:?}");
        unit.words
    }

    #[test]
    fn drop_ins_count_by_their_names_and_the_more_important_directory_takes_anothers_place() {
        assert_eq!(words(&[]), ["/k"]);
        let a = |dir: &'static str, name: &str, value: &str| {
            (format!("{dir}/{name}.conf"), format!("[Service]\nEnvironment=A={value}\n"))
        };
        for (files, value) in [
            (vec![a("etc/systemd/system/service.d", "10", "all")], "all"),
            (
                vec![
                    a("etc/systemd/system/service.d", "10", "all"),
                    a("usr/lib/systemd/system/kubelet.service.d", "10", "own"),
                ],
                "own",
            ),
            (
                vec![
                    a("etc/systemd/system/kubelet.service.d", "10", "etc"),
                    a("usr/lib/systemd/system/kubelet.service.d", "20", "lib"),
                ],
                "lib",
            ),
            (
                vec![
                    a("run/systemd/system/kubelet.service.d", "10", "run"),
                    a("usr/local/lib/systemd/system/kubelet.service.d", "10", "lib"),
                ],
                "run",
            ),
        ] {
            let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
            assert_eq!(words(&files), ["/k", value], "{files:?}");
        }
    }

    #[test]
    fn an_environment_file_counts_more_than_the_unit_and_one_that_cannot_be_read_is_a_doubt() {
        let drop_in = |line: &str| format!("[Service]\nEnvironment=A=unit\nEnvironmentFile={line}\n");
        let path = "etc/systemd/system/kubelet.service.d/a.conf";
        assert_eq!(
            words(&[(path, &drop_in("/etc/a")), ("etc/a", "A=\"file of\\\n two\"\n")]),
            ["/k", "file", "of", "two"]
        );
        assert_eq!(words(&[(path, &drop_in("-/etc/a"))]), ["/k", "unit"]);
        for line in ["/etc/a", "-/etc/*.env"] {
            let (_dir, root) = tree(&[PLAIN, (path, &drop_in(line))]);
            assert_eq!(load(&root, "kubelet.service", None).unwrap().doubts.len(), 1, "{line}");
        }
    }

    fn state(load_state: &str) -> Loaded {
        Loaded { load_state: load_state.into(), ..Loaded::default() }
    }

    #[test]
    fn what_systemd_has_loaded_counts_and_its_files_do_where_it_has_nothing_or_is_silent() {
        let (_dir, root) = tree(&[PLAIN, ("etc/a", "A='from the file'\n")]);
        let command = |path: &str, argv: &[&str], verbatim| LoadedCommand {
            path: path.into(),
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            verbatim,
        };
        let loaded = |commands: Vec<LoadedCommand>| Loaded {
            commands,
            environment: vec!["A=unit".into(), "B=set here".into()],
            environment_files: vec![("/etc/a".into(), false), ("/etc/none".into(), true)],
            slice: "x.slice".into(),
            ..state("loaded")
        };
        let found = |loaded| as_loaded(&root, "kubelet.service", Some(loaded)).unwrap();
        let unit = found(loaded(vec![command("/opt/k", &["called", "$A", "${B}"], false)]));
        assert_eq!(
            (unit.words, unit.doubts.len()),
            (["/opt/k", "from", "the", "file", "set here"].map(str::to_owned).to_vec(), 0)
        );
        assert_eq!(unit.control_group, Path::new("x.slice/kubelet.service"));
        let unit = found(loaded(vec![command("/opt/k", &["k", "$A"], true)]));
        assert_eq!(unit.words, ["/opt/k", "$A"]);
        let two = found(loaded(vec![command("/a", &["a"], false), command("/b", &["b"], false)]));
        assert!(two.doubts[0].contains("several commands"), "{two:?}");
        let mut missing = loaded(vec![command("/opt/k", &["k"], false)]);
        missing.environment_files[1].1 = false;
        missing.root_image = "/i".into();
        assert_eq!(found(missing).doubts.len(), 2);
        let masked = found(state("masked"));
        assert!(masked.words.is_empty() && masked.doubts[0].contains("masked"), "{masked:?}");
        for silent in [None, Some(state("not-found")), Some(state("bad-setting"))] {
            assert!(as_loaded(&root, "kubelet.service", silent).is_none(), "the files count");
        }
    }

    #[test]
    fn a_masked_unit_starts_nothing_and_an_alias_has_the_drop_ins_of_both_names() {
        let (dir, root) = tree(&[
            ("usr/lib/systemd/system/node-agent.service", "[Service]\nExecStart=/k $A\n"),
            ("usr/lib/systemd/system/node-.service.d/a.conf", "[Service]\nEnvironment=A=prefix\n"),
        ]);
        let etc = dir.path().join("etc/systemd/system");
        std::fs::create_dir_all(&etc).unwrap();
        let link = |to: &str| std::os::unix::fs::symlink(to, etc.join("kubelet.service")).unwrap();
        link("/usr/lib/systemd/system/node-agent.service");
        assert_eq!(load(&root, "kubelet.service", None).unwrap().words, ["/k", "prefix"]);
        std::fs::remove_file(etc.join("kubelet.service")).unwrap();
        link("/dev/null");
        let masked = load(&root, "kubelet.service", None).unwrap();
        assert!(masked.words.is_empty() && masked.doubts[0].contains("masked"), "{masked:?}");
    }

    #[test]
    fn the_control_group_is_where_the_slice_puts_it() {
        for (slice, path) in [
            (None, "system.slice/k.service"),
            (Some("a-b.slice"), "a.slice/a-b.slice/k.service"),
            (Some("-.slice"), "k.service"),
        ] {
            assert_eq!(control_group("k.service", slice), Path::new(path));
        }
    }
}
