"""Ways in which a node is ill, for `diagnose`; what a way needs to wait for, it waits for."""

import base64
import json
import shutil
from collections.abc import Callable

from . import rows
from .command import run
from .faults import take_api_server_away
from .files import field, set_field
from .node import API_SERVER, Node, now
from .rows import KUBECONFIG, PKI
from .waiting import wait_until
from .worker import let_kubelet_rotate, make_kubelet_due

CONFIG = "/var/lib/kubelet/config.yaml"
MANIFESTS = "/etc/kubernetes/manifests"
NETWORK = "/etc/cni/net.d"
BINDING = "kubeadm:node-autoapprove-certificate-rotation"
CLIENTS_ROLE = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
SAVED = ("etc/kubernetes", "var/lib/kubelet/pki", "var/lib/kubelet/config.yaml")


class Healthy:
    """The files of a healthy node, to be put back."""

    def __init__(self, node: Node) -> None:
        self.node, self.place = node, node.tree.with_name(f"{node.name}.well")
        self.place.mkdir()
        tar = ["tar", "-C", str(node.tree), "--exclude=manifests", "-cpf", f"{self.place}/files.tar", *SAVED]
        run(tar, "keep the files")
        run(["cp", "-a", str(node.path(MANIFESTS)), str(node.path(NETWORK)), str(self.place)], "keep manifests")

    def put_back(self) -> None:
        """Every file as it was. Directories stay, which pods pin, and so do manifests that are as they were.

        A kubelet stops a pod whose manifest goes away.
        """
        for path in self.node.files.kubelet_pki.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.node.path("/var/lib/certwarden/state.json").unlink(missing_ok=True)
        tar = ["tar", "-C", str(self.node.tree), "--unlink-first", "-xpf", f"{self.place}/files.tar"]
        run(tar, "put the files back", check=False)  # directories that are not empty are not replaced
        run(["cp", "-a", f"{self.place}/net.d/.", str(self.node.path(NETWORK))], "put the network back")
        for kept in (self.place / "manifests").iterdir():
            live = self.node.path(f"{MANIFESTS}/{kept.name}")
            if not live.exists() or live.read_bytes() != kept.read_bytes():
                run(["cp", "-a", str(kept), str(self.node.path("/root/new"))], f"put {kept.name} back")
                self.node.path("/root/new").rename(live)

    def restore(self, since: float) -> None:
        """The files, the kubelet and the control plane."""
        self.put_back()
        self.node.restart_kubelet()
        self.node.wait_ready("again", since, 120)
        self.node.wait_healthy("again")


# --- the kubelet


def crashes(node: Node) -> None:
    node.restart_kubelet()
    wait_until("a crash of the kubelet", 30, lambda: node.property("kubelet", "SubState") == "auto-restart")


def kubelet_stopped(node: Node) -> None:
    node.systemctl("stop", "kubelet")


def bad_configuration(node: Node) -> None:
    node.append(CONFIG, "nonsense: [\n")
    crashes(node)


def expired_identity(node: Node) -> None:
    rows.expired(node)
    crashes(node)


def identity_gone(node: Node) -> None:
    rows.missing(node)
    crashes(node)


def kubeconfig_gone(node: Node) -> None:
    rows.kubeconfig_gone(node)
    crashes(node)


# --- where kubelet.conf leads to


def leads_to(server: str) -> Callable[[Node], None]:
    def edit(node: Node) -> None:
        node.overwrite(KUBECONFIG, set_field(node.read(KUBECONFIG), "server", server).encode())

    edit.__name__ = f"kubelet.conf leads to {server}"
    return edit


def trusts_another_ca(node: Node) -> None:
    other = base64.b64encode(node.path("/etc/kubernetes/pki/etcd/ca.crt").read_bytes()).decode()
    assert field(node.read(KUBECONFIG), "certificate-authority-data") != other
    node.overwrite(KUBECONFIG, set_field(node.read(KUBECONFIG), "certificate-authority-data", other).encode())


# --- certificates of others


def self_signed_again(node: Node, certificate: str, key: str) -> None:
    """The same one, expired yesterday."""
    copy = node.tree.with_name(f"{node.name}.again")
    shutil.copy(node.path(certificate), copy)
    command = ["openssl", "x509", "-in", str(copy), "-signkey", str(node.path(key)), "-days", "-1"]
    node.overwrite(certificate, run(command, f"sign {certificate} again").out.encode())


