"""The machines that scenarios work on. `vm-tests/run` gives each file one by name, keeps evidence and takes it away."""

from collections.abc import Callable, Iterator

import pytest

pytest.register_assert_rewrite("lib")

from lib.cluster import Cluster  # noqa: E402
from lib.machine import Machine  # noqa: E402
from lib.node import Node, this_node  # noqa: E402
from lib.plain import make_plain  # noqa: E402

SKIPPED = 77  # exit code of a scenario that does not apply to what is under test


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A control plane as after `kubeadm init`, with certwarden installed and not running.

    A `readonly` scenario gets the running node that all of these share, and must leave every file as it was.
    """
    node = Node(this_node())
    if request.node.get_closest_marker("readonly"):
        picture = node.files.picture()
        yield node
        assert node.files.picture() == picture
    else:
        node.make()
        yield node


@pytest.fixture(scope="module")
def bare_node() -> Node:
    """The same without certwarden: the scenario installs it."""
    node = Node(this_node())
    node.make(with_certwarden=False)
    return node


@pytest.fixture(scope="module")
def plain() -> Callable[[int], Machine]:
    """Makes and boots a machine with that version of Debian, without Kubernetes and without certwarden."""
    return lambda debian: make_plain(this_node(), debian)


@pytest.fixture(scope="module")
def cluster() -> Callable[[int, int], Cluster]:
    """Makes and boots a kubeadm cluster of so many control planes and workers."""
    return lambda control_planes, workers: Cluster(this_node(), control_planes, workers)


def pytest_runtest_setup(item: pytest.Item) -> None:
    print(f"\n=== {item.name}", flush=True)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        print(f"\nSKIPPED: {report.longrepr[2].removeprefix('Skipped: ')}", flush=True)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Of two dicts, such as pictures of files, only what differs."""
    if op != "==" or not isinstance(left, dict) or not isinstance(right, dict):
        return None
    keys = [key for key in sorted(left.keys() | right.keys()) if left.get(key) != right.get(key)]
    return ["these differ:", *(f"{key}: {left.get(key, 'absent')} != {right.get(key, 'absent')}" for key in keys)]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A file of which nothing applied is skipped, not passed."""
    stats = session.config.pluginmanager.get_plugin("terminalreporter").stats
    if exitstatus == 0 and stats.get("skipped") and not stats.get("passed"):
        session.exitstatus = SKIPPED
