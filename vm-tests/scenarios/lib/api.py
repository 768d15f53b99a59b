"""What the node's API server says: asked with a credential of the harness, whatever becomes of those under test."""

import json
from datetime import datetime
from typing import Any

from .command import CommandFailed
from .machine import Machine

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node"
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
MERGE_PATCH = "application/merge-patch+json"


def seconds(time: str | None) -> float:
    """A time as Kubernetes writes it, in seconds since the epoch; 0 for none."""
    return datetime.fromisoformat(time).timestamp() if time else 0.0


class Api:
    def __init__(self, machine: Machine, host: str = "10.99.0.2") -> None:
        self.machine, self.host = machine, host

    def ask(self, path: str, *options: str, stdin: str | None = None) -> str:
        """The body of the answer; anything but success fails."""
        credential = ["--cacert", "/etc/kubernetes/pki/ca.crt", "--cert", "/root/admin/certificate"]
        command = ["curl", "-sSf", "-m", "5", *credential, "--key", "/root/admin/key"]
        return self.machine.run(*command, f"https://{self.host}:6443{path}", *options, stdin=stdin).out

    def get(self, path: str) -> Any:
        return json.loads(self.ask(path))

    def send(self, method: str, path: str, value: Any, kind: str = "application/json") -> None:
        options = ["-o", "/dev/null", "-X", method, "-H", f"Content-Type: {kind}", "--data-binary", "@-"]
        self.ask(path, *options, stdin=json.dumps(value))

    def answers(self) -> bool:
        """Whether it is up, and its hooks after the start are done."""
        try:
            return self.ask("/readyz") == "ok"
        except CommandFailed:
            return False

    def lives(self) -> bool:
        """Whether it is up and has its etcd, which some leave out of what makes them ready."""
        try:
            return self.ask("/livez") == "ok"
        except CommandFailed:
            return False

    def heartbeat(self) -> float | None:
        """When the node last said that it is Ready; None when it is not, or nobody answers."""
        try:
            conditions = self.get("/api/v1/nodes/node")["status"].get("conditions", [])
        except CommandFailed:
            return None
        ready = [c for c in conditions if c["type"] == "Ready" and c["status"] == "True"]
        return seconds(ready[0]["lastHeartbeatTime"]) if ready else None

    def lease(self) -> float:
        """When the kubelet last renewed its lease; 0 when nobody answers."""
        try:
            return seconds(self.get(LEASE)["spec"].get("renewTime"))
        except CommandFailed:
            return 0.0

    def requests(self) -> list[dict[str, Any]]:
        """All CertificateSigningRequests, oldest first."""
        items = self.get(CSRS)["items"]
        return sorted(items, key=lambda item: (item["metadata"]["creationTimestamp"], item["metadata"]["name"]))
