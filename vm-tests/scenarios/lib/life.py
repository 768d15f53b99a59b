"""The life of the Debian package on a machine without Kubernetes, one chapter after another."""

import time

from .command import figure
from .machine import PROGRAM, Machine
from .packages import (
    IDLE,
    PACKAGES,
    UNITS,
    enabled,
    install,
    left_over,
    node_tree,
    put_kubeadm_that_waits,
    put_node_tree,
    started_anew,
    transactions,
    unit_states,
    wait_for_first_look,
)
from .waiting import wait_until

PROGRAM_PATH = "/usr/bin/certwarden"
# how exposed a unit may be, in tenths, as `systemd-analyze security` counts
EXPOSURE = {"certwarden": 28, "certwarden-recover": 28, "certwarden-check": 16, "certwarden-export": 4}
NO_CLOCK = '[gates]\nclock-synchronised = "ignore"\n'
PATIENT = f'mode = "observe"\n{NO_CLOCK}[renew]\nrenew-before = "1d"\nemergency-before = "12h"\n'
SETTINGS = "/etc/certwarden/config.d/10-test.toml"
EDITED = "/etc/certwarden/certwarden.toml"


def is_installed_and_does_nothing(machine: Machine) -> None:
    """A stranger's machine: the package comes before kubeadm."""
    figure(machine.run("systemctl", "--version").out.splitlines()[0])
    began = time.monotonic()
    install(machine)
    size = machine.path(PROGRAM_PATH).stat().st_size
    package = (PACKAGES / "certwarden.deb").stat().st_size
    figure(f"installed in {time.monotonic() - began:.1f} s: .deb {package // 1024} KiB, certwarden {size // 1024} KiB")
    if PROGRAM.parent.name != "debug":
        assert size < 10 * 1024 * 1024
    settings = [path for path in machine.path("/usr/lib/certwarden").rglob("*") if path.is_file()]
    assert [path for path in settings if path.stat().st_mode & 0o111] == [], "no program lies among the settings"
    assert unit_states(machine) == IDLE
    machine.run("systemctl", "preset-all")
    assert [enabled(machine, unit) for unit in UNITS] == ["disabled"] * len(UNITS)
    assert not machine.path("/var/lib/certwarden").exists()


def is_little_exposed(machine: Machine) -> None:
    for name, limit in EXPOSURE.items():
        security = machine.run(
            "systemd-analyze", "security", f"--threshold={limit}", "--no-pager", f"{name}.service", check=False
        )
        figure(security.out.splitlines()[-1].strip())
        assert security.code == 0, f"{name} is exposed over {limit / 10}"
        machine.run("systemd-analyze", "verify", "--man=no", f"/usr/lib/systemd/system/{name}.service")


def sees_the_node_being_made(machine: Machine, *, directory_is_there: bool) -> None:
    """The directory is replaced, or it is made, under the running daemon, which gets a mount of it and checks."""
    kubernetes = machine.path("/etc/kubernetes")
    if directory_is_there:
        kubernetes.mkdir()
    machine.systemctl("enable", "--now", "certwarden")
    assert enabled(machine, "certwarden-recover.service") == "enabled", "with it"
    machine.write(SETTINGS, PATIENT)
    machine.systemctl("reload", "certwarden")
    assert machine.active("certwarden")
    figure(f"without a node: {machine.property('certwarden', 'StatusText')}")
    process = machine.property("certwarden", "MainPID")

    if directory_is_there:
        kubernetes.rename(kubernetes.with_name("kubernetes.old"))
    put_node_tree(machine, "var/lib/kubelet")
    put_node_tree(machine, "etc/kubernetes")
    wait_until("a start anew with the new directories", 100, lambda: started_anew(machine, "MainPID", process))
    assert machine.property("certwarden", "Result") == "success"
    wait_for_first_look(machine, 30)
    figure(f"with a node: {machine.property('certwarden', 'StatusText')}")
    service = machine.property("certwarden", "MainPID")
    machine.run("nsenter", "-t", service, "-m", "test", "-w", "/etc/kubernetes/pki")
    machine.run("rm", "-rf", "/etc/kubernetes.old")


