"""Breaks: the certificates of three control planes all end within two days, and all start together. About 500 s.

Windows and most gates no longer hold in an emergency. Must hold: all three renew, one at a time, whatever the hurry;
etcd, asked five times a second, never has fewer members than a quorum; no write at 10 Hz through the endpoint fails or
is lost.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from lib import fleet, x509
from lib.cluster import ENDPOINT, Cluster
from lib.command import figure
from lib.node import now
from lib.waiting import wait_until
from lib.writes import Writer

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def three(cluster) -> Cluster:
    three = cluster(3, 0)
    for member in three.members:
        fleet.configure(member)
        fleet.make_due_again(member, 2)
    return three


def test_in_an_emergency_they_renew_one_at_a_time(three):
    for member in three.members:
        assert member.certwarden("plan", "-o", "json").json["emergency"] is True

    writer, watch = Writer(three.control_planes[0], ENDPOINT, 10), fleet.EtcdWatch(three, 0.2)
    began = time.monotonic()
    with ThreadPoolExecutor() as together:
        list(together.map(lambda member: member.systemctl("enable", "--now", "certwarden"), three.members))
    for member in three.members:
        member.wait_for_state("verified", 700)
        figure(f"{member.name} verified after {time.monotonic() - began:.0f} s")
    writes = writer.end()
    watch.end()
    figure(f"through the endpoint: {writes}; {watch.checks} checks of etcd, {watch.without_quorum} without a quorum")
    assert fleet.overlaps(three.members) == []
    assert (writes.failed, writes.lost) == (0, 0)
    assert watch.without_quorum == 0

    fleet.assert_each_serves_a_new_leaf(three.members)
    for member in three.members:
        end = x509.end(member.files.certificate("pki/apiserver.crt"))
        assert end.timestamp() - now() > timedelta(days=300).total_seconds()
    wait_until("all nodes Ready", 60, lambda: fleet.all_ready(three))
