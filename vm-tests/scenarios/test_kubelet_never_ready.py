"""Breaks: with the new certificates the kubelet runs, healthy, and never reaches the API server. About 170 s.

Must hold: "active" does not pass for Ready: rolled back byte for byte within the verify timeout, Ready again with the
old set, exit code 2.
"""

import time

from lib.command import figure
from lib.faults import break_kubelet
from lib.node import now


def test_a_kubelet_that_never_becomes_ready_is_rolled_back(node):
    node.shorten_waits()
    node.boot()
    break_kubelet(node, "never-ready")
    content, since, began = node.files.content(), now(), time.monotonic()
    renewal = node.certwarden("renew", "--all", "-o", "json")
    figure(f"renew --all: {time.monotonic() - began:.0f} s, {' '.join(node.transactions.states())}")
    assert (renewal.code, renewal.json["outcome"]) == (2, "rolled-back")
    assert "node" in renewal.json["reason"].lower()
    figure(f"reason: {renewal.json['reason']}")
    assert node.logged("kubelet", "kubelet-that never-ready"), "the kubelet was never started with the new set"

    assert node.files.content() == content
    node.wait_ready("with the old set", since)
    assert node.transactions.state == "rolled-back"
