"""Ways to break a node from outside, and to mend it."""

import json
from typing import Any

from . import x509
from .machine import TESTS
from .node import KUBERNETES, Node, now
from .waiting import wait_until

DROP_IN = "/etc/systemd/system/kubelet.service.d/50-broken.conf"
API_MANIFEST = f"{KUBERNETES}/manifests/kube-apiserver.yaml"
# the node's shell and its libraries: images have none
HOST = {"hostbin": "/usr/bin", "hostlib": "/usr/lib/x86_64-linux-gnu", "hostlib64": "/usr/lib64"}
MOUNTED = {"hostbin": "/hostbin", "hostlib": "/lib/x86_64-linux-gnu", "hostlib64": "/lib64"}


def break_kubelet(node: Node, mode: str, file: str = f"{KUBERNETES}/pki/apiserver.crt") -> None:
    """Restarts the kubelet as inside/kubelet-that, which does MODE once FILE holds another certificate."""
    node.write("/usr/local/sbin/kubelet-that", (TESTS / "inside/kubelet-that").read_text(), 0o755)
    serial = f"{x509.certificate(node.path(file).read_bytes()).serial_number:X}"
    serial = serial.zfill(len(serial) + len(serial) % 2)  # whole bytes, as openssl writes it
    drop_in = (TESTS / "inside/kubelet-that.conf").read_text()
    for placeholder, value in (("@MODE@", mode), ("@FILE@", file), ("@SERIAL@", serial)):
        drop_in = drop_in.replace(placeholder, value)
    node.write(DROP_IN, drop_in)
    node.systemctl("daemon-reload")
    since = now()
    node.restart_kubelet()
    # a kubelet of 1.20 posts first that it is not Ready, and healthz knows nothing of it
    node.wait_ready("with the kubelet that is to fail", since, 90)


def mend_kubelet(node: Node) -> None:
    """Undoes that; the kubelet is not restarted."""
    node.remove(DROP_IN)
    node.systemctl("daemon-reload")


def pin(node: Node, component: str, directory: str) -> None:
    """Lets a static pod serve from a copy of the directory that its container makes at its start.

    It does not see what is renewed until it is restarted.
    """
    manifest = f"{KUBERNETES}/manifests/{component}.yaml"
    before = node.containers(component)
    pod = json.loads(node.kubectl("create", "--dry-run=client", "-o", "json", "-f", manifest))
    serve_from_copy(pod["spec"], directory)
    node.write(f"/root/{component}.yaml", json.dumps(pod), 0o600)
    node.move(f"/root/{component}.yaml", manifest)
    wait_until(f"a pinned {component}", 120, lambda: node.containers(component) not in (set(), before))
    node.wait_healthy(f"with a pinned {component}", 120)


def serve_from_copy(spec: dict[str, Any], directory: str) -> None:
    (container,) = spec["containers"]
    command = " ".join([f"/hostbin/cp -r /real/. {directory} && exec", *container["command"]])
    container["command"] = ["/hostbin/sh", "-c", command]
    for mount in container["volumeMounts"]:
        if mount["mountPath"] == directory:
            mount["mountPath"] = "/real"
    mounted = {"copy": directory, **MOUNTED}
    container["volumeMounts"] += [{"name": name, "mountPath": path} for name, path in mounted.items()]
    spec["volumes"] += [{"name": "copy", "emptyDir": {}}]
    spec["volumes"] += [{"name": name, "hostPath": {"path": path}} for name, path in HOST.items()]


def take_api_server_away(node: Node) -> None:
    node.move(API_MANIFEST, "/root/")

    def gone() -> bool:
        connects = node.succeeds("bash", "-c", f"< /dev/tcp/{node.address}/6443")
        return not node.containers("kube-apiserver") and not connects

    wait_until("the API server gone", 90, gone)


def bring_api_server_back(node: Node) -> None:
    node.move("/root/kube-apiserver.yaml", API_MANIFEST)
