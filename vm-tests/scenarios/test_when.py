"""Breaks: admin.conf is due, and one after another everything says "not now". About 450 s.

Pauses, a frozen period, a window that is shut, a cordon, a node about to be replaced, kured's lock, kubeadm upgrade;
then no API server on one of three control planes. Must hold: `plan` names each with its reason and, where there is one,
its end, and nothing else; once lifted it is gone; without the API server it waits for its slot; the daemon waits, says
why and until when, renews nothing meanwhile, and goes on by itself.
"""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lib.command import figure
from lib.faults import bring_api_server_back, take_api_server_away
from lib.node import now
from lib.waiting import wait_until

SLOT = 240  # seconds: twice the lock's minute and twice the verification's half a minute, and a minute
IN_TIME = 40  # seconds of a slot in which there is time for what follows, in its first quarter
KURED = "weave.works/kured-node-lock"


@pytest.fixture(scope="module", autouse=True)
def serials(node):
    node.make_due(20, "admin.conf")
    node.shorten_waits()
    node.configure("30-when.toml", '[activate]\nkubelet = "when-needed"\n[fleet]\nretry = "5s"\n')
    node.boot()
    return node.files.serials()


def gates(node) -> list[dict[str, Any]]:
    """What `plan` says stands in the way."""
    plan = node.certwarden("plan", "-o", "json")
    assert plan.code == 0
    return plan.json["gates"]


def assert_kept(node, gate: str, *words: str, until: str | None = None) -> None:
    """This gate is closed, with these words in its reason and this end, and no other one is."""
    (closed,) = gates(node)
    assert closed["gate"] == gate
    for word in words:
        assert word in closed["reason"]
    if until is not None:
        assert closed["until"].startswith(until)
    figure(f"{gate}: {closed['reason']}")


def assert_free(node) -> None:
    assert gates(node) == []


def at(**delta: float) -> datetime:
    return datetime.now(UTC) + timedelta(**delta)


def test_nothing_stands_in_the_way_after_the_boot(node):
    assert_free(node)


def test_a_pause(node):
    end = at(hours=2)
    node.certwarden("pause", "--until", end.strftime("%Y-%m-%dT%H:%M:%SZ"), "--reason", "new kernel")
    assert_kept(node, "paused", "this node is paused", "new kernel", until=end.strftime("%Y-%m-%dT%H:%M"))
    node.certwarden("resume")
    assert_free(node)


class TestWindows:
    @pytest.fixture
    def windows(self, node):
        yield lambda toml: node.configure("40-freeze.toml", toml)
        node.unconfigure("40-freeze.toml")

    def test_a_frozen_period(self, node, windows):
        windows(f'freeze.periods = ["{at(days=-1):%Y-%m-%d}/{at(days=1):%Y-%m-%d}"]\n')
        assert_kept(node, "window", "frozen period", until=f"{at(days=2):%Y-%m-%d}T00:00:00Z")

    def test_a_window_that_is_shut(self, node, windows):
        opens = at(hours=6)
        shut = f'[windows]\nduration = "1h"\ntime-zone = "UTC"\ncalendar = ["*-*-* {opens:%H}:00"]\n'
        windows(shut)
        assert_kept(node, "window", "maintenance windows", until=f"{opens:%Y-%m-%dT%H}:00:00Z")

    def test_a_window_that_is_open(self, node, windows):
        opened = at(hours=-1)
        calendar = f'calendar = ["*-*-* {opened:%H}:30"]\n'
        windows(f'[windows]\nduration = "2h"\ntime-zone = "UTC"\ndeadline = "30d"\n{calendar}')
        assert_free(node)


def test_a_cordon_unless_it_is_old(node):
    node.kubectl("cordon", "node")
    assert_kept(node, "maintenance", "cordoned")
    time.sleep(2)
    node.configure("40-cordon.toml", 'maintenance.cordon-age = "1s"\n')
    assert_free(node)
    node.unconfigure("40-cordon.toml")
    node.kubectl("uncordon", "node")
    assert_free(node)


def test_a_node_about_to_be_replaced(node):
    taint = "ToBeDeletedByClusterAutoscaler"
    node.kubectl("taint", "node", "node", f"{taint}=1:NoSchedule")
    assert_kept(node, "maintenance", "about to be replaced")
    node.kubectl("taint", "node", "node", f"{taint}-")
    assert_free(node)


def test_kureds_lock(node):
    lock = json.dumps({"nodeID": "w7", "metadata": {"unschedulable": False}, "TTL": 0})
    pod = {"nodeSelector": {"no": "where"}, "containers": [{"name": "kured", "image": "kured"}]}
    labels = {"name": "kured"}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    metadata = {"name": "kured", "namespace": "kube-system", "annotations": {KURED: lock}}
    apply(node, {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec})
    assert_kept(node, "maintenance", "kured", "w7")
    node.kubectl("-n", "kube-system", "annotate", "ds", "kured", f"{KURED}-")
    assert_free(node)


