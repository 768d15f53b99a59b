"""Breaks: admin.conf has a bundle of two CAs and a further user, and there are copies of it in homes. About 150 s.

One of these is a hostile link. Then kubeadm is of another version, then gone, and admin.conf refers to files. Must
hold: bundle, users, servers, owners and modes are kept, copies are refreshed by the daemon in its sandbox, nothing is
written where somebody else says; then certwarden signs by itself, says why, and what a kubeconfig refers to is renewed
and accepted.
"""

import os
import re
from base64 import b64decode, b64encode

import pytest

from lib.command import figure, run
from lib.files import field, set_field
from lib.node import Node
from lib.waiting import wait_until

ADMIN = "/etc/kubernetes/admin.conf"
ROOTS, ANNS, OWN, EVES = (f"{home}/.kube/config" for home in ("/root", "/home/ann", "/home/own", "/home/eve"))
ELSEWHERE, KEYLESS = "/srv/vip.conf", "/srv/keyless.conf"
COPIES = """[kubeconfigs]
homes = ["/root", "/home/ann", "/home/eve", "/home/own"]
copies = ["/srv/vip.conf", "/srv/keyless.conf"]
"""


def without_identity(kubeconfig: str) -> str:
    return set_field(set_field(kubeconfig, "client-certificate-data", ""), "client-key-data", "")


def owners(node: Node) -> dict[str, tuple[int, int, int]]:
    found = {path: node.path(path).stat() for path in (ROOTS, ANNS, OWN, ELSEWHERE, KEYLESS)}
    return {path: (s.st_mode, s.st_uid, s.st_gid) for path, s in found.items()}


@pytest.fixture(scope="module")
def before(node) -> dict[str, str]:
    """Makes all of it, and boots; the files as they were."""
    node.make_due(20)
    node.shorten_waits()
    ca = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=next-ca", "-days", "3650"]
    next_ca = run([*ca, "-keyout", "/dev/null"], "make the next CA").out
    bundle = b64encode((node.read("/etc/kubernetes/pki/ca.crt") + next_ca).encode()).decode()
    admin = set_field(node.read(ADMIN), "certificate-authority-data", bundle)
    admin += "- name: eve\n  user:\n    token: not-ours\n"
    node.overwrite(ADMIN, admin.encode())

    moved = admin.replace("https://10.99.0.2:6443", "https://node:6443")
    node.write(ROOTS, admin, 0o600)
    node.write(ANNS, admin, 0o640)
    for path in ("/home/ann", "/home/ann/.kube", ANNS):
        os.chown(node.path(path), 1001, 1001)
    node.write(OWN, moved)
    node.write(ELSEWHERE, moved)
    other_key = field(node.read("/etc/kubernetes/scheduler.conf"), "client-key-data")
    node.write(KEYLESS, set_field(admin, "client-key-data", other_key))  # the certificate is no secret
    link = node.path("/home/eve/.kube")  # to have root's copy written where she says
    link.parent.mkdir()
    link.symlink_to("../../root/.kube")
    for path in (link, link.parent):
        os.lchown(path, 1002, 0)
    node.configure("30-copies.toml", COPIES)
    unit = "/etc/systemd/system/certwarden.service.d/copies.conf"
    node.write(unit, "[Service]\nReadWritePaths=/home/ann/.kube /srv\n")
    node.boot()
    return {path: node.read(path) for path in (ADMIN, KEYLESS, OWN)}


def test_the_daemon_keeps_what_is_not_the_identity_and_refreshes_copies(node, before):
    serials, owners_before = node.files.serials(), owners(node)
    node.systemctl("start", "certwarden")
    node.wait_for_end()
    wait_until("root's copy refreshed", 20, lambda: node.read(ROOTS) == node.read(ADMIN))
    node.systemctl("stop", "certwarden")
    assert node.transactions.state == "verified"
    node.files.assert_all_renewed(serials)

    admin = node.read(ADMIN)
    assert without_identity(admin) == without_identity(before[ADMIN])
    assert [n for n in node.transactions.all()[0].report()["notes"] if ADMIN in n], "that the bundle was put back"
    assert node.read(ROOTS) == node.read(ANNS) == admin
    assert field(node.read(ELSEWHERE), "client-key-data") == field(admin, "client-key-data")
    assert field(node.read(ELSEWHERE), "server") == "https://node:6443"
    assert node.read(KEYLESS) == before[KEYLESS]
    assert node.read(OWN) == before[OWN]
    assert owners(node) == owners_before
    assert node.path("/home/eve/.kube").is_symlink()
    for top in ("/home", "/srv", "/root/.kube"):
        assert list(node.path(top).rglob(".*certwarden*")) == []
    for copy in (ADMIN, ROOTS, ANNS):
        assert node.accepts(copy), copy


def test_what_was_left_alone_is_found(node, before):
    check = node.certwarden("check", "-o", "json")
    assert check.code == 1
    stale = {e["path"] for e in check.json["entries"] if "stale-copy" in [p["id"] for p in e["problems"]]}
    assert KEYLESS in stale
    assert "/home/eve/.kube is a symbolic link" in check.out
    refreshed = [m for m in node.messages("certwarden") if "was refreshed too" in m]
    figure(f"daemon: {len(refreshed)} copies refreshed; the link, the keyless and the changed copy left alone")


@pytest.mark.parametrize("kubeadm", ["too old", "not installed"])
def test_certwarden_signs_where_kubeadm_cannot_and_says_why(node, before, kubeadm):
    if kubeadm == "too old":
        node.move("/usr/bin/kubeadm", "/root/")
        node.write("/usr/bin/kubeadm", "#!/bin/bash\necho v1.18.20\n", 0o755)
    else:
        node.remove("/usr/bin/kubeadm")
    plan = node.certwarden("plan", "scheduler.conf", "-o", "json").json
    assert plan["source"]["kind"] == "local"
    assert kubeadm.split()[-1] in plan["source_reason"]
    figure(plan["source_reason"])


def test_without_kubeadm_what_a_kubeconfig_refers_to_is_renewed(node, before):
    admin = node.read(ADMIN)
    certificate = b64decode(field(admin, "client-certificate-data")).decode()
    node.write("/etc/kubernetes/pki/admin.crt", certificate)
    node.write("/etc/kubernetes/pki/admin.key", b64decode(field(admin, "client-key-data")).decode(), 0o600)
    admin = re.sub(r"client-certificate-data: .*", "client-certificate: pki/admin.crt", admin)
    admin = re.sub(r"client-key-data: .*", "client-key: /etc/kubernetes/pki/admin.key", admin)
    node.overwrite(ADMIN, admin.encode())

    renewed = node.certwarden("renew", "admin.conf", "scheduler.conf", "-o", "json")
    assert (renewed.code, renewed.json["outcome"]) == (0, "verified")
    assert node.read(ADMIN) == admin
    assert node.read("/etc/kubernetes/pki/admin.crt") != certificate
    assert node.accepts(ADMIN)
    proven = [c for c in renewed.json["credentials"] if c["name"] == "admin.conf" and c["proven"]]
    assert len(proven) == 2, "before the commit and after it"
