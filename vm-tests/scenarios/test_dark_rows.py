"""Breaks: parts of the control plane expired yesterday, one after another, and its processes took them. About 260 s.

The API server's serving certificate, all of etcd's, controller-manager.conf, admin.conf. Must hold: the daemon alone,
and `certwarden renew`, bring each back; the seconds of each.
"""

import time
from dataclasses import dataclass

import pytest

from lib.api import seconds
from lib.command import CommandFailed, figure
from lib.node import now
from lib.waiting import wait_until

MANAGERS_LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager"
ETCD = (
    "pki/etcd/server.crt",
    "pki/etcd/peer.crt",
    "pki/etcd/healthcheck-client.crt",
    "pki/apiserver-etcd-client.crt",
)


@dataclass(frozen=True)
class Row:
    """What expires, who takes the expired files, and who renews: the daemon, or `renew` by hand."""

    what: str
    files: tuple[str, ...]
    killed: tuple[str, ...]
    by: str = "daemon"

    @property
    def kubeconfig(self) -> str | None:
        """The client that is shut out, where the API server itself goes on to answer."""
        return self.files[0] if self.files[0].endswith(".conf") else None


ROWS = [
    Row("the API server's serving certificate", ("pki/apiserver.crt",), ("kube-apiserver",)),
    Row("etcd's certificates, server, peer, clients", ETCD, ("etcd", "kube-apiserver")),
    # by hand, since the daemon renews nothing twice in a day
    Row("etcd's certificates again", ETCD, ("etcd", "kube-apiserver"), by="renew"),
    Row("controller-manager.conf", ("controller-manager.conf",), ("kube-controller-manager",)),
    Row("admin.conf", ("admin.conf",), ()),
]


@pytest.fixture(scope="module", autouse=True)
def identities(node):
    node.shorten_waits()
    node.boot()
    return node.files.identities()


def controller_manager_leads(node, since: float) -> bool:
    try:
        return seconds(node.api.get(MANAGERS_LEASE)["spec"].get("renewTime")) >= int(since)
    except CommandFailed:
        return False


def works(node, row: Row, since: float) -> bool:
    # a kubelet that was not restarted, as for admin.conf, sends its next heartbeat in its own time
    back = node.leased(since) if row.kubeconfig == "admin.conf" else node.ready(since)
    clients = ("admin.conf", "controller-manager.conf")
    accepted = back and node.healthy() and all(node.accepts(f"/etc/kubernetes/{c}") for c in clients)
    return accepted and controller_manager_leads(node, since)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_what_expired_is_brought_back(node, identities, row):
    before = node.transactions.count()
    node.make_due(-1, *row.files)
    serials = node.files.serials()
    node.kill_containers(*row.killed)

    def dark() -> bool:
        return not (node.accepts(f"/etc/kubernetes/{row.kubeconfig}") if row.kubeconfig else node.api.answers())

    wait_until("the expired files are in use", 120, dark)
    since, began = now(), time.monotonic()
    if row.by == "daemon":
        node.systemctl("start", "certwarden")
    else:
        assert node.certwarden("renew").code == 0
    wait_until("all of it works", 240, lambda: works(node, row, since))
    ready = time.monotonic() - began
    wait_until(
        "a transaction that has ended", 300, lambda: node.transactions.count() > before and node.transactions.ended()
    )
    figure(f"{row.what}, by {row.by}: {ready:.0f} s to Ready, {time.monotonic() - began:.0f} s to verified")
    assert node.transactions.state == "verified"
    assert node.files.renewed_since(serials) == set(row.files)
    node.files.assert_keys_match()
    assert node.files.identities() == identities
    node.systemctl("stop", "certwarden")


def test_nothing_is_left_to_be_found(node):
    assert node.certwarden("check").code == 0
