"""Breaks: one node in some thirty ways, one after another, each mended before the next. About 360 s.

Must hold: `certwarden diagnose` names the root cause of each, and calls the healthy node healthy; it changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lib import ills, rows
from lib.command import figure
from lib.node import Node, now

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Ill:
    """How it is broken, what `diagnose` calls it, and how it is mended: files alone, everything, or not at all."""

    breaks: Callable[[Node], None]
    cause: str
    files_only: bool = False
    before_mending: Callable[[Node], None] = lambda node: None
    goes_on: bool = False  # the next one begins where this one ends

    def __str__(self) -> str:
        return self.breaks.__name__


ILLS = [
    Ill(ills.kubelet_stopped, "kubelet-stopped"),
    Ill(ills.bad_configuration, "kubelet-crashes"),
    Ill(ills.expired_identity, "client-expired"),
    Ill(ills.identity_gone, "client-missing"),
    Ill(rows.cut_off, "client-damaged", files_only=True),
    Ill(rows.with_another_key, "client-key-mismatch", files_only=True),
    Ill(rows.another_nodes, "client-of-another", files_only=True),
    Ill(rows.of_another_ca, "client-other-ca", files_only=True),
    Ill(ills.kubeconfig_gone, "kubeconfig-broken"),
    Ill(rows.kubeconfig_points_nowhere, "kubeconfig-broken", files_only=True),
    Ill(rows.file_where_the_next_link_would_be, "rotation-blocked", files_only=True),
    Ill(rows.file_in_the_place_of_the_link, "rotation-blocked", files_only=True),
    Ill(rows.identity_in_the_kubeconfig, "embedded-identity", files_only=True),
    Ill(ills.leads_to("https://nowhere.invalid:6443"), "server-name-unknown", files_only=True),
    Ill(ills.leads_to("https://10.99.0.77:6443"), "server-unreachable", files_only=True),
    Ill(ills.leads_to("https://10.99.0.2:6444"), "server-refuses", files_only=True),
    Ill(ills.leads_to("https://127.0.0.1:6443"), "apiserver-name", files_only=True),
    Ill(ills.trusts_another_ca, "ca-rotated", files_only=True),
    Ill(ills.ca_expired, "ca-expired", files_only=True),
    Ill(ills.clock_was_ahead, "clock-wrong", files_only=True),
    Ill(ills.no_room, "no-room", before_mending=ills.make_room),
    Ill(ills.serving_pair_expired, "serving-expired", files_only=True),
    Ill(ills.controller_manager_expired, "certificate-bad", files_only=True),
    Ill(ills.serving_request_waits, "serving-not-approved", before_mending=ills.delete_requests),
    Ill(ills.rotation_is_off, "rotation-off"),
    Ill(ills.nobody_may_approve, "approver-may-not", goes_on=True),
    Ill(ills.request_denied, "request-denied", before_mending=ills.let_requests_be_approved),
    Ill(ills.node_object_deleted, "node-missing", before_mending=ills.register),
    Ill(ills.no_network, "not-ready-other"),
    Ill(ills.api_server_expired, "apiserver-expired"),
    Ill(ills.etcd_expired, "control-plane-expired"),
    Ill(ills.api_server_away, "apiserver-down"),
    Ill(ills.api_server_with_a_bad_flag, "apiserver-down"),
    Ill(ills.etcd_with_a_bad_flag, "etcd-down"),
]


@pytest.fixture(scope="module")
def healthy(node) -> ills.Healthy:
    node.boot()
    return ills.Healthy(node)


def test_the_healthy_node_is_healthy(node, healthy):
    assert node.certwarden("diagnose").code == 0
    assert node.certwarden("diagnose", "-o", "json").json["playbooks"][0]["root_cause"]["id"] == "healthy"
    clients = node.certwarden("diagnose", "clients", "-o", "json").json["playbooks"][0]
    assert clients["root_cause"]["id"] == "healthy"
    assert clients["steps"][0]["identity"] == "admin.conf", "the API server's metric was read"


@pytest.mark.parametrize("ill", ILLS, ids=str)
def test_the_root_cause_is_named(node, healthy, ill):
    since = now()
    ill.breaks(node)
    content = node.files.content()
    diagnosis = node.certwarden("diagnose", "-o", "json")
    assert node.files.content() == content
    playbook = diagnosis.json["playbooks"][0]
    assert playbook["root_cause"]["id"] == ill.cause
    assert diagnosis.code != 0
    besides = " ".join(cause["id"] for cause in playbook["also"])
    figure(f"{ill}: {ill.cause}, exit {diagnosis.code}, besides: {besides}")
    if ill.goes_on:
        return
    ill.before_mending(node)
    if ill.files_only:
        healthy.put_back()
    else:
        healthy.restore(since)


def test_it_is_healthy_in_the_end(node, healthy):
    assert node.certwarden("diagnose").code == 0
