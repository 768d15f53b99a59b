"""Machines without Kubernetes."""

from .command import run
from .machine import TESTS, Machine


def make_plain(name: str, debian: int) -> Machine:
    """A running machine with that version of Debian and systemd, without certwarden."""
    machine = Machine(name)
    run([str(TESTS / "machine/plain"), name, str(debian)], f"machine/plain {name} {debian}").show()
    return machine
