"""Breaks: with the new certificates the kubelet exits at once; systemd calls its start done all the same. About 150 s.

Must hold: rolled back byte for byte, the kubelet runs with the old set and the node is Ready, exit code 2, the kubelet
is named; the daemon then waits before the next attempt, says until when, and does not loop.
"""

import time
from datetime import datetime

from lib.command import figure
from lib.faults import break_kubelet
from lib.node import now


def test_a_kubelet_that_exits_is_rolled_back_and_the_daemon_backs_off(node):
    node.make_due(20)
    node.boot()
    break_kubelet(node, "exits")
    content, since, began = node.files.content(), now(), time.monotonic()
    renewal = node.certwarden("renew", "--all", "-o", "json")
    figure(f"renew --all: {time.monotonic() - began:.0f} s, {' '.join(node.transactions.states())}")
    assert (renewal.code, renewal.json["outcome"]) == (2, "rolled-back")
    assert "kubelet" in renewal.json["reason"]
    figure(f"reason: {renewal.json['reason']}")
    assert node.logged("kubelet", "kubelet-that exits"), "the kubelet was never started with the new set"

    assert node.files.content() == content
    assert node.active("kubelet")
    node.wait_ready("with the old set", since)
    node.wait_served("with the old set")
    assert node.transactions.state == "rolled-back"

    before = node.transactions.count()
    node.systemctl("start", "certwarden")
    time.sleep(45)  # nothing happens
    assert node.transactions.count() == before, "the leaves are due, and the last attempt was rolled back a minute ago"
    assert node.active("certwarden")
    standing = node.certwarden("status", "-o", "json").json["standing"]
    assert (standing["standing"], standing["failures"]) == ("backing-off", 1)
    assert datetime.fromisoformat(standing["until"]).timestamp() > now()
    figure(f"backing off: {node.property('certwarden', 'StatusText')}")
    assert node.files.content() == content
