"""Nodes of which somebody else is root, who has their credentials and nothing else."""

import base64
import json
from typing import Any

from .api import CSRS, MERGE_PATCH
from .command import CommandFailed
from .node import Node
from .signing import request, sign

PLACE = "/var/evil"  # their credentials, in the node
SIGNER = "kubernetes.io/kubelet-serving"
CLIENT = "extendedKeyUsage=clientAuth\n"


def certificate_request(
    name: str, names: str, subject: str, *options: str, usages: tuple[str, ...] = ("server auth",)
) -> dict[str, Any]:
    """A request for a kubelet's serving certificate, as an object of the API."""
    asked = request(subject, "-addext", f"subjectAltName={names}", *options)
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "signerName": SIGNER,
            "usages": [*usages, "digital signature", "key encipherment"],
            "request": base64.b64encode(asked.encode()).decode(),
        },
    }


class Stranger:
    """A node of this name: it joins as a kubelet does, and its owner claims and asks for what he likes."""

    def __init__(self, node: Node, name: str, **addresses: str) -> None:
        self.node, self.name = node, name
        certificate, key = sign(node, f"/O=system:nodes/CN=system:node:{name}", 30, extensions=CLIENT)
        node.write(f"{PLACE}/{name}.crt", certificate)
        node.write(f"{PLACE}/{name}.key", key, 0o600)
        self._send("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        claimed = [{"type": kind, "address": a} for kind, a in [("Hostname", name), *addresses.items()]]
        self._send("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"addresses": claimed}}, MERGE_PATCH)

    def ask(
        self, request: str, names: str, *options: str, subject: str = "", usages: tuple[str, ...] = ("server auth",)
    ) -> None:
        """Files a request for a serving certificate for these names."""
        subject = subject or f"/O=system:nodes/CN=system:node:{self.name}"
        self._send("POST", CSRS, certificate_request(request, names, subject, *options, usages=usages))

    def flood(self, count: int, names: str) -> None:
        """As many requests, over one connection."""
        value = certificate_request("NAME", names, f"/O=system:nodes/CN=system:node:{self.name}")
        credential = [f"cert = {PLACE}/{self.name}.crt", f"key = {PLACE}/{self.name}.key"]
        options = ["silent", "show-error", "fail", "output = /dev/null", 'header = "Content-Type: application/json"']
        parts = []
        for i in range(1, count + 1):
            value["metadata"]["name"] = f"evil-flood-{i}"
            self.node.write(f"{PLACE}/f-{i}.json", json.dumps(value))
            place = [f"url = https://10.99.0.2:6443{CSRS}", f"data-binary = @{PLACE}/f-{i}.json"]
            parts.append("\n".join([*place, "cacert = /etc/kubernetes/pki/ca.crt", *credential, *options]))
        self.node.write(f"{PLACE}/flood.curl", "\nnext\n".join(parts) + "\n")
        self.node.run("curl", "-K", f"{PLACE}/flood.curl")

    def _send(self, method: str, path: str, value: Any, kind: str = "application/json") -> None:
        credential = ["--cert", f"{PLACE}/{self.name}.crt", "--key", f"{PLACE}/{self.name}.key"]
        command = ["curl", "-sSf", "-m", "10", "--cacert", "/etc/kubernetes/pki/ca.crt", *credential, "-o", "/dev/null"]
        options = ["-X", method, "-H", f"Content-Type: {kind}", "--data-binary", "@-"]
        self.node.run(*command, f"https://10.99.0.2:6443{path}", *options, stdin=json.dumps(value))


def forges(node: Node, what: str, kind: str, address: str) -> Stranger:
    """A node of that name claims this address, and asks for it."""
    name = f"evil-{what}"
    stranger = Stranger(node, name, **{kind: address})
    stranger.ask(name, f"DNS:{name},{'IP' if kind.endswith('IP') else 'DNS'}:{address}")
    return stranger


def asks_oddly(node: Node, what: str, *options: str, names: str = "", **more: Any) -> bool:
    """A node of that name asks for its own name, and something is wrong; False: the API server refused it."""
    name = f"evil-{what}"
    stranger = Stranger(node, name)
    try:
        stranger.ask(name, names or f"DNS:{name}", *options, **more)
    except CommandFailed:
        return False
    return True


def fate(found: dict[str, Any]) -> str:
    """Approved, Denied, or Pending."""
    types = [c["type"] for c in found["status"].get("conditions", [])]
    decided = [t for t in types if t in ("Approved", "Denied")]
    return decided[0] if decided else "Pending"


def went(node: Node, how: str, *prefixes: str) -> list[str]:
    """The names of kubelets' requests that went so and begin with one of these."""
    of_kubelets = [r for r in node.api.requests() if r["spec"]["signerName"] == SIGNER]
    return sorted(
        r["metadata"]["name"] for r in of_kubelets if fate(r) == how and r["metadata"]["name"].startswith(prefixes)
    )
