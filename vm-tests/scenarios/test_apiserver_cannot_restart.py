"""Breaks: an API server that does not reload, and whose manifest is made invalid after the commit. About 200 s.

Must hold: rolled back with its last words as the reason, nothing else restarted for the new set; with the manifest
repaired the old set is back and served, the node Ready, exit code 2.
"""

import time

from lib.command import figure
from lib.faults import pin
from lib.node import now

MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"


def test_an_api_server_that_cannot_restart_is_rolled_back_with_its_last_words(node):
    node.shorten_waits()
    node.boot()
    pin(node, "kube-apiserver", "/etc/kubernetes/pki")
    node.wait_served("from its copies", 60)
    content, old, began = node.files.content(), node.served(), time.monotonic()

    renewal = node.begin_certwarden("renew", "apiserver", "scheduler.conf", "-o", "json")
    node.wait_for_state("committed", 120, during=renewal)
    assert node.served() == old, "the new files are in place, and it serves the old one still"
    node.run("cp", "-p", MANIFEST, "/root/good.yaml")
    bad = node.read("/root/good.yaml").replace("exec kube-apiserver ", "exec kube-apiserver --no-such-flag ")
    node.write("/root/bad.yaml", bad, 0o600)
    node.move("/root/bad.yaml", MANIFEST)
    node.wait_for_state("rolling-back", 200, during=renewal)
    figure(f"rolling back {time.monotonic() - began:.0f} s after the start")
    node.move("/root/good.yaml", MANIFEST)  # an operator sees the typing error

    renewed = renewal.wait()
    figure(f"{time.monotonic() - began:.0f} s, {' '.join(node.transactions.states())}: {renewed.json['reason']}")
    assert (renewed.code, renewed.json["outcome"]) == (2, "rolled-back")
    assert renewed.json["restarted"] == [], "the scheduler ends by itself without an API server"
    assert "kube-apiserver" in renewed.json["reason"]
    assert "unknown flag: --no-such-flag" in renewed.json["reason"]
    assert node.files.content() == content
    assert node.served() == old == node.files.serial("pki/apiserver.crt")
    node.wait_leased("after the rollback", now())
