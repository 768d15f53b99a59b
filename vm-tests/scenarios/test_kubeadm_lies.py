"""Breaks: a kubeadm that lies, fails, hangs, dies half-way, damages files or signs with a wrong CA. About 110 s.

Then the CAs' keys are away, one after another. Must hold: it never goes past staging: nothing live changes, not a
timestamp; exit code 1 or 2; the reason is one sentence; no process is left behind. With renewer = "auto" certwarden
signs instead, and says so.
"""

import time

import pytest

from lib.command import Result, figure
from lib.machine import TESTS
from lib.node import now

KUBEADM, REAL = "/usr/bin/kubeadm", "/usr/bin/kubeadm.real"
MODES = [
    "lies",
    "fails",
    "hangs",
    "killed",
    "rubbish",
    "empties",
    "mixes",
    "meddles",
    "floods",
    "ca-key-away",
    "wrong-ca",
    "wrong-ca-hidden",
]


@pytest.fixture(scope="module", autouse=True)
def running_node(node):
    node.boot()
    node.configure("20-exec.toml", '[exec]\nkubeadm-timeout = "8s"\n')
    node.configure("30-kubeadm.toml", '[renew]\nrenewer = "kubeadm"\n')


@pytest.fixture
def bad_kubeadm(node):
    """Puts inside/kubeadm-that in the place of kubeadm; the real one is back afterwards."""
    node.move(KUBEADM, REAL)
    fake = (TESTS / "inside/kubeadm-that").read_text()
    yield lambda mode: node.write(KUBEADM, fake.replace("@MODE@", mode), 0o755)
    node.move(REAL, KUBEADM)


def assert_nothing_comes_of_it(node, what: str) -> Result:
    picture, began = node.files.picture(), time.monotonic()
    result = node.certwarden("renew", what, "-o", "json")
    assert result.code in (1, 2)
    assert node.files.picture() == picture
    assert not {"committing", "committed"} & set(node.transactions.states())
    reason = result.json["reason"]
    assert 0 < len(reason) <= 300
    assert "\n" not in reason
    figure(f"exit {result.code} in {time.monotonic() - began:.0f} s: {reason}")
    return result


@pytest.mark.parametrize("mode", MODES)
def test_nothing_comes_of_what_a_bad_kubeadm_makes(node, bad_kubeadm, mode):
    bad_kubeadm(mode)
    assert_nothing_comes_of_it(node, "--all")
    asked = node.run("journalctl", "-q", "-t", "kubeadm-that", "--no-pager", "-o", "cat").out.splitlines()
    assert [line for line in asked if line.startswith(f"{mode}:")], "kubeadm was never asked to renew"
    assert node.run("pgrep", "-f", "sleep 601|kubeadm.real", check=False).out == ""


@pytest.mark.parametrize(
    ("ca", "name"), [("front-proxy-ca", "front-proxy-client"), ("etcd/ca", "etcd-server"), ("ca", "apiserver")]
)
def test_without_a_cas_key_what_it_signs_is_left_out_by_name(node, ca, name):
    key = f"/etc/kubernetes/pki/{ca}.key"
    node.move(key, "/root/away.key")
    try:
        refused = assert_nothing_comes_of_it(node, name)
        assert name in refused.json["reason"]
        assert "key" in refused.json["reason"]
        plan = node.certwarden("plan", "--all", "-o", "json").json
        (skipped,) = [s for s in plan["skipped"] if s["name"] == name]
        assert "key" in skipped["reason"]
    finally:
        node.move("/root/away.key", key)


def test_by_itself_certwarden_signs_what_such_a_kubeadm_cannot_make(node, bad_kubeadm):
    node.wait_leased("still", now())
    node.unconfigure("30-kubeadm.toml")
    bad_kubeadm("fails")
    renewed = node.certwarden("renew", "front-proxy-client", "-o", "json")
    assert (renewed.code, renewed.json["outcome"]) == (0, "verified")
    notes = [note for note in renewed.json["notes"] if "kubeadm" in note]
    assert notes
    figure(f"renewer = auto: {notes[0]}")
