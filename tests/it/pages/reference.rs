//! `docs/reference`: what the code knows about itself, as pages. Written by `make reference`, compared by `tests/it/manual.rs`.

use std::fmt::Write as _;
use std::path::PathBuf;

use certwarden::cli::combinations::{COMMANDS, combinations};
use certwarden::cli::manual::{command, exit_codes};
use certwarden::model::diagnose::Cause;
use certwarden::model::finding::Problem;
use certwarden::model::gate::Gate;
use certwarden::model::metrics::FAMILIES;

const SHIPPED: &str = include_str!("../../../packaging/config.d/10-defaults.toml");
const MADE: &str = "<!-- Made from the code by `make reference`; `cargo test` compares. -->\n";

pub fn dir() -> PathBuf {
    super::repository().join("docs/reference")
}

/// File name and text of every page.
pub fn pages() -> [(&'static str, String); 5] {
    [
        ("commands.md", commands()),
        ("configuration.md", configuration()),
        ("exit-codes.md", exits()),
        ("findings.md", findings()),
        ("metrics.md", metrics()),
    ]
}

/// The rules once more, as the Prometheus operator takes them: path below the sources, and text.
pub fn prometheus_rules() -> [(&'static str, String); 3] {
    [
        ("packaging/monitoring/certwarden.prometheusrule.yaml", operators("certwarden", CERTWARDEN_RULES)),
        ("packaging/monitoring/certwarden-layers.prometheusrule.yaml", operators("certwarden-layers", LAYERS_RULES)),
        (
            "packaging/monitoring/kubernetes-certificates.prometheusrule.yaml",
            operators("kubernetes-certificates", KUBERNETES_RULES),
        ),
    ]
}

const CERTWARDEN_RULES: &str = include_str!("../../../packaging/monitoring/certwarden.rules.yml");
const LAYERS_RULES: &str = include_str!("../../../packaging/monitoring/certwarden-layers.rules.yml");
const KUBERNETES_RULES: &str = include_str!("../../../packaging/monitoring/kubernetes-certificates.rules.yml");

fn operators(name: &str, rules: &str) -> String {
    let head = format!(
        "# Made from {name}.rules.yml by `make reference`; `cargo test` compares. What is said of each rule stands there.\n\
         apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: {name}\n  namespace: monitoring\n  \
         labels: {{app.kubernetes.io/name: certwarden, role: alert-rules}}\nspec:\n"
    );
    let body = rules.lines().filter(|l| !l.trim_start().starts_with('#'));
    body.fold(head, |text, line| if line.is_empty() { text + "\n" } else { text + "  " + line + "\n" })
}

/// One example of a `--help`: a command line and what it does.
pub struct Example {
    pub line: String,
    pub what: String,
}

/// Those of `command`: lines after two spaces, with what they do after six.
pub fn examples(command: &clap::Command) -> Vec<Example> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut found: Vec<Example> = Vec::new();
    for line in text.lines().skip(1) {
        match (line.strip_prefix("      "), line.strip_prefix("  "), found.last_mut()) {
            (Some(what), _, Some(last)) if last.what.is_empty() => what.clone_into(&mut last.what),
            (Some(more), _, Some(last)) => last.what = format!("{} {more}", last.what),
            (None, Some(line), _) => found.push(Example { line: line.to_owned(), what: String::new() }),
            _ => {}
        }
    }
    found
}

/// One setting, as the shipped file documents it.
pub struct Key {
    /// Dotted.
    pub name: String,
    pub default: String,
    pub text: Vec<String>,
}

/// Every key. That the file names each with its true default is tested in `tests/it/config.rs`.
pub fn keys() -> Vec<Key> {
    let (mut section, mut text, mut keys) = (String::new(), Vec::new(), Vec::new());
    for line in SHIPPED.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            (section, text) = (format!("{name}."), Vec::new());
        } else if let Some(prose) = line.strip_prefix("# ") {
            text.push(prose.trim().to_owned());
        } else if let Some((name, default)) = line.strip_prefix('#').and_then(|l| l.split_once(" = ")) {
            keys.push(Key { name: format!("{section}{name}"), default: default.to_owned(), text });
            text = Vec::new();
        } else {
            text = Vec::new(); // the head of the file
        }
    }
    keys
}

fn configuration() -> String {
    let mut page = format!("{MADE}\n# Settings\n\n");
    page += "TOML, read from `/usr/lib/certwarden/config.d/*.toml`, `/run/certwarden/config.d/*.toml`, \
             `/etc/certwarden/config.d/*.toml` by name, then\n`/etc/certwarden/certwarden.toml`; later values win, key by \
             key. `certwarden config check` names faults, `certwarden config show --origin` sources.\n";
    for key in keys() {
        let _ = write!(page, "\n## `{}`\n\nDefault: `{}`\n\n{}\n", key.name, key.default, key.text.join("\n"));
    }
    page
}

