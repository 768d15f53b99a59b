"""A node that looks like a worker to certwarden and has a real API server, and the hand that approves and signs."""

import base64
from typing import Any

from .api import CSRS
from .command import Background, Result, run
from .files import Picture
from .node import Node, now
from .signing import new_key, sign

ISSUED = "keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\nbasicConstraints=critical,CA:FALSE\n"
SEEN = ("unshare", "-m", "sh", "-c", 'mount --bind /var/worker /etc/kubernetes; exec certwarden "$@"', "sh")


class Worker:
    """/etc/kubernetes, as certwarden sees it, holds what a worker has: kubelet.conf and ca.crt."""

    def __init__(self, node: Node) -> None:
        self.node = node
        place = node.path("/var/worker")
        (place / "pki").mkdir(parents=True)
        for name in ("kubelet.conf", "pki/ca.crt"):
            run(["cp", "-a", str(node.files.kubernetes / name), str(place / name)], f"copy {name}")

    def certwarden(self, *args: str) -> Result:
        return self.node.run(*SEEN, *args, check=False).show()

    def begin_certwarden(self, *args: str) -> Background:
        return self.node.begin(*SEEN, *args)

    def content(self) -> tuple[Picture, list[bytes]]:
        """Live files, and what certwarden could have changed there."""
        own = sorted(p for p in self.node.path("/var/worker").rglob("*") if p.is_file())
        return self.node.files.content(), [path.read_bytes() for path in own]

    def problems(self) -> list[str]:
        """What `check` finds about the kubelet's certificate."""
        check = self.certwarden("check", "-o", "json").json
        return [p["id"] for entry in check["entries"] if entry["name"] == "kubelet-client" for p in entry["problems"]]

    # --- requests for certificates

    def requests(self) -> list[dict[str, Any]]:
        """Those of certwarden, oldest first."""
        return [r for r in self.node.api.requests() if r["metadata"]["name"].startswith("certwarden-")]

    def newest(self) -> str:
        return self.requests()[-1]["metadata"]["name"]

    def approve(self, name: str) -> None:
        self.node.kubectl("certificate", "approve", name)

    def deny(self, name: str) -> None:
        self.node.kubectl("certificate", "deny", name)

    def delete(self, name: str) -> None:
        self.node.kubectl("delete", "csr", name)

    def issue(self, name: str, *, node: str = "node", days: int = 365, another_key: bool = False) -> None:
        """Answers a request as the controller manager does, whatever was asked for."""
        self.approve(name)
        request = self.node.api.get(f"{CSRS}/{name}")
        asked = base64.b64decode(request["spec"]["request"]).decode()
        public_key = run(["openssl", "req", "-noout", "-pubkey"], "the key asked for", stdin=asked).out
        if another_key:
            public_key = run(["openssl", "pkey", "-pubout"], "another key", stdin=new_key()).out
        subject = f"/O=system:nodes/CN=system:node:{node}"
        issued, _ = sign(self.node, subject, days, extensions=ISSUED, public_key=public_key)
        request["status"]["certificate"] = base64.b64encode(issued.encode()).decode()
        self.node.api.send("PUT", f"{CSRS}/{name}/status", request)


def make_kubelet_due(node: Node) -> None:
    """The kubelet's certificate ends in 20 days."""
    node.harness("inside/late", str(node.tree), "-345 days", "20 days")


def let_kubelet_rotate(node: Node, rotate: bool) -> None:
    old, new = str(not rotate).lower(), str(rotate).lower()
    node.replace("/var/lib/kubelet/config.yaml", f"rotateCertificates: {old}", f"rotateCertificates: {new}")


def heartbeat_age(node: Node, since: float) -> str:
    return f"{(node.api.heartbeat() or now()) - int(since):.0f} s"
