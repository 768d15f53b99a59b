"""A node as after `kubeadm init`, with certwarden installed."""

import os
from datetime import UTC, datetime
from typing import Any

from . import x509
from .api import Api
from .command import Background, CommandFailed, Result
from .files import Files
from .machine import Machine
from .transactions import Transactions
from .waiting import Running, wait_until

KUBERNETES = "/etc/kubernetes"
API_SERVER, ETCD, ETCD_PEER, KUBELET = "10.99.0.2:6443", "10.99.0.2:2379", "10.99.0.2:2380", "127.0.0.1:10250"
# slows each rename down: the only way to see a commit from outside
SLOW = "strace -f -qq -o /dev/null --seccomp-bpf -e trace={0} -e inject={0}:delay_enter={1}"
RENAMES = "rename,renameat,renameat2"


class Node(Machine):
    """A control plane by itself: its files, API and transactions are values, `certwarden` runs what is under test."""

    def __init__(self, name: str, address: str = "10.99.0.2") -> None:
        super().__init__(name)
        self.address = address
        self.files = Files(self.tree)
        self.api = Api(self, address)
        self.transactions = Transactions(self.tree)

    # --- making it

    def make(self, *, with_certwarden: bool = True) -> None:
        """A copy of the golden node, not running."""
        self.harness("machine/clone", self.name, CW_BARE="" if with_certwarden else "1")

    def boot(self) -> None:
        """Boots it, until it is Ready and its control plane healthy."""
        self.start()
        wait_until("the node Ready after its boot", 180, self.ready)
        self.wait_healthy("after its boot", 60)

    def configure(self, name: str, toml: str) -> None:
        """Puts a fragment into certwarden's config.d."""
        self.write(f"/etc/certwarden/config.d/{name}", toml)

    def unconfigure(self, name: str) -> None:
        self.remove(f"/etc/certwarden/config.d/{name}")

    def shorten_waits(self, stability: str = "12s") -> None:
        """Shorter waits than the defaults, where the scenario is not about them.

        A kubelet that crashes does so within 12 s: its unit's RestartSec is 10 s.
        """
        self.configure("20-quick.toml", f'[verify]\nstability = "{stability}"\ntimeout = "60s"')

    def make_due(self, days: int, *names: str) -> None:
        """Signs leaves again, so that these days are left: all that kubeadm renews, or these; `kubelet` is its own."""
        self.harness("inside/due", str(self.tree), str(days), *names)

    # --- certwarden

    def certwarden(self, *args: str) -> Result:
        """Runs certwarden in the node, whatever its exit code is."""
        return self.run("certwarden", *args, check=False).show()

    def begin_certwarden(self, *args: str, slow_renames: float = 0) -> Background:
        """Starts certwarden; with `slow_renames` each of its renames takes so many seconds."""
        slow = SLOW.format(RENAMES, round(slow_renames * 1e6)).split() if slow_renames else []
        return self.begin(*slow, "certwarden", *args)

    def problems(self, name: str) -> list[str]:
        """The ids of what `check` finds about entries of this name."""
        return [problem["id"] for problem in self.findings(name)]

    def findings(self, name: str) -> list[dict[str, Any]]:
        check = self.certwarden("check", "-o", "json").json
        return [p for entry in check["entries"] if entry["name"] == name for p in entry["problems"]]

    def wait_for_state(self, state: str, seconds: float, during: Running | None = None) -> None:
        """Until the newest transaction stands there."""
        wait_until(f"a transaction in {state}", seconds, lambda: self.transactions.state == state, during=during)

    def wait_for_end(self, seconds: float = 300) -> None:
        """Until the newest transaction has ended, well or not."""
        wait_until("a transaction that has ended", seconds, self.transactions.ended)

    # --- Kubernetes

    def kubernetes_version(self) -> str:
        """Such as v1.20.2, as kubeadm says it."""
        return self.run("kubeadm", "version", "-o", "short").out.strip()

    def containers(self, name: str) -> set[str]:
        """The running containers of that static pod: one, or more for a moment, or none."""
        label = f'labels."io.kubernetes.container.name"=={name}'
        there = set(self.run("ctr", "-n", "k8s.io", "containers", "ls", "-q", label).out.split())
        tasks = [line.split() for line in self.run("ctr", "-n", "k8s.io", "tasks", "ls").out.splitlines()]
        return there & {task[0] for task in tasks if task[2:] == ["RUNNING"]}

    def container(self, name: str) -> str:
        """The one running container of that static pod."""
        (only,) = self.containers(name)
        return only

    def kill_containers(self, *names: str) -> None:
        for name in names:
            running = self.containers(name)
            assert running, f"no container of {name} runs"
            for container in running:
                self.run("ctr", "-n", "k8s.io", "tasks", "kill", "-s", "KILL", container)

    def healthy(self) -> bool:
        """The API server's hooks after its start are done, controller manager and scheduler answer."""
        if not self.api.answers():
            return False
        ports = (10257, 10259)
        command = ("curl", "-skf", "-m", "5", "-o", "/dev/null")
        return all(self.succeeds(*command, f"https://127.0.0.1:{port}/healthz") for port in ports)

    def wait_healthy(self, when: str, seconds: float = 90) -> None:
        wait_until(f"a healthy control plane {when}", seconds, self.healthy)

    def kubelet_began(self) -> float:
        """When the kubelet's process of now began; 0 when there is none."""
        command = ("systemctl", "show", "--timestamp=us+utc", "-p", "ExecMainStartTimestamp", "--value", "kubelet")
        words = self.run(*command).out.split()
        return datetime.fromisoformat(f"{words[1]}T{words[2]}+00:00").timestamp() if len(words) > 2 else 0.0

    def ready(self, since: float | None = None) -> bool:
        """Ready by a heartbeat not older than this (default: the boot), and leased: proof after a kubelet's start.

        Where the kubelet itself began since, both are that process's own: heartbeats have whole seconds, and the first
        may come in the very second of the start; leases have microseconds. A kubelet that was not restarted may send
        its next heartbeat in five minutes: then `leased` is what can be asked for.
        """
        since = int(self.booted_at if since is None else since)
        began, heartbeat = self.kubelet_began(), self.api.heartbeat()
        if heartbeat is None or heartbeat < since or not self.leased(since):
            return False
        return began < since or (heartbeat >= int(began) and self.api.lease() >= began)

    def leased(self, since: float) -> bool:
        """Ready, and the lease renewed since."""
        return self.api.lease() > int(since) + 1 and self.api.heartbeat() is not None

    def wait_ready(self, when: str, since: float, seconds: float = 60) -> None:
        wait_until(f"the node Ready {when}", seconds, lambda: self.ready(since))

    def wait_leased(self, when: str, since: float, seconds: float = 60) -> None:
        wait_until(f"the node Ready and leased {when}", seconds, lambda: self.leased(since))

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return self.run("kubectl", *args, stdin=stdin).out

    def accepts(self, kubeconfig: str) -> bool:
        """Whether the API server answers a client with this kubeconfig."""
        options = ("--kubeconfig", kubeconfig, "--request-timeout", "5s")
        return self.succeeds("kubectl", *options, "get", "--raw", "/api")

    # --- what is on the wire

    def served(self, address: str = API_SERVER) -> int:
        """The serial number of the certificate that is served there."""
        shown = self.run("openssl", "s_client", "-connect", address, check=False)
        begin = shown.out.find("-----BEGIN CERTIFICATE-----")
        if begin < 0:
            raise CommandFailed(f"nothing is served at {address}: {shown.text.strip()[-300:]}")
        return x509.certificate(shown.out[begin:].encode()).serial_number

    def serves(self, name: str = "pki/apiserver.crt", address: str = API_SERVER) -> bool:
        """Whether what is served there is what is on the disk."""
        return self.served(address) == self.files.serial(name)

    def wait_served(self, when: str, seconds: float = 90) -> None:
        """Until the API server serves what is on the disk."""
        wait_until(f"the API server serves what is on the disk {when}", seconds, self.serves)

    def restart_kubelet(self) -> None:
        self.systemctl("restart", "kubelet")


def now() -> float:
    """The node has this machine's clock."""
    return datetime.now(UTC).timestamp()


def this_node() -> str:
    """The name that the scheduler gives to the scenario's machine."""
    return os.environ.get("CW_NODE", "node")
