"""Breaks: a kubelet that is frozen and makes no new container; then a runtime that freezes in the commit. About 230 s.

Must hold: the kubelet is restarted for the missing container and the renewal is proven, exit code 0; with the runtime
frozen all is rolled back with that reason, the containers that ran go on running, and the node is Ready once the
runtime is back, exit code 2.
"""

import time

import pytest

from lib.command import figure
from lib.node import now
from lib.waiting import wait_until


@pytest.fixture(scope="module", autouse=True)
def running_node(node):
    node.shorten_waits()
    node.boot()


def test_a_frozen_kubelet_is_restarted_for_the_missing_container(node):
    scheduler, old = node.containers("kube-scheduler"), node.files.serial("scheduler.conf")
    since, began = now(), time.monotonic()
    node.systemctl("kill", "-s", "SIGSTOP", "kubelet")
    renewed = node.certwarden("renew", "scheduler.conf", "-o", "json")
    figure(f"kubelet frozen: {time.monotonic() - began:.0f} s, {' '.join(node.transactions.states())}")
    assert renewed.code == 0
    assert node.files.serial("scheduler.conf") != old
    assert [n for n in renewed.json["notes"] if "kubelet.service" in n and "kube-scheduler" in n], "it is said"
    assert node.containers("kube-scheduler") not in (set(), scheduler)
    assert sorted(r["component"] for r in renewed.json["restarted"]) == ["kube-scheduler", "kubelet"]
    node.wait_ready("after the restart", since)
    node.wait_healthy("after the restart")


def test_a_frozen_runtime_means_a_rollback(node):
    content, began = node.files.content(), time.monotonic()
    containers = [node.containers(name) for name in ("kube-scheduler", "kube-apiserver")]
    # slowed down, so that the runtime freezes while files are being put in place, before any container is stopped
    renewal = node.begin_certwarden("renew", "apiserver", "scheduler.conf", "-o", "json", slow_renames=0.5)

    def second_stands(state: str) -> bool:
        transactions = node.transactions.all()
        return len(transactions) == 2 and transactions[1].state == state

    wait_until("files being put in place", 120, lambda: second_stands("committing"), during=renewal)
    node.systemctl("kill", "-s", "SIGSTOP", "containerd")
    wait_until("a rollback", 200, lambda: second_stands("rolling-back"), during=renewal)
    node.systemctl("kill", "-s", "SIGCONT", "containerd")

    renewed = renewal.wait()
    figure(f"runtime frozen: {time.monotonic() - began:.0f} s: {renewed.json['reason']}")
    assert (renewed.code, renewed.json["outcome"]) == (2, "rolled-back")
    assert "container runtime" in renewed.json["reason"]
    assert node.files.content() == content
    assert [node.containers(name) for name in ("kube-scheduler", "kube-apiserver")] == containers
    node.wait_leased("with the runtime back", now())
