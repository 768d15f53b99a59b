"""Breaks nothing: `renew --all --dry-run` on a Ready node stages, validates and rehearses, and discards. About 20 s.

Must hold: each staged credential is proven, and the report says against what; no byte, inode or timestamp of the live
files changes; no container and no kubelet restarts; no key stays behind, and nothing stays mounted.
"""

import time

import pytest

from lib.command import figure

pytestmark = pytest.mark.readonly

KEY = "PRIVATE KEY|client-key-data"


def test_a_dry_run_proves_every_credential_and_leaves_nothing_behind(node):
    def processes() -> tuple[str, ...]:
        kubelet = [node.property("kubelet", p) for p in ("InvocationID", "MainPID", "NRestarts")]
        return (*kubelet, *sorted(node.run("ctr", "-n", "k8s.io", "tasks", "ls").out.splitlines()))

    def mounts() -> list[str]:
        return sorted(node.run("findmnt", "-rno", "TARGET").out.splitlines())

    picture, processes_before, mounts_before, began = node.files.picture(), processes(), mounts(), time.monotonic()
    dry_run = node.certwarden("renew", "--all", "--dry-run", "-o", "json")
    figure(f"dry run: {time.monotonic() - began:.0f} s")

    assert (dry_run.code, dry_run.json["outcome"]) == (0, "dry-run")
    assert node.files.picture() == picture
    assert processes() == processes_before
    assert mounts() == mounts_before

    credentials = dry_run.json["credentials"]
    assert len(credentials) >= 10
    assert [c["name"] for c in credentials if not c.get("against")] == []
    assert [c["name"] for c in credentials if c["proven"] is not True] == []
    for credential in credentials:
        figure(f"{credential['name']}: {credential['against']}: {credential['detail']}")

    where = ("/var/lib/certwarden", "/run", "/tmp", "/dev/shm")
    options = ("-rlsE", "--devices=skip", "--exclude-dir=io.containerd.runtime.v2.task")
    assert node.run("grep", *options, KEY, *where, check=False).out == ""
    assert [word for word in KEY.split("|") if word in dry_run.text] == []