def test_kubeadm_upgrade(node):
    upgrade = node.begin("bash", "-c", 'exec -a kubeadm bash -c "sleep 60; :" upgrade apply next')
    wait_until("kubeadm upgrade", 10, lambda: node.succeeds("pgrep", "-f", "upgrade apply"))
    assert_kept(node, "upgrade", "kubeadm")
    node.run("pkill", "-f", "upgrade apply")
    upgrade.wait()
    assert_free(node)


def apply(node, value: dict[str, Any]) -> None:
    node.kubectl("apply", "-f", "-", stdin=json.dumps(value))


def test_a_pause_of_the_whole_cluster_by_a_person_with_kubectl(node):
    since, end = at(), at(hours=3)
    form = "%Y-%m-%dT%H:%M:%SZ"
    pause = {"since": since.strftime(form), "until": end.strftime(form), "reason": "storage migration"}
    metadata = {
        "name": "certwarden",
        "namespace": "kube-system",
        "annotations": {"certwarden.io/pause": json.dumps(pause)},
    }
    apply(node, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}})
    assert_kept(node, "paused", "the cluster is paused", end.strftime("%Y-%m-%dT%H:%M"), "storage migration")


class TestWithoutAnApiServer:
    """One of three control planes, which are known from before, and nobody can be asked whose turn it is."""

    RANKS = (["node", "other", "third"], ["a", "node", "other"], ["a", "b", "node"])

    @pytest.fixture(scope="class", autouse=True)
    def no_api_server(self, node):
        take_api_server_away(node)
        # slots of four minutes come by the rank of the node's name, after the two that a lock lasts for
        node.configure("40-lock.toml", '[fleet]\nlease-duration = "1m"\n[verify]\ntimeout = "30s"\n')
        yield
        for name in ("40-emergency.toml", "40-lock.toml"):
            node.unconfigure(name)
        bring_api_server_back(node)
        node.wait_healthy("with the API server back", 120)

    def know(self, node, *control_planes: str) -> None:
        node.write("/var/lib/certwarden/cluster.json", json.dumps({"control_planes": control_planes}), 0o600)

    def acts_at(self, node) -> datetime:
        """When it goes on without an answer: its reason ends with this."""
        (closed,) = gates(node)
        assert closed["gate"] == "cluster-lock"
        return datetime.fromisoformat(closed["reason"].split()[-1])

    def test_before_the_emergency_it_waits_for_that(self, node):
        self.know(node, *self.RANKS[0])
        emergency = at(days=17)  # three days before the end
        assert emergency - timedelta(hours=2) <= self.acts_at(node) <= emergency + timedelta(hours=2)

    def test_in_the_emergency_it_has_a_slot_by_its_rank(self, node):
        began = now()
        node.configure("40-emergency.toml", '[renew]\nemergency-before = "490h"\n')
        wait_until("the first quarter of a slot", SLOT, lambda: now() % SLOT < IN_TIME)
        if now() - began < 100:  # a holder of the lock may still be renewing
            self.know(node, *self.RANKS[int(now()) // SLOT % 3])
            assert [g["gate"] for g in gates(node)] == ["cluster-lock"]
            time.sleep(120)
        wait_until("the first quarter of a slot", SLOT, lambda: now() % SLOT < IN_TIME)
        slot = int(now()) // SLOT
        self.know(node, *self.RANKS[(slot + 1) % 3])
        assert self.acts_at(node).timestamp() == (slot + 1) * SLOT
        self.know(node, *self.RANKS[slot % 3])
        assert_free(node)
        self.know(node, "node")
        assert_free(node)


def test_the_daemon_waits_says_why_and_goes_on_by_itself(node, serials):
    node.systemctl("start", "certwarden")

    def waits() -> str:
        check = node.run("certwarden", "status", "-o", "json").json["last_check"]
        return ((check or {}).get("waits") or {}).get("why", "")

    wait_until("the daemon waits", 60, lambda: "the cluster is paused" in waits())
    figure(f"status: {waits()}")
    assert node.files.renewed_since(serials) == set()
    assert node.transactions.count() == 0

    assert node.certwarden("resume", "--cluster").code == 0
    began = time.monotonic()
    node.wait_for_state("verified", 60)
    figure(f"resumed: verified {time.monotonic() - began:.0f} s later")
    assert node.files.renewed_since(serials) == {"admin.conf"}
    node.files.assert_keys_match()
