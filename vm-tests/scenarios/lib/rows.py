"""The kubelet's identity is broken in one way, and `certwarden renew` alone repairs it."""

import base64
from collections.abc import Callable
from dataclasses import dataclass

from . import x509
from .command import figure
from .files import set_field
from .node import Node, now
from .signing import new_key, sign

KUBECONFIG = "/etc/kubernetes/kubelet.conf"
PKI = "/var/lib/kubelet/pki"
LINK = f"{PKI}/kubelet-client-current.pem"
NEXT = f"{PKI}/kubelet-client-updated.pem"  # where a kubelet makes its next link


@dataclass(frozen=True)
class Row:
    """How it is broken, the id of what `check` finds, and the ways of repair one of which `plan` has."""

    breaks: Callable[[Node], None]
    found: str
    ways: tuple[str, ...]

    def __str__(self) -> str:
        return self.breaks.__name__


SIGN, ADOPT, REFER = ("sign",), ("adopt",), ("",)


def repaired(node: Node, row: Row) -> None:
    """Breaks it, restarts the kubelet, sees it found and repaired, and the node Ready again."""
    for old in node.files.kubelet_pki.glob("kubelet-client-2*.pem"):
        if old.name != node.files.kubelet_file.name:
            old.unlink()
    node.run("rm", "-rf", "/var/lib/certwarden")
    row.breaks(node)
    node.restart_kubelet()

    check = node.certwarden("check", "-o", "json").json
    entries = [entry for entry in check["entries"] if entry["name"].startswith("kubelet")]
    assert [problem["id"] for entry in entries for problem in entry["problems"]] == [row.found]
    plan = node.certwarden("plan", "-o", "json").json
    way = " ".join(way["by"] for way in plan["source"].get("ways", []))
    assert way in row.ways

    since = now()
    renewed = node.certwarden("renew", "-o", "json")
    assert (renewed.code, renewed.json["outcome"]) == (0, "verified")
    node.wait_ready("again", since)
    took = node.api.heartbeat() - int(since)
    figure(f"{row}: {row.found}; {way or 'references'}; Ready by a heartbeat {took:.0f} s after renew began")

    assert node.files.kubelet_link.is_symlink()
    assert node.files.kubelet_file.stat().st_mode & 0o777 == 0o600
    pem = node.files.kubelet_file.read_bytes()
    assert x509.belong_together(x509.certificate(pem), x509.private_key(pem))
    assert node.read(KUBECONFIG).count("kubelet-client-current.pem") == 2


def hold(node: Node, pem: str) -> None:
    """Writes this into the file that the link leads to."""
    node.files.kubelet_file.write_text(pem)


# --- ways to break the file and the link


def dangling(node: Node) -> None:
    node.files.kubelet_file.unlink()


def missing(node: Node) -> None:
    node.files.kubelet_file.unlink()
    node.files.kubelet_link.unlink()


def empty(node: Node) -> None:
    hold(node, "")


def cut_off(node: Node) -> None:
    hold(node, node.files.kubelet_file.read_text()[:400])


def another_nodes(node: Node) -> None:
    hold(node, "".join(sign(node, "/O=system:nodes/CN=system:node:another", 100)))


def of_another_ca(node: Node) -> None:
    hold(node, "".join(sign(node, "/O=system:nodes/CN=system:node:node", 100, ca="etcd/ca")))


def with_another_key(node: Node) -> None:
    pem = node.files.kubelet_file.read_text()
    end = "-----END CERTIFICATE-----\n"
    hold(node, pem[: pem.index(end) + len(end)] + new_key())


def expired(node: Node) -> None:
    node.harness("inside/late", str(node.tree), "-365 days", "-1 day")


# --- ways to arrange it otherwise


def older_one_beside_an_empty_one(node: Node) -> None:
    node.run("cp", "-p", f"{PKI}/{node.files.kubelet_file.name}", f"{PKI}/kubelet-client-2020-01-01-00-00-00.pem")
    empty(node)


def file_in_the_place_of_the_link(node: Node) -> None:
    pem = node.files.kubelet_file.read_text()
    missing(node)
    node.write(LINK, pem, 0o600)


def kubeconfig_gone(node: Node) -> None:
    node.remove(KUBECONFIG)


def kubeconfig_is_rubbish(node: Node) -> None:
    node.overwrite(KUBECONFIG, b"}{\n")


def kubeconfig_points_nowhere(node: Node) -> None:
    node.replace(KUBECONFIG, "kubelet-client-current", "nothing")


def identity_in_the_kubeconfig(node: Node) -> None:
    pem = node.files.kubelet_file.read_text()
    end = "-----END CERTIFICATE-----\n"
    at = pem.index(end) + len(end)
    text = node.read(KUBECONFIG)
    for name, part in (("client-certificate", pem[:at]), ("client-key", pem[at:])):
        data = base64.b64encode(part.encode()).decode()
        text = set_field(text, name, "").replace(f"{name}: \n", f"{name}-data: {data}\n")
    node.overwrite(KUBECONFIG, text.encode())


def identity_in_the_kubeconfig_alone(node: Node) -> None:
    identity_in_the_kubeconfig(node)
    missing(node)


def file_where_the_next_link_would_be(node: Node) -> None:
    node.write(NEXT, "x\n")


# --- what not even root can read


def link_to_an_unreadable_file(node: Node) -> None:
    node.files.kubelet_link.unlink()
    node.files.kubelet_link.symlink_to("/proc/1/mem")


def directory_in_the_place_of_the_link(node: Node) -> None:
    missing(node)
    node.write(f"{LINK}/in", "")


def directory_where_the_next_link_would_be(node: Node) -> None:
    node.write(f"{NEXT}/in", "")


def fifo_behind_the_link(node: Node) -> None:
    file = node.files.kubelet_file
    file.unlink()
    node.run("mkfifo", "-m", "600", f"{PKI}/{file.name}")
