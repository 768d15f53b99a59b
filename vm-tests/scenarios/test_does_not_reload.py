"""Breaks: an etcd that serves from copies its container makes at its start: it never sees what is renewed. About 110 s.

Must hold: the serial on the wire gives it away, it is restarted within its deadline and serves the new leaves then; the
API server goes on running; exit code 0.
"""

import time

from lib.command import figure
from lib.faults import pin
from lib.node import ETCD, ETCD_PEER


def test_an_etcd_that_does_not_reload_is_restarted(node):
    node.shorten_waits()
    node.boot()
    pin(node, "etcd", "/etc/kubernetes/pki/etcd")
    old, etcd, api_server = node.served(ETCD), node.containers("etcd"), node.containers("kube-apiserver")
    assert old == node.files.serial("pki/etcd/server.crt")

    began = time.monotonic()
    renewal = node.begin_certwarden("renew", "etcd-server", "etcd-peer", "-o", "json")
    node.wait_for_state("committed", 120, during=renewal)
    assert node.served(ETCD) == old, "the new files are in place, and it serves the old one still"
    assert node.files.serial("pki/etcd/server.crt") != old

    renewed = renewal.wait()
    figure(f"renew etcd-server etcd-peer: {time.monotonic() - began:.0f} s, {' '.join(node.transactions.states())}")
    assert renewed.code == 0
    restarted = renewed.json["restarted"]
    assert [r["component"] for r in restarted] == ["etcd", "kubelet"]
    assert node.containers("etcd") not in (set(), etcd)
    assert restarted[0]["new_id"] == node.container("etcd")
    assert node.containers("kube-apiserver") == api_server
    assert node.serves("pki/etcd/server.crt", ETCD)
    assert node.serves("pki/etcd/peer.crt", ETCD_PEER)
    figure(f"served {old:x} after the commit, {node.served(ETCD):x} after the restart")
