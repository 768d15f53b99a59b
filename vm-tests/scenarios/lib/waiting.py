"""The one way to wait: for a state, within a bound, with a reason."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import pytest

from .command import CommandFailed

T = TypeVar("T")
PAUSE = 0.3  # seconds between two attempts: each starts a few processes in the node


class Running(Protocol):
    """A command that has not ended yet, or has."""

    def ended(self) -> bool: ...
    def output(self) -> str: ...


def wait_until(what: str, seconds: float, condition: Callable[[], T], *, during: Running | None = None) -> T:
    """Returns the first true value of `condition`, and fails when there was none after so many seconds.

    A command that fails while it is asked counts as "not yet". With `during`, the state must come while that command
    runs: one that ended already fails at once.
    """
    end, last = time.monotonic() + seconds, ""
    while True:
        over = during is not None and during.ended()
        try:
            if value := condition():
                return value
        except CommandFailed as failure:
            last = f"; last: {failure}"
        if over:
            pytest.fail(f"the command ended before this came: {what}\n{during.output()}")
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain: {what}{last}")
        time.sleep(PAUSE)
