"""Breaks nothing: the daemon on a node where nothing is due, for three minutes: does it cost anything? About 195 s.

Must hold: no transaction; RssAnon at most 2 MiB, RSS at most 16 MiB; few wake-ups; no listening socket; a status that
everybody may read.
"""

import re
import time

import pytest

from lib.command import figure

pytestmark = pytest.mark.readonly


@pytest.fixture
def daemon(node):
    """The daemon's process, once its first check is over."""
    node.systemctl("start", "certwarden")
    time.sleep(8)
    yield int(node.property("certwarden", "MainPID"))
    node.systemctl("stop", "certwarden")


def test_an_idle_daemon_costs_next_to_nothing(node, daemon):
    def switches() -> dict[str, int]:
        """Of each thread, since one that ends takes its count with it."""
        status = node.run("bash", "-c", f"cat /proc/{daemon}/task/*/status").out
        counts = {}
        for thread in re.split(r"^Name:", status, flags=re.MULTILINE)[1:]:
            pid = re.search(r"^Pid:\s+(\d+)", thread, re.MULTILINE)[1]
            counts[pid] = sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", thread))
        return counts

    transactions = node.transactions.count()
    before, began = switches(), time.monotonic()
    time.sleep(180)
    woken = sum(count - before.get(pid, 0) for pid, count in switches().items())
    wakeups = woken * 60 / (time.monotonic() - began)

    status = node.run("cat", f"/proc/{daemon}/status").out
    anonymous, resident, threads = (
        int(re.search(rf"^{key}:\s+(\d+)", status, re.MULTILINE)[1]) for key in ("RssAnon", "VmRSS", "Threads")
    )
    figure(
        f"idle daemon: RssAnon {anonymous} kB, RSS {resident} kB, {threads} threads, {wakeups:.0f} wake-ups a minute"
    )
    assert anonymous <= 2048
    assert resident <= 16384
    assert wakeups <= 120

    assert listening_sockets(node, daemon) == []
    figure(f"STATUS: {node.property('certwarden', 'StatusText')}")
    assert node.certwarden("status").code == 0
    told = node.certwarden("status", "-o", "json")
    assert (told.code, told.json["schema"]) == (0, "certwarden.status/v1")
    assert node.run("stat", "-c", "%a", "/run/certwarden/status.json").out.strip() == "644"
    assert node.transactions.count() == transactions


def listening_sockets(node, process: int) -> list[str]:
    """Inodes of the process's TCP sockets that listen."""
    links = node.run("find", f"/proc/{process}/fd", "-lname", "socket:*", "-printf", "%l\n").out
    own = set(re.findall(r"socket:\[(\d+)\]", links))
    tables = node.run("cat", "/proc/net/tcp", "/proc/net/tcp6").out
    listening = {line.split()[9] for line in tables.splitlines() if line.split()[3] == "0A"}
    return sorted(own & listening)
