"""What is done with the members of a cluster, and seen of them."""

import json
import threading
from pathlib import Path

from .cluster import Cluster
from .command import run
from .files import CERTIFICATES
from .machine import VM
from .node import Node

# shorter waits than the defaults; a lock ends after twice the timeout and a minute
SETTINGS = """[check]
interval = "60s"
[verify]
stability = "12s"
timeout = "60s"
[kubelet]
renew-before = "25d"
[fleet]
lease-duration = "60s"
settle = "10s"
retry = "5s"
workers-after = "0s"
spread = "1s"
"""


def configure(member: Node) -> None:
    member.configure("20-fleet.toml", SETTINGS)
    # systemd in a container with cgroup v1 does not hear that a unit's last process is gone, and waits the whole time
    member.write("/etc/systemd/system/certwarden.service.d/50-stop.conf", "[Service]\nTimeoutStopSec=20s\n")
    member.systemctl("daemon-reload")


def make_due_again(member: Node, days: int = 20) -> None:
    """All that this control plane has ends in so many days, and certwarden remembers nothing."""
    member.systemctl("stop", "certwarden")
    member.run("rm", "-rf", "/var/lib/certwarden")
    member.make_due(days)


def overlaps(members: list[Node]) -> list[str]:
    """Transactions that began before another one had ended."""
    spans = []
    for member in members:
        for transaction in member.transactions.all():
            times = [record["at"] for record in transaction.records() if record.get("at")]
            spans.append((times[0], times[-1], member.name))
    found, end, who = [], "", ""
    for began, ended, name in sorted(spans):
        if began < end:
            found.append(f"{name} began at {began}, {who} ended at {end}")
        if ended > end:
            end, who = ended, name
    return found


def all_ready(cluster: Cluster) -> bool:
    nodes = json.loads(cluster.control_planes[0].kubectl("get", "nodes", "-o", "json"))["items"]
    ready = [c["status"] for n in nodes for c in n["status"]["conditions"] if c["type"] == "Ready"]
    return ready == ["True"] * len(cluster.members)


def assert_each_serves_a_new_leaf(members: list[Node]) -> None:
    for member in members:
        member.files.assert_keys_match()
        assert member.serves(CERTIFICATES[0], f"{member.address}:6443"), member.name


class EtcdWatch:
    """Asks all members of etcd for their health, again and again, until `end`."""

    def __init__(self, cluster: Cluster, every: float = 1.0) -> None:
        self.checks, self.without_quorum = 0, 0
        first = cluster.control_planes[0]
        self._place = VM / "machines" / f"{cluster.name}.watch"
        self._place.mkdir(exist_ok=True)
        for name in ("ca.crt", "healthcheck-client.crt", "healthcheck-client.key"):
            (self._place / name).write_bytes((first.files.kubernetes / "pki/etcd" / name).read_bytes())
        self._addresses = [member.address for member in cluster.control_planes]
        self._network, self._every = f"/run/netns/cwvm-{cluster.name}", every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            healthy = sum(self._is_healthy(address, self._place) for address in self._addresses)
            self.checks += 1
            self.without_quorum += healthy <= len(self._addresses) // 2

    def _is_healthy(self, address: str, place: Path) -> bool:
        credential = ["--cacert", f"{place}/ca.crt", "--cert", f"{place}/healthcheck-client.crt"]
        asked = ["curl", "-sf", "-m", "2", "-o", "/dev/null", *credential, "--key", f"{place}/healthcheck-client.key"]
        command = ["nsenter", f"--net={self._network}", *asked, f"https://{address}:2379/health"]
        return run(command, f"health of {address}", check=False).code == 0

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
