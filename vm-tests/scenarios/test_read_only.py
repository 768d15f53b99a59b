"""Breaks: a renewal is killed in its renames; then the disk of /etc/kubernetes is read-only for a while. About 150 s.

Must hold: `recover` and the daemon end as interrupted, say that they try again, change nothing, and never end in
observe-only; when it is writable again the daemon finishes by itself; keys match; Ready; the next renewal works.
"""

import shutil
import time

import pytest

from lib.command import figure, run
from lib.node import now
from lib.power import files_renamed
from lib.waiting import wait_until


@pytest.fixture
def own_file_system(node):
    """A file system of its own: a unit with ReadWritePaths= would make a read-only bind mount writable for itself."""
    place = str(node.files.kubernetes)
    aside = node.tree.with_name(f"{node.name}.own")
    run(["cp", "-a", place, str(aside)], "copy /etc/kubernetes")
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "own", place], "mount a file system")
    run(["cp", "-a", f"{aside}/.", place], "copy it back")
    yield lambda how: run(["mount", "-o", f"remount,{how}", place], f"remount {how}")
    run(["umount", "-l", place], "umount")
    shutil.rmtree(aside)


def test_a_read_only_file_system_delays_and_spoils_nothing(node, own_file_system):
    node.shorten_waits()
    node.boot()
    serials, content = node.files.serials(), node.files.content()
    renewal = node.begin_certwarden("renew", "--all", slow_renames=0.5)
    wait_until("three files renamed", 200, lambda: files_renamed(node, content, 3), during=renewal)
    node.run("pkill", "-KILL", "-x", "certwarden.*", check=False)
    renewal.wait()
    assert node.transactions.state == "committing"
    half_way = node.files.content()
    figure(f"killed with {node.files.new_files(content)} files new")

    own_file_system("ro")
    with pytest.raises(OSError, match="Read-only"):
        (node.files.kubernetes / "x").touch()
    recovery = node.certwarden("recover", "-o", "json")
    assert (recovery.code, recovery.json["outcome"]) == (2, "interrupted")
    assert "read-only file system" in recovery.json["reason"].lower()
    node.systemctl("start", "certwarden")
    node.wait_for_message("certwarden", "cannot be finished now", 90)
    assert node.files.content() == half_way
    assert not node.transactions.observe_only()
    assert node.transactions.state in ("committing", "rolling-back")
    assert node.active("kubelet")

    own_file_system("rw")
    began = time.monotonic()
    node.wait_for_end()
    figure(f"writable again: {' '.join(node.transactions.states())} after {time.monotonic() - began:.0f} s")
    assert node.transactions.state == "rolled-back"
    assert node.files.content() == content
    assert node.files.renewed_since(serials) == set()
    node.files.assert_keys_match()
    assert not node.transactions.observe_only()
    node.wait_leased("in the end", now())
    assert node.certwarden("renew", "front-proxy-client").code == 0
