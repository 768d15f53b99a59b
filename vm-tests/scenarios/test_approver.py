"""Breaks: 24 nodes of which somebody else is root ask for serving certificates that are not theirs. About 300 s.

They write names and addresses of the API, of Services, of other nodes (a deleted one among them), of clouds and of
strangers into their own Nodes and ask for them, or for their own name in a way that no kubelet does; one files 300
requests. Must hold: none is approved, with approver.networks or without; what is forged for certain is denied, what
nobody can tell stays pending, counted and said once; the control plane's own request, although a worker claims its
address, and a worker's are approved meanwhile.
"""

import time

import pytest

from lib.command import figure
from lib.strangers import Stranger, asks_oddly, forges, went
from lib.waiting import wait_until

LEFT_TO_A_PERSON = [
    "evil-deleted-address",
    "evil-deleted-name",
    "evil-others-address",
    "evil-outside",
    "evil-outside-name",
    "evil-range",
]
FORGERIES = {
    "api-capitals": ("ExternalDNS", "Kubernetes.Default.SVC"),
    "api-dot": ("ExternalDNS", "kubernetes.default.svc."),
    "api-short": ("Hostname", "kubernetes"),
    "api-address": ("ExternalIP", "10.96.0.1"),
    "service": ("ExternalIP", "10.96.0.77"),
    "range": ("ExternalIP", "10.96.44.44"),
    "metadata": ("ExternalIP", "169.254.169.254"),
    "loopback": ("ExternalIP", "127.0.0.1"),
    "localhost": ("ExternalDNS", "localhost"),
    "mapped": ("InternalIP", "::ffff:10.99.0.88"),
    "outside": ("ExternalIP", "203.0.113.7"),
    "outside-name": ("ExternalDNS", "vault.corp.example"),
    "others-name": ("Hostname", "node"),
    "others-address": ("InternalIP", "10.99.0.88"),
    "deleted-name": ("Hostname", "gone"),
    "deleted-address": ("InternalIP", "10.99.0.99"),
    "wildcard": ("ExternalDNS", "*.example.org"),
}


def configure(node, *more: str) -> None:
    node.configure("30-approver.toml", "\n".join(["[approver]", "enabled = true", *more, ""]))


@pytest.fixture(scope="module")
def worker(node) -> Stranger:
    """An honest worker of three, all of which claim addresses of their own; another one is gone later."""
    node.shorten_waits()
    node.append("/var/lib/kubelet/config.yaml", "serverTLSBootstrap: true\n")
    node.boot()
    node.kubectl("create", "service", "clusterip", "victim", "--clusterip=10.96.0.77", "--tcp=80")
    Stranger(node, "gone", InternalIP="10.99.0.99")
    Stranger(node, "w2", InternalIP="10.99.0.88")
    return Stranger(node, "w1", InternalIP="10.99.0.77")


def test_the_control_planes_own_request_is_approved_beside_forgeries(node, worker):
    # they are there before the control plane's own request can be approved
    forges(node, "api-service", "ExternalDNS", "kubernetes.default.svc")
    forges(node, "api-server", "ExternalIP", "10.99.0.2")
    configure(node)
    node.systemctl("start", "certwarden")
    began = time.monotonic()
    wait_until("the control plane's own request approved", 120, lambda: went(node, "Approved", "csr-"))
    figure(f"its own: approved {time.monotonic() - began:.0f} s after the daemon's start")


@pytest.fixture(scope="module")
def forgers(node) -> dict[str, Stranger]:
    node.kubectl("delete", "node", "gone")
    return {what: forges(node, what, kind, address) for what, (kind, address) in FORGERIES.items()}


def test_no_forgery_is_approved(node, worker, forgers):
    other = "/O=system:nodes/CN=system:node:node"
    assert asks_oddly(node, "client", usages=("client auth", "server auth"))
    assert asks_oddly(node, "ca", "-addext", "basicConstraints=critical,CA:TRUE")
    refused = 0 if asks_oddly(node, "subject", subject=other) else 1  # by NodeRestriction, in newer versions
    assert asks_oddly(node, "unit", subject="/O=system:nodes/OU=x/CN=system:node:evil-unit")
    assert asks_oddly(node, "mail", names="DNS:evil-mail,email:root@example.org")
    worker.ask("good-1", "DNS:w1,IP:10.99.0.77")

    wait_until("every forgery looked at", 180, lambda: went(node, "Pending", "evil-") == LEFT_TO_A_PERSON)
    assert went(node, "Approved", "evil-", "good-") == []
    assert went(node, "Pending", "good-") == ["good-1"], "a worker's first request, without approver.networks"
    undecided = len(LEFT_TO_A_PERSON) + 1

    def counted() -> bool:
        metrics = node.run("cat", "/run/certwarden/metrics.prom").out.splitlines()
        return f"certwarden_approver_undecided {undecided}" in metrics

    wait_until("what is pending counted", 120, counted)
    denied = went(node, "Denied", "evil-")
    assert len(denied) == 24 - refused - len(LEFT_TO_A_PERSON)
    told = [m for m in node.messages("certwarden") if m.startswith("request ") and "is left to a person" in m]
    assert len(told) == undecided, "each is said once"
    figure(f"24 forgeries: {refused} refused by the API, {len(denied)} denied, 6 left to a person, 0 approved")


def test_with_networks_workers_are_approved_and_a_flood_holds_up_nobody(node, worker, forgers):
    configure(node, 'networks = ["10.99.0.0/24"]')
    node.systemctl("reload", "certwarden")
    began = time.monotonic()
    wait_until("the worker's request approved", 60, lambda: went(node, "Approved", "good-1"))
    figure(f"a worker's first: approved {time.monotonic() - began:.0f} s after approver.networks")

    forgers["outside"].flood(300, "DNS:evil-outside,IP:203.0.113.7")
    began = time.monotonic()
    worker.ask("good-2", "DNS:w1,IP:10.99.0.77")
    wait_until("a good request behind a flood approved", 45, lambda: went(node, "Approved", "good-2"))
    figure(f"behind 300 of another node: approved in {time.monotonic() - began:.0f} s")
    wait_until("the flood, ten in a pass", 120, lambda: went(node, "Denied", "evil-flood-"))
    assert went(node, "Approved", "evil-") == []
    pending = went(node, "Pending", "evil-o", "evil-d")
    assert {"evil-deleted-address", "evil-others-address"} <= set(pending)
    assert node.certwarden("check").code == 0
