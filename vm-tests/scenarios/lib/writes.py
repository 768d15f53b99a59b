"""Writes to the node's API, many a second, while something is done to it: what became of them."""

import shutil
import time
from dataclasses import dataclass

from .machine import TESTS
from .node import Node

AROUND = 3  # seconds of writes before and after what is measured
CREATED = "201"


@dataclass(frozen=True)
class Writes:
    """What became of them; seconds without a write run from a failed one to the next that succeeds."""

    count: int
    failed: int
    lost: int
    seconds_without: float
    slowest: float

    def __str__(self) -> str:
        outcome = f"{self.failed} failed, {self.lost} lost, slowest {self.slowest:.2f} s"
        return f"{self.seconds_without:.1f} s without one of {self.count} writes; {outcome}"


class Writer:
    """Writes from its making until `end`: `rate` a second, each over a new connection."""

    def __init__(self, node: Node, address: str = "10.99.0.2", rate: int = 20) -> None:
        self._directory = node.path("/root/watch")
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()
        shutil.copy(node.files.kubernetes / "pki/ca.crt", self._directory / "ca.crt")
        shutil.copy(node.path("/root/admin/certificate"), self._directory / "c.crt")
        shutil.copy(node.path("/root/admin/key"), self._directory / "c.key")
        program = str(TESTS / "inside/write-watch")
        self._writer = node.begin_in_its_network("python3", program, str(self._directory), address, str(rate))
        time.sleep(AROUND)

    def end(self) -> Writes:
        time.sleep(AROUND)
        (self._directory / "stop").touch()
        assert self._writer.wait(120).code == 0
        there = set((self._directory / "there").read_text().split())
        lines = [line.split() for line in (self._directory / "log").read_text().splitlines()]
        rows = sorted((float(began), float(took), number, status) for began, took, number, status in lines)

        without, down_since = 0.0, None
        for began, _, _, status in rows:
            if status != CREATED:
                down_since = began if down_since is None else down_since
            elif down_since is not None:
                without, down_since = without + began - down_since, None
        acknowledged = [row for row in rows if row[3] == CREATED]
        return Writes(
            count=len(rows),
            failed=len(rows) - len(acknowledged),
            lost=len({row[2] for row in acknowledged} - there),
            seconds_without=without,
            slowest=max((row[1] for row in acknowledged), default=0.0),
        )
