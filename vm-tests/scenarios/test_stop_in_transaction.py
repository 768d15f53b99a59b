"""Breaks: the daemon is stopped while its transaction is committed and not yet verified. About 130 s.

The trap: while our unit stops, systemd starts nothing that we are ordered after, and that is the kubelet: who waits for
the kubelet's restart then waits for himself. Must hold: it stops within a minute and in good order, takes nothing for a
failure because it is in a hurry, and restarts nothing for it; started again it verifies, and the node is Ready.
"""

import time

from lib.command import figure
from lib.node import now


def test_a_stop_undoes_nothing_and_the_next_start_verifies(node):
    node.make_due(20)
    node.shorten_waits()
    node.boot()
    serials, since = node.files.serials(), now()
    servers = [node.containers("etcd"), node.containers("kube-apiserver")]
    node.systemctl("start", "certwarden")
    node.wait_for_state("committed", 300)

    began = time.monotonic()
    node.run("timeout", "200", "systemctl", "stop", "certwarden")
    took = time.monotonic() - began
    figure(f"stop in committed: {took:.0f} s, then {' '.join(node.transactions.states())}")
    assert took <= 60
    assert node.property("certwarden", "Result") == "success"
    assert node.transactions.state in ("committed", "verified")
    node.files.assert_all_renewed(serials)
    node.files.assert_keys_match()
    assert [node.containers("etcd"), node.containers("kube-apiserver")] == servers

    node.systemctl("start", "certwarden")
    node.wait_for_end()
    figure(f"after the next start: {' '.join(node.transactions.states())}")
    assert node.transactions.state == "verified"
    assert [node.containers("etcd"), node.containers("kube-apiserver")] == servers
    node.files.assert_keys_match()
    assert node.ready(since)
