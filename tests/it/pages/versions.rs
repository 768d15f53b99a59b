//! `docs/versions.md`: what certwarden was run on, made of `docs/versions.toml`. Written by `make reference`, compared by
//! `tests/it/versions.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use certwarden::model::version::Version;
use jiff::civil::Date;
use serde::Deserialize;

const DATA: &str = include_str!("../../../docs/versions.toml");
const MADE: &str = "<!-- Made from versions.toml by `make reference`; `cargo test` compares. -->\n";
/// A version counts as tested once this has passed on it.
pub const MEASURE: &str = "renew-all";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub machine: BTreeMap<String, Machine>,
    pub scenario: BTreeMap<String, BTreeMap<String, Run>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    pub kubernetes: Option<String>,
    pub etcd: Option<String>,
    pub containerd: Option<String>,
    pub systemd: String,
}

/// What came of a scenario on a machine.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum Run {
    Passed(Date),
    DoesNotApply,
}

impl TryFrom<String> for Run {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "does not apply" {
            return Ok(Self::DoesNotApply);
        }
        text.parse().map(Self::Passed).map_err(|e| format!("{text:?} is no day, nor `does not apply`: {e}"))
    }
}

pub fn path() -> PathBuf {
    super::repository().join("docs/versions.md")
}

/// # Errors
/// What is wrong with the file.
pub fn table() -> Result<Table, String> {
    parse(DATA).map_err(|why| format!("docs/versions.toml: {why}"))
}

/// The data, if every machine that a scenario names is described.
///
/// # Errors
/// What is wrong with them.
pub fn parse(text: &str) -> Result<Table, String> {
    let table: Table = toml::from_str(text).map_err(|e| e.to_string())?;
    for (scenario, runs) in &table.scenario {
        if let Some(machine) = runs.keys().find(|m| !table.machine.contains_key(*m)) {
            return Err(format!("{scenario} was run on {machine}, which is not described"));
        }
    }
    for version in table.machine.values().filter_map(|m| m.kubernetes.as_ref()) {
        Version::parse(version).ok_or_else(|| format!("{version} is no version of Kubernetes"))?;
    }
    Ok(table)
}

impl Table {
    /// The day on which a scenario passed on a machine.
    fn day(&self, scenario: &str, machine: &str) -> Option<Date> {
        match self.scenario.get(scenario)?.get(machine)? {
            Run::Passed(day) => Some(*day),
            Run::DoesNotApply => None,
        }
    }

    /// Major and minor of the newest Kubernetes on which [`MEASURE`] has passed.
    pub fn newest(&self) -> Option<(u32, u32)> {
        let tested = self.machine.iter().filter(|(name, _)| self.day(MEASURE, name).is_some());
        let versions = tested.filter_map(|(_, m)| Version::parse(m.kubernetes.as_deref()?));
        versions.map(|v| (v.major, v.minor)).max()
    }

    /// Machines on which anything has passed, those with Kubernetes first, the oldest first.
    fn columns(&self) -> Vec<(&str, &Machine)> {
        let used = |name: &str| self.scenario.keys().any(|s| self.day(s, name).is_some());
        let mut columns: Vec<_> =
            self.machine.iter().map(|(n, m)| (n.as_str(), m)).filter(|(name, _)| used(name)).collect();
        let version = |m: &Machine| m.kubernetes.as_deref().and_then(Version::parse);
        columns.sort_by_key(|(_, m)| (m.kubernetes.is_none(), version(m), m.systemd.clone()));
        columns
    }

    pub fn page(&self) -> String {
        let columns = self.columns();
        let mut page = format!("{MADE}\n# What certwarden was run on\n\n");
        page += "The scenarios of [vm-tests](../vm-tests/README.md), each on a machine that it has for itself, and the day on which it last \
                 passed there. `certwarden check` says\n`untested-version`, for information, on a control plane of a newer Kubernetes \
                 than any here: on a newer minor than those on which\n`renew-all` has passed. On a worker it says nothing: its \
                 files do not tell the cluster's version.\n\n";
        page +=
            "| on | Kubernetes | etcd | containerd | systemd | passed | last run |\n|---|---|---|---|---|---|---|\n";
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".to_owned());
        for (name, m) in &columns {
            let days: Vec<Date> = self.scenario.keys().filter_map(|s| self.day(s, name)).collect();
            let last = days.iter().max().map(Date::to_string).unwrap_or_default();
            let (kubernetes, etcd, containerd) = (or_none(&m.kubernetes), or_none(&m.etcd), or_none(&m.containerd));
            let (systemd, passed) = (&m.systemd, days.len());
            let _ = writeln!(page, "| {name} | {kubernetes} | {etcd} | {containerd} | {systemd} | {passed} | {last} |");
        }
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let _ = write!(page, "\n| scenario | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
        for (scenario, runs) in &self.scenario {
            let cell = |name: &&str| match runs.get(*name) {
                Some(Run::Passed(day)) => day.to_string(),
                Some(Run::DoesNotApply) => "does not apply".to_owned(),
                None => String::new(),
            };
            let cells: Vec<String> = names.iter().map(cell).collect();
            let _ = writeln!(page, "| {scenario} | {} |", cells.join(" | "));
        }
        page
    }
}
