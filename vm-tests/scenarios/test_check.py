"""Breaks nothing: a node fresh from kubeadm init, its table, JSON and exit codes. About 5 s.

Must hold: every leaf, every CA and the kubelet's certificates are listed, with serial and end as they are in the file;
asked for more time than there is, it warns; looking changes nothing.
"""

from datetime import datetime

import pytest

from lib import x509
from lib.command import figure

pytestmark = pytest.mark.readonly

NAMES = {
    "apiserver",
    "apiserver-etcd-client",
    "apiserver-kubelet-client",
    "front-proxy-client",
    "etcd-server",
    "etcd-peer",
    "etcd-healthcheck-client",
    "kubelet-client",
    "kubelet-serving",
    "ca",
    "etcd-ca",
    "front-proxy-ca",
}


def test_the_table_is_no_wider_than_a_terminal(node):
    check = node.certwarden("check")
    assert check.code == 0
    assert [line for line in check.out.splitlines() if len(line) > 100] == []


def test_every_certificate_is_listed_once_as_it_is_in_its_file(node):
    check = node.certwarden("check", "-o", "json")
    assert check.code == 0
    assert (check.json["schema"], check.json["verdict"], check.json["node"]) == ("certwarden.check/v1", "ok", "node")

    entries = check.json["entries"]
    assert node.files.kubeconfigs[:3] == ["admin.conf", "controller-manager.conf", "scheduler.conf"]
    names = [entry["name"] for entry in entries]
    assert [name for name in NAMES | set(node.files.kubeconfigs) if names.count(name) != 1] == []
    assert [entry["name"] for entry in entries if len(entry["impact"]) < 10] == []

    by_path = {entry["path"]: entry for entry in entries}
    for leaf in node.files.leaves:
        entry, certificate = by_path[f"/etc/kubernetes/{leaf}"], node.files.certificate(leaf)
        assert x509.serial(entry["serial"]) == certificate.serial_number, leaf
        assert datetime.fromisoformat(entry["not_after"]) == x509.end(certificate), leaf
    figure(f"{len(entries)} entries, verdict ok")


def test_one_name_gives_one_entry_and_an_unknown_one_is_an_error_of_usage(node):
    one = node.certwarden("check", "apiserver", "-o", "json")
    assert one.code == 0
    assert [entry["name"] for entry in one.json["entries"]] == ["apiserver"]
    assert node.certwarden("check", "no-such-name").code == 64


def test_asked_for_more_time_than_there_is_it_warns(node):
    node.configure("50-early.toml", '[renew]\nrenew-before = "400d"\n')
    try:
        check = node.certwarden("check", "-o", "json")
    finally:
        node.unconfigure("50-early.toml")
    assert (check.code, check.json["verdict"]) == (1, "warning")
    warnings = [entry["name"] for entry in check.json["entries"] if entry["severity"] == "warning"]
    figure(f"with renew-before = 400d: {len(warnings)} warnings")
