"""Breaks: there is no API server (its manifest is out), and the leaves are due in 20 days. About 150 s.

Must hold: renewed with the configuration that was cached while it answered, verified by what can be proven locally, and
both are said; nothing is rolled back for want of an answer; when the API server is back, the node is Ready and
everything serves the new leaves.
"""

import time

from lib.command import figure
from lib.faults import bring_api_server_back, take_api_server_away
from lib.node import API_SERVER, ETCD, now
from lib.waiting import wait_until


def test_without_an_api_server_the_cached_configuration_is_used(node):
    node.make_due(20)
    node.shorten_waits()
    node.boot()
    assert node.certwarden("renew", "--all", "--dry-run", "-o", "json").code == 0, "which caches the configuration"
    serials, identities = node.files.serials(), node.files.identities()
    take_api_server_away(node)

    began = time.monotonic()
    renewed = node.certwarden("renew", "--all", "-o", "json")
    figure(f"renew --all: {time.monotonic() - began:.0f} s, {' '.join(node.transactions.states())}")
    report = renewed.json
    assert renewed.code == 0
    assert report["outcome"] == "verified"
    assert report["node"]["ready_after"] is None, "nobody could be asked"
    node.files.assert_all_renewed(serials)
    assert node.files.identities() == identities
    node.files.assert_keys_match()
    assert [note for note in report["notes"] if "last one known" in note], "the cached configuration is said"
    assert "no answer about" in report["reason"]
    figure(f"notes: {'; '.join(report['notes'])}")
    assert node.served(ETCD) == node.files.serial("pki/etcd/server.crt")

    since = now()
    bring_api_server_back(node)
    node.wait_ready("with the API server back", since, 120)
    assert node.served(API_SERVER) == node.files.serial("pki/apiserver.crt")
    for name in ("kube-controller-manager", "kube-scheduler"):
        wait_until(f"{name} runs", 60, lambda name=name: node.containers(name))
