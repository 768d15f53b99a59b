//! What the units and what is shipped beside them say must agree.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;

fn text(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The words of all lines `key=words`.
fn directive(unit: &str, key: &str) -> BTreeSet<String> {
    let lines = unit.lines().filter_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

fn rules(profile: &str) -> impl Iterator<Item = &str> {
    profile.lines().map(str::trim).filter(|l| !l.starts_with('#')).filter_map(|l| l.strip_suffix(','))
}

#[test]
fn the_apparmor_profile_allows_what_the_unit_allows() {
    let (unit, profile) = (text("systemd/certwarden.service"), text("packaging/examples/apparmor-profile"));
    let capabilities: BTreeSet<String> = rules(&profile)
        .filter_map(|r| r.strip_prefix("capability "))
        .map(|c| format!("CAP_{}", c.to_uppercase()))
        .collect();
    assert_eq!(capabilities, directive(&unit, "CapabilityBoundingSet"));
    let mut directories = directive(&unit, "ReadWritePaths");
    directories.extend(directive(&unit, "StateDirectory").into_iter().map(|d| format!("/var/lib/{d}")));
    for directory in directories {
        let rule = format!("{}/{{,**}} rwkl", directory.trim_start_matches('-'));
        assert!(rules(&profile).any(|r| r == rule), "no rule `{rule}`");
    }
}

#[test]
fn under_apparmor_no_program_leaves_the_profile() {
    // with NoNewPrivileges= the exec would fail, in complain mode too
    let profile = text("packaging/examples/apparmor-profile");
    let exec: Vec<&str> = rules(&profile)
        .filter(|r| r.starts_with('/') && r.rsplit(' ').next().is_some_and(|modes| modes.contains(['x', 'X'])))
        .collect();
    assert_eq!(exec, ["/** ix"]);
    assert!(text("systemd/certwarden.service").contains("\nNoNewPrivileges=yes\n"));
}
