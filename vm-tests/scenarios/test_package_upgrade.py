"""Breaks: the package is upgraded while the daemon's transaction is committed and not yet verified. About 150 s.

Later it is removed while a killed renewal stands there. On a real node that is due. Must hold: installing renews
nothing; the upgrade cuts and undoes nothing, the new daemon verifies; the removal ends what was open; after purging the
node is Ready.
"""

import time

import pytest

from lib.command import figure
from lib.node import Node, now
from lib.packages import install, left_over, started_anew, wait_for_first_look


@pytest.fixture(scope="module")
def node(bare_node) -> Node:
    bare_node.make_due(20)
    bare_node.shorten_waits()
    bare_node.boot()
    return bare_node


@pytest.fixture(scope="module")
def since() -> float:
    return now()


def test_an_upgrade_in_committed_undoes_nothing(node, since):
    content, serials = node.files.content(), node.files.serials()
    servers = [node.containers("etcd"), node.containers("kube-apiserver")]
    began = time.monotonic()
    install(node)
    assert node.files.content() == content
    assert not node.path("/var/lib/certwarden").exists()
    node.systemctl("enable", "--now", "certwarden")
    wait_for_first_look(node)
    figure(f"from dpkg -i to the first check: {time.monotonic() - began:.1f} s")
    node.wait_for_state("committed", 300)

    invocation, began = node.property("certwarden", "InvocationID"), time.monotonic()
    install(node, "next/certwarden.deb")
    figure(f"upgrade in committed: {time.monotonic() - began:.0f} s, then {' '.join(node.transactions.states())}")
    assert started_anew(node, "InvocationID", invocation)
    assert node.property("certwarden", "Result") == "success"
    node.wait_for_end()
    assert node.transactions.all()[0].states() == ["open", "staged", "committing", "committed", "verified"]
    node.files.assert_all_renewed(serials)
    node.files.assert_keys_match()
    assert [node.containers("etcd"), node.containers("kube-apiserver")] == servers
    assert node.ready(since)


def test_a_removal_ends_what_a_killed_renewal_left(node, since):
    node.systemctl("stop", "certwarden")
    serials = node.files.serials()
    renewal = node.begin_certwarden("renew", "--all")
    node.wait_for_state("committed", 300, during=renewal)
    node.run("pkill", "-KILL", "-f", "^(/usr/bin/)?certwarden renew")
    renewal.wait()
    assert node.transactions.state == "committed"

    began = time.monotonic()
    node.run("dpkg", "-r", "certwarden")
    figure(f"removal with an open transaction: {time.monotonic() - began:.0f} s, then {node.transactions.state}")
    assert node.transactions.state == "verified"
    node.files.assert_all_renewed(serials)
    node.files.assert_keys_match()
    assert not node.path("/usr/bin/certwarden").exists()


def test_purging_leaves_the_node_as_it_is(node, since):
    content = node.files.content()
    node.run("dpkg", "-P", "certwarden")
    assert left_over(node) == []
    assert node.files.content() == content
    assert node.ready(since)
    assert node.healthy()
