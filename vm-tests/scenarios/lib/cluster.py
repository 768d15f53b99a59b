"""One kubeadm cluster of several machines, with an endpoint for its API."""

from .command import run
from .machine import TESTS
from .node import Node

ENDPOINT = "10.99.0.100"


class Cluster:
    """Its members are called cp1, cp2, … and w1, …; etcd is stacked."""

    def __init__(self, name: str, control_planes: int, workers: int) -> None:
        self.name = name
        command = [str(TESTS / "machine/cluster"), name, "up", str(control_planes), str(workers)]
        run(command, "machine/cluster up", seconds=1200).show()
        self.control_planes = [Node(f"{name}-cp{i}", f"10.99.0.1{i}") for i in range(1, control_planes + 1)]
        self.workers = [Node(f"{name}-w{i}", f"10.99.0.2{i}") for i in range(1, workers + 1)]

    @property
    def members(self) -> list[Node]:
        return self.control_planes + self.workers
