"""Breaks: a package that was not signed and a faulty setting; else nothing. About 60 s.

The Ansible role and the cloud-init file, by Ansible and cloud-init themselves, on a Debian 13 with a node's files. Must
hold: an unsigned package is refused; installed, enabled, the setting in force, nothing renewed; the role's second run
changes nothing; another setting is reloaded; a faulty one stops the play and is taken back.
"""

import json
import re
import shutil

import pytest

from lib.command import Result, figure
from lib.machine import REPOSITORY, Machine
from lib.packages import (
    PACKAGES,
    enabled,
    left_over,
    node_tree,
    put_node_tree,
    put_package,
    wait_for_first_look,
)

PLAY = [{"hosts": "localhost", "connection": "local", "serial": 1, "roles": ["certwarden"]}]
UNCHANGED = {"changed": 0, "unreachable": 0, "failed": 0}


@pytest.fixture(scope="module")
def machine(plain) -> Machine:
    machine = plain(13)
    put_node_tree(machine)
    shutil.copytree(REPOSITORY / "packaging/ansible/roles/certwarden", machine.path("/root/play/roles/certwarden"))
    machine.write("/root/play/site.yml", json.dumps(PLAY))
    for file in [*PACKAGES.glob("SHA256SUMS*"), PACKAGES / "key.pem"]:
        shutil.copy(file, machine.path("/root"))
    return machine


@pytest.fixture(scope="module")
def package(machine) -> str:
    return put_package(machine, "certwarden.deb")


@pytest.fixture(scope="module", autouse=True)
def tree(machine):
    tree = node_tree(machine)
    yield tree
    assert node_tree(machine) == tree, "nothing is renewed"


def play(machine: Machine, package: str, **renew: str) -> Result:
    """The role with these settings in [renew], each as TOML writes it."""
    variables = {
        "certwarden_package": package,
        "certwarden_public_key": "/root/key.pem",
        "certwarden_settings": {"renew": {name.replace("_", "-"): value for name, value in renew.items()}},
    }
    command = ("env", "ANSIBLE_NOCOLOR=1", "ansible-playbook", "-i", "localhost,", "/root/play/site.yml")
    return machine.run(*command, "-e", json.dumps(variables), check=False).show()


def recap(result: Result) -> dict[str, int]:
    """What Ansible counts at the end."""
    counts = dict(re.findall(r"(\w+)=(\d+)", result.out[result.out.rindex("PLAY RECAP") :]))
    return {name: int(counts[name]) for name in UNCHANGED}


def in_force(machine: Machine, setting: str) -> bool:
    return setting in machine.run("certwarden", "config", "show").out.splitlines()


QUIET = {"renew_before": '"1d"', "emergency_before": '"12h"'}


def test_a_package_that_is_not_the_signed_one_is_refused(machine, package):
    good = machine.path(package).read_bytes()
    machine.path(package).write_bytes(good + b"\n")
    refused = play(machine, package, **QUIET)
    machine.path(package).write_bytes(good)
    assert refused.code != 0
    verified = refused.out[refused.out.index("Package verified") :]
    assert "FAILED" in verified
    assert not machine.path("/usr/bin/certwarden").exists()


def test_the_role_installs_and_enables_it_and_its_second_run_changes_nothing(machine, package):
    first = play(machine, package, **QUIET)
    assert (first.code, recap(first)["failed"]) == (0, 0)
    assert [enabled(machine, unit) for unit in ("certwarden.service", "certwarden-recover.service")] == ["enabled"] * 2
    assert machine.active("certwarden")
    assert in_force(machine, 'renew.renew-before = "1d"')
    wait_for_first_look(machine)
    assert recap(play(machine, package, **QUIET)) == UNCHANGED


def test_another_setting_is_reloaded_and_a_faulty_one_taken_back(machine, package):
    daemon = machine.property("certwarden", "InvocationID")
    assert play(machine, package, **{**QUIET, "renew_before": '"2d"'}).code == 0
    assert machine.property("certwarden", "InvocationID") == daemon
    assert in_force(machine, 'renew.renew-before = "2d"')
    machine.wait_for_message("certwarden", "configuration", 20)

    assert play(machine, package, renew_befor='"1d"').code != 0
    assert machine.active("certwarden")
    assert machine.property("certwarden", "InvocationID") == daemon
    assert in_force(machine, 'renew.renew-before = "2d"')


def test_purging_leaves_nothing_but_what_the_role_wrote(machine):
    machine.run("dpkg", "-P", "certwarden")
    ours = [path for path in left_over(machine) if "50-ansible" not in path and "var/cache" not in path]
    assert ours == []
    machine.run("rm", "-rf", "/etc/certwarden")


def test_cloud_init_does_the_same_at_a_machines_first_boot(machine, package):
    machine.stop()
    machine.remove("/etc/cloud/cloud-init.disabled")
    # the key and the place are filled in as the file's head says
    key = machine.read("/root/key.pem").rstrip().replace("\n", "\n      ")
    data = (REPOSITORY / "packaging/cloud-init/certwarden.yaml").read_text()
    data = data.replace("PUBLIC KEY", key).replace("https://PACKAGES/", "file:///root/")
    data = data.replace('renew-before = "30d"', 'renew-before = "1d"\n      emergency-before = "12h"')
    machine.write("/var/lib/cloud/seed/nocloud/meta-data", "instance-id: one\n")
    machine.write("/var/lib/cloud/seed/nocloud/user-data", data)

    machine.start()
    machine.run("cloud-init", "status", "--wait", "--long", check=False).show()
    assert enabled(machine, "certwarden.service") == "enabled"
    assert machine.active("certwarden")
    assert in_force(machine, 'renew.renew-before = "1d"')
    wait_for_first_look(machine)
    version = machine.run("cloud-init", "--version").text.strip()
    figure(f"{version}: {machine.property('certwarden', 'StatusText')}")
