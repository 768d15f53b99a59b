"""Breaks: two clients have expired, so there is no rollback, and the new kubelet is never Ready. About 330 s.

Must hold: what is in place stays, the transaction is closed as unproven (exit code 2), `check` says so, and it holds up
no other renewal; the daemon proves it once the kubelet is mended; a person may accept another as it is.
"""

import time

import pytest

from lib.command import figure
from lib.faults import break_kubelet, mend_kubelet
from lib.node import now
from lib.transactions import Transaction
from lib.waiting import wait_until

PROXY = "pki/front-proxy-client.crt"


@pytest.fixture(scope="module", autouse=True)
def running_node(node):
    node.shorten_waits()
    node.make_due(-1, "scheduler.conf", PROXY)
    node.boot()


def mend(node) -> None:
    mend_kubelet(node)
    since = now()
    node.restart_kubelet()
    node.wait_ready("with the kubelet mended", since)


def renewed_and_not_proven(node) -> Transaction:
    """Renews both while the new kubelet is never Ready; the transaction, which is unproven."""
    break_kubelet(node, "never-ready", f"/etc/kubernetes/{PROXY}")
    serials = node.files.serials()
    renewal = node.certwarden("renew", "scheduler.conf", "front-proxy-client", "-o", "json")
    assert (renewal.code, renewal.json["outcome"]) == (2, "degraded")
    transaction = node.transactions.all()[-1]
    assert transaction.state == "unproven"
    assert node.files.renewed_since(serials) == {"scheduler.conf", PROXY}
    assert "unproven" in node.problems("scheduler.conf")
    figure(renewal.json["reason"])
    return transaction


def test_the_daemon_proves_it_once_the_kubelet_is_mended(node):
    unproven = renewed_and_not_proven(node)
    assert node.certwarden("renew", "admin.conf").code == 0, "it holds up no other renewal"
    mend(node)
    began = time.monotonic()
    node.systemctl("start", "certwarden")
    wait_until("the daemon proves it", 180, lambda: unproven.state == "verified")
    figure(f"proven {time.monotonic() - began:.0f} s after the daemon's start")
    assert node.problems("scheduler.conf") == []
    node.systemctl("stop", "certwarden")


def test_a_person_may_accept_it_as_it_is(node):
    node.make_due(-1, "scheduler.conf", PROXY)
    unproven = renewed_and_not_proven(node)
    assert node.certwarden("recover", "--accept").code == 0
    assert unproven.state == "accepted"
    assert node.problems("scheduler.conf") == []
    mend(node)
    assert node.certwarden("renew", "apiserver").code == 0
    node.files.assert_keys_match()
