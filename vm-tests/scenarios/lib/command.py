"""Commands that were run, and what came of them."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from typing import Any


class CommandFailed(AssertionError):
    """A command ended with another exit code than 0."""


def figure(text: str) -> None:
    """Prints a figure worth showing: `run` repeats these lines of a scenario that passed."""
    print(f"   · {text}", flush=True)


@dataclass(frozen=True)
class Result:
    """A command that has ended."""

    command: str
    code: int
    out: str
    err: str

    @cached_property
    def json(self) -> Any:
        """What it printed, as a value."""
        try:
            return json.loads(self.out)
        except json.JSONDecodeError as why:
            raise AssertionError(f"{self.command} printed no JSON ({why}): {self.out}{self.err}") from why

    @property
    def text(self) -> str:
        """All that it printed."""
        return self.out + self.err

    def show(self) -> "Result":
        """Writes it to the log of the scenario."""
        print(f"+ {self.command}\n{self.out}{self.err}+ exit {self.code}", flush=True)
        return self


class Background:
    """A command that runs while the scenario goes on."""

    def __init__(self, command: list[str], name: str) -> None:
        # files, not pipes: a command whose pipe is full would stand still
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115 they live as long as the command
        self._err = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(command, stdout=self._out, stderr=self._err, stdin=subprocess.DEVNULL)
        self._name = name

    def ended(self) -> bool:
        return self._process.poll() is not None

    def output(self) -> str:
        self._out.seek(0)
        self._err.seek(0)
        return self._out.read() + self._err.read()

    def wait(self, seconds: float = 600) -> Result:
        """Waits for its end; a command that does not end in time fails the scenario."""
        code = self._process.wait(seconds)
        self._out.seek(0)
        self._err.seek(0)
        return Result(self._name, code, self._out.read(), self._err.read()).show()


def run(command: list[str], name: str, *, check: bool = True, stdin: str | None = None, seconds: float = 900) -> Result:
    """Runs a command to its end. With `check` it must succeed."""
    done = subprocess.run(
        command,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
    result = Result(name, done.returncode, done.stdout, done.stderr)
    if check and result.code != 0:
        raise CommandFailed(f"{name}: exit {result.code}: {result.text.strip()[-2000:]}")
    return result
