"""Breaks: all leaves end in 20 days, and only the daemon is there to see it. About 130 s.

Must hold: it is a notify service that is active and says what it does; it renews everything, and the node is Ready; a
person can follow it in under 40 lines of the journal, in `journalctl -x`, and in the Node's events and conditions; no
key is in them. A reload with a bad file keeps the old configuration.
"""

import time

from lib.command import figure
from lib.files import entry_name
from lib.machine import REPOSITORY
from lib.node import API_SERVER, now
from lib.waiting import wait_until

KEY_MATERIAL = ("PRIVATE KEY", "LS0tLS1")  # PEM's first line, also in base64


def test_the_daemon_renews_what_is_due_and_says_so(node):
    node.make_due(20)
    node.configure("40-cluster.toml", "[cluster]\nannotations = true\ncondition = true\n")
    node.boot()
    catalog = (REPOSITORY / "packaging/certwarden.catalog").read_text()
    node.write("/usr/lib/systemd/catalog/certwarden.catalog", catalog)
    node.run("journalctl", "--update-catalog")
    serials, since, began = node.files.serials(), now(), time.monotonic()

    node.systemctl("start", "certwarden")
    assert node.property("certwarden", "Type") == "notify"
    assert node.active("certwarden")
    node.wait_for_end(400)
    figure(f"renewed {time.monotonic() - began:.0f} s after its start: {' '.join(node.transactions.states())}")
    assert node.transactions.state == "verified"
    node.files.assert_all_renewed(serials)
    node.files.assert_keys_match()
    assert node.ready(since)
    assert node.served(API_SERVER) == node.files.serial("pki/apiserver.crt")


def test_a_person_can_follow_it_in_the_journal(node):
    time.sleep(2)  # the last words of a transaction
    records = node.journal("certwarden")
    for record in records:
        print(record["MESSAGE"])
    assert len(records) < 40
    figure(f"journalctl -u certwarden: {len(records)} lines")
    told = {(r.get("CW_STEP"), r.get("CW_COMPONENT")) for r in records if r.get("CW_TXN") and r.get("MESSAGE_ID")}
    assert told >= {("validate", None), ("rehearse", None), ("activate", "kube-scheduler"), ("activate", "kubelet")}
    proven = {r["CW_CERT"] for r in records if r.get("CW_STEP") == "verify" and "CW_CERT" in r}
    assert proven == {entry_name(leaf) for leaf in node.files.leaves}
    priorities = [int(r["PRIORITY"]) for r in records if r.get("SYSLOG_IDENTIFIER") == "certwarden"]
    assert min(priorities) == 5, "due certificates are a notice; nothing is a warning"
    assert [r for r in node.journal("kubelet") if r.get("SYSLOG_IDENTIFIER") == "certwarden"], (
        "who restarted the kubelet"
    )
    explained = node.run("journalctl", "-x", "-u", "certwarden", "--no-pager").out
    assert "The renewed certificates are served and accepted" in " ".join(explained.split()), "the catalog's entry"
    exported = node.run("journalctl", "-u", "certwarden", "-o", "export").out
    assert [word for word in KEY_MATERIAL if word in exported] == []


def test_kubernetes_and_systemd_say_it_too(node):
    def renewed_events() -> list[str]:
        events = node.api.get("/api/v1/namespaces/default/events")["items"]
        return [e["message"] for e in events if e["reason"] == "CertificateRenewed"]

    (message,) = wait_until("an event of the renewal", 90, renewed_events)
    figure(f"event: {message}")
    reasons = {e["reason"] for e in node.api.get("/api/v1/namespaces/default/events")["items"]}
    assert "CertificateExpiringSoon" in reasons
    object_ = node.api.get("/api/v1/nodes/node")
    conditions = {c["type"]: c["status"] for c in object_["status"]["conditions"]}
    assert conditions["CertificateProblem"] == "False"
    annotations = object_["metadata"]["annotations"]
    assert {"certwarden.io/earliest-expiry", "certwarden.io/last-renewal"} <= set(annotations)

    text = node.property("certwarden", "StatusText")
    assert len(text) >= 10
    figure(f"STATUS: {text}")
    status = node.certwarden("status", "-o", "json")
    assert (status.code, status.json["schema"]) == (0, "certwarden.status/v1")


def test_a_bad_file_is_named_and_the_old_configuration_kept(node):
    process, lines = node.property("certwarden", "MainPID"), len(node.messages("certwarden"))
    node.configure("90-bad.toml", "no-such-key = 1\n")
    node.run("systemctl", "reload", "certwarden", check=False)
    time.sleep(2)
    assert node.active("certwarden")
    assert node.property("certwarden", "MainPID") == process
    named = [message for message in node.messages("certwarden")[lines:] if "90-bad.toml" in message]
    assert named
    figure(f"bad file: {named[0]}")

    node.unconfigure("90-bad.toml")
    node.systemctl("reload", "certwarden")
    assert node.certwarden("check").code == 0
    began = time.monotonic()
    node.systemctl("stop", "certwarden")
    assert node.property("certwarden", "Result") == "success"
    figure(f"stop: {time.monotonic() - began:.0f} s")
    assert node.transactions.count() == 1
