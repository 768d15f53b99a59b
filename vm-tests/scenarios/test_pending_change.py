"""Breaks: the kubelet's configuration is edited badly and not in effect yet; later the kubelet is stopped. About 110 s.

Must hold: a renewal of admin.conf restarts nothing; one that would restart the kubelet, or a static pod whose manifest
was just changed, is refused with the file's name and touches nothing; a kubelet that an operator stopped stays stopped
until a person forces it, and the node is Ready again then.
"""

import pytest

from lib.command import figure
from lib.node import now

CONFIG = "/var/lib/kubelet/config.yaml"
SCHEDULER = "/etc/kubernetes/manifests/kube-scheduler.yaml"


@pytest.fixture(scope="module", autouse=True)
def running_node(node):
    node.shorten_waits()
    node.boot()


def assert_refused(node, what: str, gate: str, names: str) -> None:
    """One gate is closed, its reason has the name, and nothing live is touched."""
    content = node.files.content()
    refused = node.certwarden("renew", what, "-o", "json")
    assert (refused.code, refused.json["outcome"]) == (1, "refused")
    (refusal,) = refused.json["refusals"]
    assert refusal["gate"] == gate
    assert names in refusal["reason"]
    assert node.files.content() == content
    figure(f"{what}: {gate}: {refusal['reason']}")


@pytest.fixture
def bad_edit(node):
    """An edit that the kubelet has not read yet, taken back afterwards with its time."""
    node.run("cp", "-p", CONFIG, "/root/config.yaml")
    node.replace(CONFIG, "cgroupDriver: cgroupfs", "cgroupDriver: sideways")
    yield
    node.run("cp", "-p", "/root/config.yaml", CONFIG)


def test_a_bad_edit_of_the_kubelets_configuration_does_not_come_into_effect(node, bad_edit):
    kubelet = node.property("kubelet", "MainPID")
    renewed = node.certwarden("renew", "admin.conf", "-o", "json")
    assert (renewed.code, renewed.json["restarted"]) == (0, [])
    assert node.property("kubelet", "MainPID") == kubelet
    assert_refused(node, "apiserver", "pending-change", CONFIG)
    assert node.property("kubelet", "MainPID") == kubelet


def test_a_static_pod_whose_manifest_was_just_changed_is_left_alone(node):
    node.run("touch", SCHEDULER)
    scheduler = node.containers("kube-scheduler")
    assert_refused(node, "scheduler.conf", "pending-change", SCHEDULER)
    assert node.containers("kube-scheduler") == scheduler


def test_a_stopped_kubelet_stays_stopped_until_it_is_forced(node):
    node.systemctl("stop", "kubelet")
    assert_refused(node, "front-proxy-client", "stopped-by-hand", "kubelet.service")
    assert node.property("kubelet", "ActiveState") == "inactive"

    # what a stopped kubelet would be started with is what systemd has loaded, not what lies on the disk meanwhile
    drop_in = "/etc/systemd/system/kubelet.service.d/90-name.conf"
    node.write(drop_in, "[Service]\nEnvironment=KUBELET_EXTRA_ARGS=--hostname-override=other\n")
    assert node.problems("kubelet-client") == []
    node.systemctl("daemon-reload")
    assert "wrong-identity" in node.problems("kubelet-client")
    node.remove(drop_in)
    node.systemctl("daemon-reload")
    assert node.problems("kubelet-client") == []

    since = now()
    assert node.certwarden("renew", "front-proxy-client", "--force", "stopped-by-hand").code == 0
    node.wait_ready("after it was forced", since)
