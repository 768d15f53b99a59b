//! Where units and their drop-ins are looked for.

/// The system manager's search path, most important first (systemd.unit(5), "System Unit Search Path"; `/lib` is where
/// `/usr` is not merged, systemd: `src/basic/path-lookup.c:lookup_paths_init`).
pub const UNIT_DIRS: [&str; 13] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// The directories of drop-ins in these of the search path, for a unit of these names (it may have aliases), most important first: of files of the same
/// name the first counts (systemd: `src/shared/dropin.c:unit_file_find_dropin_paths`). For `a-b.service` they are
/// `a-b.service.d`, `a-.service.d`, and last of all `service.d`, which is for every service.
pub fn drop_in_dirs(search: &[&str], names: &[String]) -> Vec<String> {
    let mut dirs = Vec::new();
    for name in names {
        let Some((stem, kind)) = name.rsplit_once('.') else { continue };
        let prefixes = stem.match_indices('-').rev().filter_map(|(at, _)| stem.get(..=at));
        let own: Vec<String> = std::iter::once(stem).chain(prefixes).map(|p| format!("{p}.{kind}.d")).collect();
        dirs.extend(search.iter().flat_map(|dir| own.iter().map(move |d| format!("{dir}/{d}"))));
    }
    let kind = names.first().and_then(|n| n.rsplit_once('.')).map(|(_, kind)| kind);
    dirs.extend(kind.into_iter().flat_map(|kind| search.iter().map(move |dir| format!("{dir}/{kind}.d"))));
    dirs
}
