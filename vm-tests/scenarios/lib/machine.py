"""A machine: systemd as PID 1 in a container with a network of its own, and its tree as a directory here."""

import json
import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from .command import Background, Result, run
from .waiting import wait_until

TESTS = Path(__file__).resolve().parents[2]
REPOSITORY = TESTS.parent
VM = Path(os.environ.get("CERTWARDEN_VM", "/var/lib/certwarden-vm"))
PROGRAM = Path(os.environ.get("CERTWARDEN_BIN", REPOSITORY / "target/release/certwarden"))
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """A machine, running or not. The scripts of machine/ make, start and stop it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tree = VM / "machines" / name

    # --- its life

    def harness(self, program: str, *args: str, **environment: str) -> Result:
        """Runs a program of vm-tests, which is told which machine it is about."""
        environment |= {"CW_NODE": self.name, "CERTWARDEN_VM": str(VM)}
        command = ["env", *(f"{k}={v}" for k, v in environment.items()), str(TESTS / program), *args]
        return run(command, f"{program} {' '.join(args)}").show()

    def start(self) -> None:
        """Boots it, until systemd says that it is up."""
        self.harness("machine/start", self.name)

    def stop(self) -> None:
        """Shuts it down in good order."""
        self.harness("machine/stop", self.name)

    def cut_power(self) -> None:
        """Ends it at once, as when the power goes."""
        self.harness("machine/stop", self.name, "kill")

    @property
    def booted_at(self) -> float:
        """When it was started, in seconds since the epoch."""
        return self._leader.stat().st_mtime

    @cached_property
    def _leader(self) -> Path:
        return self.tree.with_name(f"{self.name}.leader")

    # --- commands in it

    def _inside(self, command: tuple[str, ...]) -> list[str]:
        environment = ["HOME=/root", "LANG=C.UTF-8", "KUBECONFIG=/etc/kubernetes/admin.conf", f"PATH={PATH}"]
        return ["nsenter", "-t", self._leader.read_text().strip(), "-a", "env", "-i", *environment, *command]

    def run(self, *command: str, check: bool = True, stdin: str | None = None, seconds: float = 900) -> Result:
        """Runs a command in the machine. With `check` it must succeed."""
        return run(self._inside(command), " ".join(command), check=check, stdin=stdin, seconds=seconds)

    def succeeds(self, *command: str) -> bool:
        """Whether this command ends well."""
        return self.run(*command, check=False).code == 0

    def begin(self, *command: str) -> Background:
        """Starts a command in the machine."""
        return Background(self._inside(command), " ".join(command))

    def begin_in_its_network(self, *command: str) -> Background:
        """Starts a command of this host in the machine's network."""
        network = ["nsenter", "-t", self._leader.read_text().strip(), "-n"]
        return Background([*network, *command], " ".join(command))

    # --- its files

    def path(self, inside: str) -> Path:
        """A file of the machine, as a path here."""
        return self.tree / inside.lstrip("/")

    def read(self, inside: str) -> str:
        return self.path(inside).read_text()

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Puts a new file in the place of an old one: written in place, a link would lead to the golden tree."""
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def overwrite(self, inside: str, content: bytes) -> None:
        """Changes what a file holds; inode, owner and mode stay."""
        with self.path(inside).open("r+b") as file:
            file.truncate()
            file.write(content)

    def replace(self, inside: str, old: str, new: str) -> None:
        """Changes a text in a file, which must be there."""
        text = self.read(inside)
        assert old in text, f"{inside} has no {old!r}"
        self.overwrite(inside, text.replace(old, new).encode())

    def append(self, inside: str, text: str) -> None:
        with self.path(inside).open("a") as file:
            file.write(text)

    def remove(self, inside: str) -> None:
        path = self.path(inside)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    def move(self, source: str, target: str) -> None:
        shutil.move(self.path(source), self.path(target))

    # --- its units and journal

    def property(self, unit: str, name: str) -> str:
        """What systemd says of a unit."""
        return self.run("systemctl", "show", "-p", name, "--value", unit).out.strip()

    def systemctl(self, *args: str) -> None:
        self.run("systemctl", "-q", *args)

    def active(self, unit: str) -> bool:
        return self.property(unit, "ActiveState") == "active"

    def enable_at_boot(self, *units: str) -> None:
        """Enables units of a machine that does not run."""
        run(["systemctl", f"--root={self.tree}", "-q", "enable", *units], f"enable {' '.join(units)}")

    def journal(self, unit: str, *args: str) -> list[dict[str, Any]]:
        """The records of a unit's journal, oldest first."""
        lines = self.run(
            "journalctl", "-u", unit, "--no-pager", "-q", "-o", "json", *args, check=False
        ).out.splitlines()
        return [json.loads(line) for line in lines]

    def messages(self, unit: str, *args: str) -> list[str]:
        """The messages in a unit's journal, oldest first."""
        return [str(record.get("MESSAGE", "")) for record in self.journal(unit, *args)]

    def logged(self, unit: str, text: str, *args: str) -> bool:
        """Whether a message of this unit contains the text."""
        return any(text in message for message in self.messages(unit, *args))

    def wait_for_message(self, unit: str, text: str, seconds: float, *args: str) -> None:
        wait_until(f"a message of {unit}: {text}", seconds, lambda: self.logged(unit, text, *args))

    def failed_units(self) -> list[str]:
        """Units of certwarden that systemd calls failed."""
        listed = self.run("systemctl", "list-units", "--failed", "--plain", "--no-legend").out
        return [line.split()[0] for line in listed.splitlines() if "certwarden" in line]
