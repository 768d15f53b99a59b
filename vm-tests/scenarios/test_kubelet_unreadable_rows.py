"""Breaks: what is in the place of the kubelet's file or link cannot be read, not even by root. About 150 s.

A file of /proc, two directories, and a FIFO, which the kubelet waits for. Must hold: each is found under its own id and
repaired by `renew`; nobody waits for a FIFO, and what lay there is kept as it was.
"""

import shutil
import time

import pytest

from lib import rows
from lib.command import figure
from lib.rows import ADOPT, SIGN, Row, repaired


@pytest.fixture(scope="module", autouse=True)
def running_node(node):
    node.shorten_waits("4s")
    # systemd's 90 s are waited for as well (103 s to Ready were seen), but say nothing more
    node.write("/etc/systemd/system/kubelet.service.d/90-stop.conf", "[Service]\nTimeoutStopSec=20s\n")
    node.boot()


def assert_put_aside(node, path: str) -> None:
    (aside,) = node.files.kubelet_pki.glob(f"{path.rsplit('/')[-1]}.aside-*")
    assert (aside / "in").exists()
    shutil.rmtree(aside)


def test_a_link_to_an_unreadable_file_leads_to_the_one_before(node):
    repaired(node, Row(rows.link_to_an_unreadable_file, "unreadable", ADOPT))


def test_a_directory_in_the_place_of_the_link_is_put_aside(node):
    repaired(node, Row(rows.directory_in_the_place_of_the_link, "malformed", SIGN))
    assert_put_aside(node, rows.LINK)


def test_a_directory_where_the_next_link_would_be_is_put_aside(node):
    repaired(node, Row(rows.directory_where_the_next_link_would_be, "rotation-blocked", ADOPT))
    assert_put_aside(node, rows.NEXT)


def test_nobody_waits_for_a_fifo(node):
    began = time.monotonic()
    repaired(node, Row(rows.fifo_behind_the_link, "malformed", SIGN))
    figure(f"with a kubelet that hangs: {time.monotonic() - began:.0f} s in all")
    assert len([p for p in node.files.kubelet_pki.iterdir() if p.is_fifo()]) == 1
