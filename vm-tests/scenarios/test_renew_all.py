"""Breaks nothing: `renew --all` on a Ready node that is written to twenty times a second. About 280 s.

Must hold: all leaves and kubeconfigs are new; identities, modes and owners stay; nothing is left over; the report's
serial of each socket is the one that it serves; API server and etcd go on running, controller manager and scheduler are
new containers; Ready by a newer heartbeat; no write fails or is lost. Beside it, the figures of two other ways.
"""

import time
from collections.abc import Callable

import pytest

from lib import x509
from lib.command import figure
from lib.node import API_SERVER, ETCD, ETCD_PEER, now
from lib.waiting import wait_until
from lib.writes import Writer

SERVERS, CLIENTS = ("etcd", "kube-apiserver"), ("kube-controller-manager", "kube-scheduler")
SOCKETS = {API_SERVER: "pki/apiserver.crt", ETCD: "pki/etcd/server.crt", ETCD_PEER: "pki/etcd/peer.crt"}


@pytest.fixture(scope="module", autouse=True)
def running_node(node):
    node.boot()


def mounts(node) -> list[str]:
    return [m for m in node.run("findmnt", "-rno", "TARGET").out.splitlines() if "kubernetes" in m]


def test_everything_is_renewed_and_no_write_fails(node):
    files = node.files
    serials, identities, names, mounts_before = files.serials(), files.identities(), files.names(), mounts(node)
    containers = {name: node.container(name) for name in SERVERS + CLIENTS}
    heartbeat, since = node.api.heartbeat(), now()

    writer, began = Writer(node), time.monotonic()
    renewed = node.certwarden("renew", "--all", "-o", "json")
    took = time.monotonic() - began
    writes = writer.end()

    report = renewed.json
    assert (renewed.code, report["schema"], report["outcome"]) == (0, "certwarden.report/v1", "verified")
    assert (writes.failed, writes.lost) == (0, 0)
    figure(f"certwarden renew --all ({took:.0f} s): {writes}")

    files.assert_all_renewed(serials)
    files.assert_keys_match()
    assert files.identities() == identities
    assert files.names() == names
    assert mounts(node) == mounts_before
    assert len(report["renewed"]) == len(serials)

    assert [s for s in report["sockets"] if s["ok"] is not True] == []
    for address, leaf in SOCKETS.items():
        port = address.split(":")[1]
        told = {x509.serial(s["serial"]) for s in report["sockets"] if s["address"].endswith(f":{port}")}
        assert told == {node.served(address)} == {files.serial(leaf)}, address
    assert [c for c in report["credentials"] if c["proven"] is not True] == []

    assert {name: node.container(name) for name in SERVERS} == {name: containers[name] for name in SERVERS}
    assert [name for name in CLIENTS if node.container(name) == containers[name]] == []
    assert (report["node"]["ready_before"], report["node"]["ready_after"]) == (True, True)
    assert node.ready(since)
    steps = [f"{t['step']} {t['milliseconds'] / 1000} s" for t in report["took"] if t["milliseconds"] >= 100]
    figure(f"by step: {', '.join(steps)}")
    figure(f"heartbeat {node.api.heartbeat() - heartbeat:.0f} s newer; {len(report['credentials'])} credentials proven")


# what scripts do, and what kubeadm's documentation says, measured in the same way


def all_four_pods_are_removed_at_once(node) -> None:
    label = 'labels."io.kubernetes.pod.namespace"==kube-system'
    kill = "for i in $(ctr -n k8s.io containers ls -q '%s'); do ctr -n k8s.io tasks kill -s SIGKILL $i & done; wait"
    node.run("bash", "-c", kill % label, check=False)


def manifests_are_taken_out_for_twenty_seconds(node) -> None:
    manifests, out = node.files.kubernetes / "manifests", node.path("/root/out")
    out.mkdir()
    for manifest in manifests.iterdir():
        manifest.rename(out / manifest.name)
    time.sleep(20)
    wait_until("pods gone", 60, lambda: not any(node.containers(name) for name in SERVERS + CLIENTS))
    for manifest in out.iterdir():
        manifest.rename(manifests / manifest.name)


@pytest.mark.parametrize("how", [all_four_pods_are_removed_at_once, manifests_are_taken_out_for_twenty_seconds])
def test_beside_it_other_ways_have_a_gap(node, how: Callable[..., None]):
    """A way without a gap would mean that the measure is broken."""
    writer, began = Writer(node), time.monotonic()
    node.run("kubeadm", "certs", "renew", "all")
    how(node)
    node.wait_healthy(f"after {how.__name__}", 120)
    took = time.monotonic() - began
    writes = writer.end()
    figure(f"kubeadm certs renew all, {how.__name__.replace('_', ' ')} ({took:.0f} s): {writes}")
    assert writes.failed > 0
