//! What others have written, in a certificate, a file name, an annotation or an answer, commands no terminal and hides nothing:
//! the programs themselves, run on trees where it was tried.

use std::process::Output;

use crate::run;
use crate::support;
use certwarden::model::plain;
use run::{Node, control_plane};
use serde_json::{Value, json};
use support::odd::edit;
use support::{Tree, Usage};

/// Sets a window's title, clears the screen, paints; the same by C1; turns the line around; hides letters.
const EVIL: &str = "x\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[32mOK\u{9b}31m\u{202e}\u{2066}\u{200b}\u{e0041}";

/// Only lines, and characters that have a shape.
#[track_caller]
fn assert_plain(output: &Output) {
    for stream in [&output.stdout, &output.stderr] {
        let text = std::str::from_utf8(stream).unwrap();
        let odd: Vec<char> = text.chars().filter(|c| *c != '\n' && !plain::is_plain(*c)).collect();
        assert!(odd.is_empty(), "{odd:?} in {text:?}");
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A node whose scheduler's certificate, flags and kubeconfig were written by somebody who means ill.
fn evil() -> Node {
    control_plane(|t: &Tree| {
        let leaf = t.leaf(&t.ca, "scheduler.conf", (EVIL, Some(EVIL)), Usage::Client);
        let identity = format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            openssl::base64::encode_block(&leaf.cert_pem),
            openssl::base64::encode_block(&leaf.key_pem)
        );
        t.write("/etc/kubernetes/scheduler.conf", t.kubeconfig("system:kube-scheduler", &identity), 0o600);
        let other = json!({"name": EVIL, "user": {}});
        edit(t, "/etc/kubernetes/admin.conf", "users:\n", &format!("users:\n- {other}\n"));
        let path = format!("/etc/kubernetes/pki/{EVIL}.crt");
        let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
        let flag = json!(format!("--tls-sni-cert-key={path},/etc/kubernetes/pki/sni.key"));
        edit(t, manifest, "    - --secure-port=6443\n", &format!("    - --secure-port=6443\n    - {flag}\n"));
    })
}

#[test]
fn certificates_file_names_and_kubeconfigs_command_no_terminal() {
    let node = evil();
    for args in [
        &["check"][..],
        &["check", "-o", "wide"],
        &["check", "-o", "json"],
        &["plan", "--all"],
        &["plan", "--all", "-o", "json"],
        &["history"],
        &["renew", EVIL],
        &["check", EVIL],
        &["rollback", EVIL],
        &["history", EVIL],
        &["runbook", EVIL],
    ] {
        let output = node.run(args);
        assert_plain(&output);
    }
    let wide = text(&node.run(&["check", "-o", "wide"]));
    assert!(wide.contains("wrong-identity") && wide.contains("x\u{fffd}]0;owned"), "it is shown, visibly: {wide}");
    // the document says what is there, to programs
    let document: Value = serde_json::from_slice(&node.run(&["check", "-o", "json"]).stdout).unwrap();
    assert!(document.to_string().contains(&serde_json::to_string(EVIL).unwrap()[1..10]), "{document}");
    let subjects: Vec<&str> =
        document["entries"].as_array().unwrap().iter().filter_map(|e| e["subject"].as_str()).collect();
    assert!(subjects.iter().any(|s| s.contains('\u{202e}')), "{subjects:?}");
}

#[test]
fn what_the_daemon_and_others_left_on_the_disk_commands_no_terminal() {
    let node = control_plane(|t: &Tree| {
        let at = "2026-11-22T12:00:00Z";
        let status = json!({
            "schema": "certwarden.status/v1", "version": EVIL, "pid": 1, "at": at, "mode": "enforce", "doing": "idle",
            "step": EVIL, "standing": {"standing": "observe-only", "since": at, "reason": EVIL},
            "last_check": {
                "at": at, "verdict": "critical", "certificates": 1, "next_end": {"name": EVIL, "at": at},
                "attention": [{"name": EVIL, "verdict": "critical", "message": EVIL}], "unfinished": false,
                "waits": {"until": null, "why": EVIL}, "paused": {"since": at, "reason": EVIL, "by": EVIL}
            },
            "next_check": at, "last_transaction": null, "warnings": [EVIL, "two\nlines"]
        });
        t.write("/run/certwarden/status.json", status.to_string(), 0o644);
        t.write("/var/lib/certwarden/pause.json", json!({"since": at, "reason": EVIL}).to_string(), 0o600);
        let act = json!({"at": at, "what": "pause", "by": EVIL, "detail": EVIL});
        t.write("/var/lib/certwarden/acts.jsonl", format!("{act}\n"), 0o600);
        let id = "000001-20261122T120000Z";
        let ledger = json!({
            "schema": "certwarden.ledger/v1", "at": at, "state": "open", "by": EVIL, "forced": [EVIL],
            "files": [{"path": EVIL, "entry": EVIL, "sha256": "nothing", "attributes": {
                "uid": 0, "gid": 0, "mode": 384, "mtime_ns": 0, "atime_ns": 0
            }}]
        });
        let end = json!({"schema": "certwarden.ledger/v1", "at": at, "state": "discarded", "reason": EVIL});
        t.write(&format!("/var/lib/certwarden/transactions/{id}/ledger.jsonl"), format!("{ledger}\n{end}\n"), 0o600);
    });
    let mut seen = String::new();
    for args in [
        &["status"][..],
        &["status", "-o", "json"],
        &["history"],
        &["history", "-o", "json"],
        &["npd-plugin"],
        &["plan", "--all"],
        &["renew", "--all"],
    ] {
        let output = node.run(args);
        assert_plain(&output);
        seen += &text(&output);
    }
    assert!(seen.matches("x\u{fffd}]0;owned").count() > 5, "it is shown, visibly: {seen}");
    assert!(seen.contains("warning      two lines\n"), "what others wrote makes no lines of its own: {seen}");
}

#[test]
fn a_pause_with_an_evil_reason_is_told_in_plain_text() {
    let node = control_plane(|_| {});
    let output = node.run(&["pause", "--reason", EVIL]);
    assert_plain(&output);
    assert!(text(&output).contains("x\u{fffd}]0;owned"), "{output:?}");
    let kept = node.tree.read("/var/lib/certwarden/pause.json");
    assert!(kept.chars().all(|c| c == '\n' || plain::is_plain(c)), "{kept:?}");
    let history = node.run(&["history"]);
    assert_plain(&history);
    let history = text(&history);
    assert!(history.contains("DECIDED BY PEOPLE\n") && history.contains("  pause by "), "{history}");
}