fn exits() -> String {
    let mut page = format!("{MADE}\n# Exit codes\n\n| code | of | meaning |\n|---|---|---|\n");
    for (of, code, meaning) in exit_codes() {
        let _ = writeln!(page, "| {code} | {of} | {meaning} |");
    }
    page += "\n## What is due and cannot be renewed here\n\n\
             What is due, expired, missing or broken and stays as it is is never \"nothing is due\" and never 0. `plan` says beforehand \
             exactly what `renew` leaves out.\nThe codes are those on a tree (`--root`); on a running node `diagnose` sees more. \
             `renew --dry-run` gives what\n`renew` gives; `rollback` and `renew NAME` are whole or not at all: 1 where one of their files is gone.\n\n";
    let _ = writeln!(page, "| what | {} | said |", COMMANDS.map(|c| format!("`{c}`")).join(" | "));
    let _ = writeln!(page, "|---|{}---|", "---|".repeat(COMMANDS.len()));
    for row in combinations() {
        let _ = writeln!(page, "| {} | {} | {} |", row.what, row.codes.map(|c| c.to_string()).join(" | "), row.said);
    }
    page
}

fn metrics() -> String {
    let mut page = format!("{MADE}\n# Metrics\n\n");
    page += "Names and labels are stable. `x509_*` are those of x509-certificate-exporter, both generations. A control plane has \
             some 400 series,\na worker 150; [monitoring](../monitoring.md) says how they are scraped.\n\n";
    page += "| name | type | labels | meaning |\n|---|---|---|---|\n";
    let x509 = |name: &str| name.starts_with("x509_cert_") && !name.ends_with("_total");
    for family in FAMILIES {
        let labels: Vec<String> = if x509(family.name) {
            vec!["those of a certificate, below".to_owned()]
        } else {
            family.labels.iter().map(|l| format!("`{}`", l.name)).collect()
        };
        let row = (family.name, family.kind.id(), labels.join(", "), family.help);
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", row.0, row.1, row.2, row.3);
    }
    page += "\n## Labels, and what bounds them\n\n| label | values |\n|---|---|\n";
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for label in FAMILIES.iter().flat_map(|f| f.labels) {
        if label.values != "as above" && !seen.contains(&(label.name, label.values)) {
            seen.push((label.name, label.values));
            let _ = writeln!(page, "| `{}` | {} |", label.name, label.values.trim());
        }
    }
    page
}

fn findings() -> String {
    let mut page = format!("{MADE}\n# Findings and gates\n\nIds are stable: alerts and scripts may rely on them.\n\n");
    page += "## Findings of `check`\n\n| id | meaning |\n|---|---|\n";
    for problem in Problem::ALL {
        let _ = writeln!(page, "| [`{0}`](../runbooks/{0}.md) | {1} |", problem.id(), problem.meaning());
    }
    page += "\n## Gates\n\nReasons not to begin a renewal; `certwarden runbook ID` and [operations](../operations.md) say what to do about each.\n\n";
    page += "| id | `--force` opens it | gives way in an emergency |\n|---|---|---|\n";
    let yes = |is| if is { "yes" } else { "no" };
    for gate in Gate::ALL {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            gate.id(),
            yes(!gate.is_hard()),
            yes(gate.gives_way_in_an_emergency())
        );
    }
    page += "\n## Root causes of `diagnose`\n\nEach with its page of `certwarden runbook`.\n\n| id | meaning | page |\n|---|---|---|\n";
    for cause in Cause::ALL {
        let _ =
            writeln!(page, "| `{}` | {} | [{2}](../runbooks/{2}.md) |", cause.id(), cause.meaning(), cause.runbook());
    }
    page
}

fn commands() -> String {
    let mut page =
        format!("{MADE}\n# Commands\n\nEach is also a manual page, `certwarden-NAME(8)`, and answers `--help`.\n");
    let mut whole = command();
    whole.build();
    describe(&whole, &mut page);
    page
}

fn describe(command: &clap::Command, page: &mut String) {
    let mut command = command.clone().term_width(100);
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let name = command.get_bin_name().unwrap_or("certwarden").to_owned();
    let _ = write!(page, "\n## {name}\n\n```\n{}\n```\n", lines.join("\n").trim_end());
    for sub in command.get_subcommands() {
        describe(sub, page);
    }
}