def ca_expired(node: Node) -> None:
    self_signed_again(node, "/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/pki/ca.key")


def serving_pair_expired(node: Node) -> None:
    self_signed_again(node, f"{PKI}/kubelet.crt", f"{PKI}/kubelet.key")


def controller_manager_expired(node: Node) -> None:
    node.make_due(-1, "controller-manager.conf")


def api_server_expired(node: Node) -> None:
    node.make_due(-1, "pki/apiserver.crt")
    node.kill_containers("kube-apiserver")
    wait_until(f"an expired leaf on {API_SERVER}", 60, node.serves)


def api_is_down(node: Node) -> None:
    wait_until("no API", 180, lambda: not node.api.lives())


def etcd_expired(node: Node) -> None:
    names = ("pki/etcd/server.crt", "pki/etcd/peer.crt", "pki/etcd/healthcheck-client.crt")
    node.make_due(-1, *names, "pki/apiserver-etcd-client.crt")
    node.kill_containers("etcd", "kube-apiserver")
    api_is_down(node)


# --- the control plane


def api_server_away(node: Node) -> None:
    take_api_server_away(node)


def api_server_with_a_bad_flag(node: Node) -> None:
    flag = "- --secure-port=6443"
    node.replace(f"{MANIFESTS}/kube-apiserver.yaml", flag, f"{flag}\n    - --nonsense=1")
    api_is_down(node)


def etcd_with_a_bad_flag(node: Node) -> None:
    node.replace(f"{MANIFESTS}/etcd.yaml", "- --name=", "- --nonsense=")
    api_is_down(node)


# --- requests for certificates


def asks_and_waits(node: Node) -> None:
    wait_until("a request that is pending", 60, lambda: pending(node))


def pending(node: Node) -> list[str]:
    return [r["metadata"]["name"] for r in node.api.requests() if not r["status"].get("conditions")]


def serving_request_waits(node: Node) -> None:
    text = "".join(line for line in node.read(CONFIG).splitlines(True) if "serverTLSBootstrap" not in line)
    node.overwrite(CONFIG, f"{text}serverTLSBootstrap: true\n".encode())
    node.restart_kubelet()
    asks_and_waits(node)


def rotation_is_off(node: Node) -> None:
    let_kubelet_rotate(node, False)
    make_kubelet_due(node)
    node.restart_kubelet()


def nobody_may_approve(node: Node) -> None:
    node.kubectl("delete", "clusterrolebinding", BINDING)
    make_kubelet_due(node)
    node.restart_kubelet()
    asks_and_waits(node)


def request_denied(node: Node) -> None:
    node.kubectl("certificate", "deny", pending(node)[0])


def let_requests_be_approved(node: Node) -> None:
    delete_requests(node)
    node.kubectl("create", "clusterrolebinding", BINDING, "--clusterrole", CLIENTS_ROLE, "--group", "system:nodes")


def delete_requests(node: Node) -> None:
    node.kubectl("delete", "csr", "--all")


# --- the node


def clock_was_ahead(node: Node) -> None:
    state = {"schema": "certwarden.state/v1", "last_seen": "2040-01-01T00:00:00Z"}
    node.write("/var/lib/certwarden/state.json", json.dumps(state))


def no_room(node: Node) -> None:
    node.run("mount", "--bind", PKI, PKI)
    node.run("mount", "-o", "remount,bind,ro", PKI)


def make_room(node: Node) -> None:
    node.run("umount", PKI)


def node_object_deleted(node: Node) -> None:
    node.kubectl("delete", "node", "node")


def register(node: Node) -> None:
    """Static pods that are admitted before are refused, etcd now and then: then the next start brings them back."""
    since = f"--since=@{now():.0f}"
    node.restart_kubelet()
    node.wait_for_message("kubelet", "Successfully registered node", 60, since)


def no_network(node: Node) -> None:
    for path in node.path(NETWORK).iterdir():
        path.unlink()
    wait_until("a node that is not Ready", 90, lambda: node.api.answers() and node.api.heartbeat() is None)
