"""Packages and units of certwarden on a machine."""

import shutil
import stat
from typing import Any

from .machine import TESTS, VM, Machine
from .transactions import Transactions
from .waiting import wait_until

PACKAGES = VM / "package"  # setup/package makes it; `next` is the same as a later revision
UNITS = ("certwarden.service", "certwarden-recover.service", "certwarden-check.timer", "certwarden-export.socket")
LEFT = ("etc", "usr", "var", "run", "root")


def put_package(machine: Machine, package: str) -> str:
    """Copies that package to the machine; where it lies there."""
    source = (PACKAGES / package).resolve()
    shutil.copy(source, machine.path(f"/root/{source.name}"))
    return f"/root/{source.name}"


def install(machine: Machine, package: str = "certwarden.deb") -> None:
    command = ("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-confold", "-i")
    machine.run(*command, put_package(machine, package)).show()


def enabled(machine: Machine, unit: str) -> str:
    """What systemctl calls it: enabled, disabled, or nothing for a unit that is not there."""
    return machine.run("systemctl", "is-enabled", unit, check=False).out.strip()


def unit_states(machine: Machine) -> dict[str, tuple[str, str]]:
    return {unit: (enabled(machine, unit), machine.property(unit, "ActiveState")) for unit in UNITS}


IDLE = dict.fromkeys(UNITS, ("disabled", "inactive"))


def node_tree(machine: Machine) -> dict[str, Any]:
    """The files of a node: names, types, modes, links and contents."""
    found: dict[str, Any] = {}
    for top in ("etc/kubernetes", "var/lib/kubelet"):
        for path in [machine.tree / top, *(machine.tree / top).rglob("*")]:
            s = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(s.st_mode) else b""
            link = str(path.readlink()) if path.is_symlink() else ""
            found[str(path.relative_to(machine.tree))] = (stat.filemode(s.st_mode), link, content)
    return found


def left_over(machine: Machine) -> list[str]:
    """Files that bear the name of certwarden, besides journals and what scenarios keep in /root."""
    there = ["find", *LEFT, "-xdev", "-iname", "*certwarden*", "-not", "-path", "root/*"]
    found = machine.run("sh", "-c", 'cd / && exec "$@"', "sh", *there, "-not", "-path", "var/log/journal/*").out
    return sorted(found.split())


def has_looked(machine: Machine) -> bool:
    """Whether the daemon has checked a node's certificates."""
    status = machine.run("certwarden", "status", "-o", "json", check=False)
    return status.code == 0 and (status.json["last_check"] or {}).get("certificates", 0) > 10


def wait_for_first_look(machine: Machine, seconds: float = 60) -> None:
    wait_until("the first check", seconds, lambda: has_looked(machine))


def started_anew(machine: Machine, property: str, old: str) -> bool:
    """Whether the daemon is another one than that, and active."""
    return machine.property("certwarden", property) != old and machine.active("certwarden")


def put_kubeadm_that_waits(machine: Machine) -> None:
    """A kubeadm that does not end, so that a transaction is open."""
    machine.write("/usr/bin/kubeadm", (TESTS / "inside/kubeadm-that-waits").read_text(), 0o755)


def transactions(machine: Machine) -> Transactions:
    return Transactions(machine.tree)


def put_node_tree(machine: Machine, *parts: str) -> None:
    """The files of a node that is due, as setup/package makes them, on a machine without Kubernetes."""
    for part in parts or ("etc/kubernetes", "var/lib/kubelet"):
        shutil.copytree(PACKAGES / "tree" / part, machine.tree / part, symlinks=True, dirs_exist_ok=True)
