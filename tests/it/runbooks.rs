//! Whatever an operator is told has a page, and what the page says to run can be run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use certwarden::cli::manual::command;
use certwarden::cli::runbook::{PAGES, page};
use certwarden::model::diagnose::Cause;
use certwarden::model::finding::Problem;
use certwarden::model::gate::Gate;

const SECTIONS: [&str; 4] = ["Meaning", "Impact", "Diagnosis", "Remedy"];
/// Alerts that operators have from elsewhere or by the rules that ship with certwarden.
const ALERTS: [&str; 24] = [
    "CertwardenCertificateExpiringSoon",
    "CertwardenCertificateExpiring",
    "CertwardenCAExpiring",
    "CertwardenCertificateInvalid",
    "CertwardenServedCertificateDrift",
    "CertwardenKubeletRotationOverdue",
    "CertwardenKubeletCSRPending",
    "CertwardenApproverUndecided",
    "CertwardenRenewalFailing",
    "CertwardenRolledBack",
    "CertwardenRollbackFailed",
    "CertwardenTransactionStuck",
    "CertwardenSuspended",
    "CertwardenCheckStale",
    "CertwardenTextfileStale",
    "CertwardenAbsentOnNode",
    "CertwardenMixedVersions",
    "KubernetesClientCertificateExpiresSoon",
    "KubernetesClusterCertExpiringSoon",
    "KubeletServingCSRPending",
    "CertManagerCertNotReady",
    "CertManagerCertRenewalOverdue",
    "IstioWorkloadCertExpiring",
    "KubernetesNodeNotReady",
];

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names of alerts in the rules that ship.
fn shipped(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let mut found = Vec::new();
    for path in files {
        if path.is_dir() {
            found.extend(shipped(&path));
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.extend(
                text.lines()
                    .filter_map(|l| Some(l.trim().strip_prefix("- alert: ")?.split('#').next()?.trim().to_owned())),
            );
        }
    }
    found
}

#[test]
fn every_finding_gate_cause_and_alert_has_a_page() {
    let ids = Problem::ALL.iter().map(|p| p.id()).chain(Gate::ALL.iter().map(|g| g.id()));
    for id in ids.chain(Cause::ALL.iter().map(|c| c.runbook())).chain(ALERTS) {
        assert!(page(id).is_some(), "there is no docs/runbooks/{id}.md, or it is not in src/cli/runbook.rs");
    }
    for alert in shipped(&manifest().join("packaging/monitoring")) {
        assert!(page(&alert).is_some(), "the alert {alert} has no page");
    }
}

#[test]
fn every_page_on_disk_is_in_the_program_and_has_its_sections_in_order() {
    let on_disk: BTreeSet<PathBuf> =
        fs::read_dir(manifest().join("docs/runbooks")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(on_disk.len(), PAGES.len());
    for (id, text) in PAGES {
        let mut lines = text.lines();
        let head = lines.next().unwrap();
        assert!(head.strip_prefix(&format!("# {id}: ")).is_some_and(|title| title.len() > 8), "{id}: {head}");
        let sections: Vec<&str> = lines.filter_map(|l| l.strip_prefix("## ")).collect();
        assert_eq!(sections, SECTIONS, "{id}");
        for part in text.split("\n## ").skip(1) {
            let (name, body) = part.split_once('\n').unwrap();
            assert!(body.trim().len() > 4, "{id}: {name} is empty");
        }
    }
    let sorted = PAGES.windows(2).all(|w| w[0].0.to_lowercase() < w[1].0.to_lowercase());
    assert!(sorted, "sorted, so that a person finds his page in the list");
}

/// Command lines of certwarden in a page, indented or between backticks.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let inline = text.split('`').skip(1).step_by(2).filter(|code| !code.contains('\n'));
    let lines = text.lines().filter_map(|l| l.strip_prefix("    "));
    inline.chain(lines).filter(|c| c.starts_with("certwarden ") && !c.contains(" …"))
}

#[test]
fn every_command_of_certwarden_in_a_page_is_understood() {
    let mut seen = 0;
    for (id, text) in PAGES {
        for line in commands(text) {
            let words = line.split_whitespace().map(|w| match w {
                "NAME" => "apiserver",
                "GATE" => "quorum",
                other => other,
            });
            if let Err(e) = command().try_get_matches_from(words) {
                assert!(!e.use_stderr(), "{id}: `{line}`: {e}");
            }
            if let Some(other) = line.strip_prefix("certwarden runbook ") {
                assert!(page(other).is_some(), "{id}: {line}");
            }
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} were found");
}

fn runbook(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_certwarden")).arg("runbook").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_program_prints_pages_lists_them_and_knows_what_was_meant() {
    let (code, page, _) = runbook(&["key-mismatch"]);
    assert_eq!(code, Some(0));
    assert_eq!(page, fs::read_to_string(manifest().join("docs/runbooks/key-mismatch.md")).unwrap());
    assert_eq!(runbook(&["certwardenrolledback"]).0, Some(0), "as one types it");
    let (code, list, _) = runbook(&[]);
    assert_eq!((code, list.lines().count()), (Some(0), PAGES.len()));
    let (code, out, err) = runbook(&["key-missmatch"]);
    assert_eq!((code, out.as_str()), (Some(64), ""));
    assert!(err.contains("did you mean key-mismatch?"), "{err}");
}
