"""Breaks nothing: follows tutorial, README, operations page and how-to on a node without certwarden. About 250 s.

Every command line in them, word for word, in their order. Must hold: each is there, ends as the page says and says
something; at the end keys match and the node is Ready.
"""

import re
import shutil

import pytest

from lib.command import Result, figure
from lib.machine import REPOSITORY
from lib.node import Node
from lib.packages import put_package, wait_for_first_look

PAGES = ("docs/tutorial.md", "README.md", "docs/operations.md", "docs/how-to.md")
LINE = re.compile(r"(?:^    |`|^# )((?:certwarden|apt|dnf|systemctl|journalctl) [^`#\n]*?)(?=  |`| *#|$)", re.MULTILINE)


@pytest.fixture(scope="module")
def package(bare_node) -> str:
    """Where the package lies on the node, as the pages want it."""
    return put_package(bare_node, "certwarden.deb")


@pytest.fixture(scope="module")
def node(bare_node, package) -> Node:
    bare_node.boot()
    bare_node.shorten_waits()
    bare_node.write("/etc/apt/apt.conf.d/50yes", 'APT::Get::Assume-Yes "true";\n')
    image = bare_node.path("/mnt/image")
    shutil.copytree(bare_node.path("/etc"), image / "etc", symlinks=True)
    shutil.copytree(bare_node.path("/var/lib/kubelet"), image / "var/lib/kubelet", symlinks=True, ignore=sockets)
    return bare_node


def sockets(directory: str, names: list[str]) -> set[str]:
    """What no copy can be made of."""
    return {"device-plugins", "pod-resources", "pods", "plugins", "plugins_registry"} & set(names)


def lines(page: str) -> list[str]:
    """The command lines of a page that are run here."""
    return [line for line in LINE.findall((REPOSITORY / page).read_text()) if is_run(line)]


def is_run(line: str) -> bool:
    """Not rpm's, which test_package_rpm does, nor an editor, nor words of a sentence that are no whole line."""
    return not line.startswith("dnf") and " edit " not in line and line not in ("apt remove", "apt purge")


def may_end(line: str, code: int) -> bool:
    """Besides 0."""
    return (line, code) == ("certwarden rollback", 1) or (line.startswith("certwarden diagnose") and code in (1, 2, 3))


def run_line(node: Node, line: str, package: str) -> Result:
    """With the placeholders of the page filled in."""
    transactions = node.transactions.all()
    newest = transactions[-1].directory.name if transactions else "ID"
    filled = line.replace("runbook ID", "runbook expired").replace("history ID", f"history {newest}")
    filled = filled.replace("NAME", "apiserver")
    filled = re.sub(r"certwarden_\S+_amd64\.deb", package.rsplit("/")[-1], filled)
    return node.run("bash", "-c", f"cd /root; {filled}", check=False).show()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_does_what_the_page_says(node, package, page):
    for line in lines(page):
        if line.startswith("certwarden") and not node.path("/usr/bin/certwarden").exists():
            node.run("dpkg", "-i", package)
        result = run_line(node, line, package)
        assert result.code == 0 or may_end(line, result.code), result.command
        assert result.out or line.startswith("systemctl"), f"{line} says nothing"
        if line == "systemctl enable --now certwarden":
            wait_for_first_look(node)
    figure(f"{page}: {len(lines(page))} command lines")


def test_the_pages_have_lines_and_the_node_is_ready_in_the_end(node):
    assert sum(len(lines(page)) for page in PAGES) > 50
    node.files.assert_keys_match()
    node.wait_ready("in the end", node.booted_at)
