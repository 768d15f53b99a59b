"""Breaks: on a worker, a kubelet that does not rotate has a certificate that is due, and nobody approves. About 150 s.

Must hold: without approval nothing live changes, the reason is said, and there is one request, which is found again
once it is approved by hand; the next one is approved and signed by the controller manager alone; Ready; afterwards the
kubelet's own rotation works.
"""

import json
import time

import pytest
from cryptography.x509.oid import NameOID

from lib import x509
from lib.command import figure
from lib.node import now
from lib.waiting import wait_until
from lib.worker import Worker, heartbeat_age, let_kubelet_rotate, make_kubelet_due

BINDING = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
APPROVER = "kubeadm:node-autoapprove-certificate-rotation"
KEPT_KEY = "/var/lib/certwarden/request.pem"


@pytest.fixture(scope="module")
def worker(node) -> Worker:
    node.shorten_waits()
    make_kubelet_due(node)
    let_kubelet_rotate(node, False)
    worker = Worker(node)
    node.boot()
    return worker


@pytest.fixture(scope="module", autouse=True)
def binding(node, worker):
    """What lets the controller manager approve: it is taken away at first."""
    binding = node.api.get(f"{BINDING}/{APPROVER}")
    node.kubectl("delete", "clusterrolebinding", APPROVER)
    for name in ("resourceVersion", "uid"):
        binding["metadata"].pop(name)
    return binding


def test_without_approval_nothing_changes_and_the_request_is_found_again(node, worker):
    assert worker.certwarden("check", "-o", "json").json["role"] == "worker"
    assert worker.problems() == ["rotation-off", "expiring"]
    content = node.files.content()
    refused = worker.certwarden("renew", "-o", "json")
    assert refused.code == 1
    assert "nobody approved request certwarden-node-" in refused.json["reason"]
    figure(f"never approved: {refused.json['reason']}")
    assert node.files.content() == content
    (request,) = worker.requests()

    worker.approve(request["metadata"]["name"])
    since = now()
    renewed = worker.certwarden("renew", "-o", "json")
    assert (renewed.code, renewed.json["outcome"]) == (0, "verified")
    assert len(worker.requests()) == 1
    node.wait_ready("with what was approved by hand", since)
    figure(f"approved by hand: Ready by a heartbeat {heartbeat_age(node, since)} after renew began")
    assert node.files.kubelet_file.stat().st_mode & 0o777 == 0o600
    assert not node.path(KEPT_KEY).exists(), "its key is not kept"


def test_the_controller_manager_alone_approves_and_signs_the_next(node, worker, binding):
    old = node.files.kubelet_file
    node.kubectl("apply", "-f", "-", stdin=json.dumps(binding))
    make_kubelet_due(node)
    since = now()
    renewed = worker.certwarden("renew", "-o", "json")
    assert (renewed.code, renewed.json["outcome"]) == (0, "verified")
    assert len(worker.requests()) == 2
    assert node.files.kubelet_file != old
    node.wait_ready("with what the controller manager signed", since)
    figure(f"approved by the controller manager: Ready by a heartbeat {heartbeat_age(node, since)} after renew began")
    pem = node.files.kubelet_file.read_bytes()
    certificate = x509.certificate(pem)
    assert x509.belong_together(certificate, x509.private_key(pem))
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:node"
    assert certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"


def test_the_kubelets_own_rotation_works_afterwards(node, worker):
    make_kubelet_due(node)
    let_kubelet_rotate(node, True)
    since, began, old = now(), time.monotonic(), node.files.kubelet_file
    node.restart_kubelet()
    wait_until("the kubelet's own rotation", 60, lambda: node.files.kubelet_file != old)
    node.wait_ready("with its own certificate", since)
    figure(f"the kubelet rotated by itself {time.monotonic() - began:.0f} s after its start")
    assert worker.certwarden("check").code == 0
