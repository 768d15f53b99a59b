//! `docs/versions.md` and what the program says of untested versions are what `docs/versions.toml` says, and that knows every scenario.

use std::collections::BTreeSet;
use std::fs;

use crate::pages::versions;
use certwarden::model::tested::NEWEST;
use versions::{MEASURE, parse, table};

/// Names of the scenarios that there are: `renew-all` for `scenarios/test_renew_all.py`; `long/92-fleet`.
fn scenarios() -> BTreeSet<String> {
    let files = |dir: &str| fs::read_dir(format!("{}/vm-tests/{dir}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let name = |file: &str| Some(file.strip_prefix("test_")?.strip_suffix(".py")?.replace('_', "-"));
    let python = files("scenarios").filter_map(|item| name(&item.unwrap().file_name().to_string_lossy()));
    let shell = files("long").map(|item| format!("long/{}", item.unwrap().file_name().to_string_lossy()));
    python.chain(shell).collect()
}

#[test]
fn every_scenario_that_there_is_has_a_row_and_no_other() {
    let listed: BTreeSet<String> = table().unwrap().scenario.into_keys().collect();
    let there = scenarios();
    let missing: Vec<_> = there.difference(&listed).collect();
    assert!(missing.is_empty(), "say in docs/versions.toml where these were run ({{}}: nowhere yet): {missing:?}");
    let gone: Vec<_> = listed.difference(&there).collect();
    assert!(gone.is_empty(), "docs/versions.toml has scenarios that there are not: {gone:?}");
    assert!(there.contains(MEASURE));
}

#[test]
fn the_page_is_what_the_data_say() {
    let page = fs::read_to_string(versions::path()).unwrap_or_default();
    assert_eq!(page, table().unwrap().page(), "docs/versions.md: run `make reference`");
}

#[test]
fn the_program_knows_the_newest_version_of_the_data() {
    assert_eq!(table().unwrap().newest(), Some(NEWEST), "NEWEST in src/model/tested.rs");
}

const MACHINES: &str = "[machine.a]\nkubernetes='1.20.2'\nsystemd='252'\n[machine.b]\nkubernetes='1.36.2'\nsystemd='252'\n\
                        [machine.c]\nsystemd='257'\n[scenario]\n";

#[test]
fn a_version_is_tested_once_a_renewal_of_everything_has_passed_on_it() {
    let newest = |rows: &str| parse(&format!("{MACHINES}{rows}")).unwrap().newest();
    let day = "'2026-11-30'";
    assert_eq!(newest(&format!("'check' = {{a={day}, b={day}}}\n'{MEASURE}' = {{a={day}}}")), Some((1, 20)));
    assert_eq!(newest(&format!("'{MEASURE}' = {{a={day}, b={day}, c={day}}}")), Some((1, 36)));
    assert_eq!(newest(&format!("'{MEASURE}' = {{a={day}, b='does not apply'}}")), Some((1, 20)));
    assert_eq!(newest(&format!("'{MEASURE}' = {{}}")), None);
}

#[test]
fn what_is_no_day_no_version_or_no_machine_is_named() {
    for (text, said) in [
        (format!("{MACHINES}'x' = {{a='soon'}}"), "`does not apply`"),
        (format!("{MACHINES}'x' = {{d='2026-11-30'}}"), "x was run on d, which is not described"),
        (MACHINES.replace("1.36.2", "stable"), "stable is no version"),
        (MACHINES.replace("systemd='257'", "systemd='257'\nlibc='2'"), "libc"),
    ] {
        let why = parse(&text).unwrap_err();
        assert!(why.contains(said), "{why}");
    }
}