def has_a_timer_for_people_without_the_daemon(machine: Machine) -> None:
    machine.systemctl("enable", "--now", "certwarden-check.timer")
    machine.systemctl("start", "certwarden-check")
    late = "/etc/certwarden/config.d/50-late.toml"
    machine.write(late, '[renew]\nrenew-before = "30d"\nemergency-before = "10d"\n')
    assert not machine.succeeds("systemctl", "start", "certwarden-check"), "a critical node passes the check"
    assert machine.property("certwarden-check.service", "ExecMainStatus") == "2"
    machine.remove(late)
    machine.systemctl("disable", "--now", "certwarden-check.timer")


def refuses_bad_settings(machine: Machine) -> None:
    """The running daemon keeps the old ones; a new one does not start, once, until they are repaired."""
    bad = "/etc/certwarden/config.d/60-bad.toml"
    machine.write(bad, "no-such-key = 1\n")
    process = machine.property("certwarden", "MainPID")
    machine.run("systemctl", "reload", "certwarden", check=False)
    machine.wait_for_message("certwarden", "60-bad.toml", 20)
    assert machine.property("certwarden", "MainPID") == process

    def refused() -> bool:
        names = ("ActiveState", "ExecMainStatus")
        return [machine.property("certwarden", name) for name in names] == ["failed", "78"]

    machine.run("systemctl", "restart", "certwarden", check=False)
    wait_until("a start with bad settings refused", 20, refused)
    machine.remove(bad)
    machine.systemctl("restart", "certwarden")
    assert machine.active("certwarden")


def is_upgraded_in_an_open_transaction_and_downgraded(machine: Machine) -> None:
    machine.append(EDITED, "# edited\n")
    tree = node_tree(machine)
    put_kubeadm_that_waits(machine)
    machine.write(SETTINGS, f'{NO_CLOCK}[renew]\nrenewer = "kubeadm"\nemergency-before = "4d"\n')
    machine.systemctl("restart", "certwarden")
    invocation = machine.property("certwarden", "InvocationID")
    wait_until("kubeadm renews", 60, lambda: machine.succeeds("pgrep", "-fx", "sleep 100"))
    assert transactions(machine).state == "open"

    install(machine, "next/certwarden.deb")
    assert started_anew(machine, "InvocationID", invocation)
    assert transactions(machine).all()[0].state == "discarded"
    assert node_tree(machine) == tree
    figure(f"upgrade in an open transaction: {' '.join(transactions(machine).states())}")
    machine.remove("/usr/bin/kubeadm")
    machine.write(SETTINGS, f'mode = "observe"\n{NO_CLOCK}')
    machine.systemctl("restart", "certwarden")

    tree = node_tree(machine)
    install(machine)
    assert (machine.active("certwarden"), enabled(machine, "certwarden.service")) == (True, "enabled")
    assert "# edited" in machine.read(EDITED)
    assert node_tree(machine) == tree


def is_removed_and_purged(machine: Machine) -> None:
    """Removal leaves the node, state and settings; purging leaves the node alone."""
    tree, began = node_tree(machine), time.monotonic()
    machine.run("dpkg", "-r", "certwarden")
    figure(f"removed in {time.monotonic() - began:.0f} s")
    assert machine.run("pgrep", "certwarden", check=False).out == ""
    assert node_tree(machine) == tree
    assert transactions(machine).count() > 0
    assert machine.path(EDITED).exists()
    install(machine)
    assert enabled(machine, "certwarden.service") == "enabled", "as it was"
    machine.run("dpkg", "-r", "certwarden")
    machine.run("dpkg", "-P", "certwarden")
    assert left_over(machine) == []
    assert node_tree(machine) == tree
    assert machine.failed_units() == []
