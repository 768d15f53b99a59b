"""Breaks: all leaves expired yesterday, and the node was rebooted: its API server crashes in a loop. About 150 s.

etcd refuses the API server's client. Must hold: the daemon alone sees the emergency, renews without the API's
configuration and without a cache, and the node is Ready again; it never goes back to what has expired.
"""

import time

from lib.command import figure
from lib.node import API_SERVER, now
from lib.waiting import wait_until


def test_the_daemon_alone_brings_an_expired_node_back(node):
    node.make_due(-1)
    node.shorten_waits()
    identities, serials = node.files.identities(), node.files.serials()
    node.start()

    def crashes() -> bool:
        crash = "back-off .*restarting failed container=kube-apiserver"
        return node.succeeds("journalctl", "-u", "kubelet", "-q", "-n1", f"--grep={crash}")

    wait_until("the API server crashes in a loop", 180, crashes)
    assert node.certwarden("check").code == 2
    since, began = now(), time.monotonic()
    assert not node.ready(since)

    node.systemctl("start", "certwarden")
    node.wait_ready("again", since, 120)
    figure(f"Ready {time.monotonic() - began:.0f} s after the daemon's start")
    node.wait_for_end()
    figure(f"verified after {time.monotonic() - began:.0f} s: {' '.join(node.transactions.states())}")
    assert node.transactions.state == "verified"
    node.files.assert_all_renewed(serials)
    assert node.files.identities() == identities
    node.files.assert_keys_match()
    critical = [m for m in node.messages("certwarden", "-p", "crit") if "apiserver" in m]
    assert critical, "expired certificates are critical in the journal"
    node.wait_healthy("again", 60)
    assert node.served(API_SERVER) == node.files.serial("pki/apiserver.crt")
    assert node.certwarden("check").code == 0
