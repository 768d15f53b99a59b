"""Breaks: nothing but an open transaction of a later version: the .rpm's life, by rpm itself, on Debian 13. About 20 s.

Must hold: disabled until enabled; the running daemon is started anew at the end of an upgrade; edits of settings stay;
erasing stops and disables it, and keeps the backups; an unfinished transaction that cannot be ended keeps the package.
"""

import json

import pytest

from lib.command import figure
from lib.machine import TESTS, Machine
from lib.packages import (
    IDLE,
    PACKAGES,
    UNITS,
    enabled,
    node_tree,
    put_node_tree,
    put_package,
    started_anew,
    unit_states,
)
from lib.waiting import wait_until

HELPER = "/usr/lib/systemd/systemd-update-helper"
EDITED = "/etc/certwarden/certwarden.toml"
NO_DEPENDENCIES = "--nodeps"  # rpm's database knows nothing of Debian's libraries
LATER = {"schema": "certwarden.ledger/v9", "at": "2026-11-22T00:00:00Z", "state": "committing"}


@pytest.fixture(scope="module")
def machine(plain) -> Machine:
    machine = plain(13)
    machine.write(HELPER, (TESTS / "inside/systemd-update-helper").read_text(), 0o755)
    put_node_tree(machine, "etc/kubernetes")
    machine.path("/var/lib/kubelet").mkdir(exist_ok=True)
    machine.run("rpm", "--initdb")
    return machine


@pytest.fixture(scope="module")
def revisions(machine) -> list[str]:
    return [put_package(machine, "certwarden.rpm"), put_package(machine, "next/certwarden.rpm")]


@pytest.fixture(scope="module", autouse=True)
def tree(machine):
    tree = node_tree(machine)
    yield tree
    assert node_tree(machine) == tree


def end_of_transaction(machine: Machine) -> None:
    """What systemd's file trigger does at the end of every rpm transaction."""
    machine.run(HELPER, "system-reload-restart")


def test_it_is_installed_and_does_nothing(machine, revisions):
    machine.run("rpm", "-i", NO_DEPENDENCIES, revisions[0])
    end_of_transaction(machine)
    size = (PACKAGES / "certwarden.rpm").stat().st_size // 1024
    figure(f"{machine.run('rpm', '--version').out.strip()}, .rpm {size} KiB")
    assert unit_states(machine) == IDLE
    machine.run("rpm", "-V", NO_DEPENDENCIES, "certwarden")
    for directory in ("/etc/certwarden", "/etc/certwarden/config.d"):
        machine.run("rpm", "-qf", directory)


def test_upgrade_and_downgrade_start_the_daemon_anew_and_keep_edits(machine, revisions):
    machine.write("/etc/certwarden/config.d/10-test.toml", 'mode = "observe"\n')
    machine.append(EDITED, "# edited\n")
    machine.systemctl("enable", "--now", "certwarden")
    assert enabled(machine, "certwarden-recover.service") == "enabled", "with it"
    for package in reversed(revisions):
        old = machine.property("certwarden", "InvocationID")
        machine.run("rpm", "-U", "--oldpackage", NO_DEPENDENCIES, package)
        end_of_transaction(machine)
        wait_until("the daemon started anew", 30, lambda old=old: started_anew(machine, "InvocationID", old))
        assert enabled(machine, "certwarden.service") == "enabled"
        assert "# edited" in machine.read(EDITED)
        figure(f"{machine.run('rpm', '-q', 'certwarden').out.strip()}: enabled, active")


def test_erasing_stops_it_and_keeps_backups_and_edits(machine):
    machine.path("/var/lib/certwarden/transactions").mkdir(parents=True, exist_ok=True)
    machine.run("rpm", "-e", NO_DEPENDENCIES, "certwarden")
    assert machine.run("pgrep", "certwarden", check=False).out == ""
    machine.systemctl("daemon-reload")
    for unit in UNITS:
        assert machine.run("find", "/etc/systemd", "-name", unit).out == ""
    assert not machine.path("/usr/bin/certwarden").exists()
    assert machine.path("/var/lib/certwarden/transactions").is_dir()
    assert "# edited" in machine.read(f"{EDITED}.rpmsave")


def test_an_open_transaction_of_a_later_version_keeps_the_package(machine, revisions):
    machine.run("rpm", "-i", NO_DEPENDENCIES, revisions[0])
    transaction = "/var/lib/certwarden/transactions/000009-20261122T000000Z"
    machine.write(f"{transaction}/ledger.jsonl", json.dumps(LATER) + "\n")
    machine.path("/var/lib/certwarden").chmod(0o700)
    assert not machine.succeeds("rpm", "-e", NO_DEPENDENCIES, "certwarden")
    assert machine.path("/usr/bin/certwarden").exists()
