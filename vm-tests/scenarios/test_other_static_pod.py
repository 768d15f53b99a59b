"""Breaks: a static pod that is no part of Kubernetes mounts admin.conf as a single file; it is renewed. About 90 s.

Must hold: nothing is restarted for admin.conf; `check`, the journal and the metrics name the container that runs with
the old one, and the way to restart it, until it is restarted.
"""

import json

from lib.command import figure
from lib.waiting import wait_until

ADMIN = "/etc/kubernetes/admin.conf"
NAMES = ("etcd", "kube-apiserver", "keeper")
OLD = "process-older-than-certificate"


def keeper() -> dict:
    """It keeps a virtual IP, say."""
    container = {
        "name": "keeper",
        "image": "vm.local/pause:vm",
        "imagePullPolicy": "Never",
        "command": ["/pause", "manager"],
        "volumeMounts": [{"name": "k", "mountPath": ADMIN}],
    }
    volumes = [{"name": "k", "hostPath": {"path": ADMIN}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "keeper", "namespace": "kube-system"},
        "spec": {"hostNetwork": True, "volumes": volumes, "containers": [container]},
    }


def test_who_runs_with_the_old_file_is_named_until_restarted(node):
    node.shorten_waits()
    node.make_due(20, "admin.conf")
    node.write("/etc/kubernetes/manifests/keeper.yaml", json.dumps(keeper()), 0o600)
    node.boot()
    wait_until("the keeper runs", 60, lambda: node.containers("keeper"))
    containers = [node.containers(name) for name in NAMES]

    node.systemctl("start", "certwarden")
    node.wait_for_state("verified", 200)
    assert [node.containers(name) for name in NAMES] == containers
    (finding,) = node.findings("admin.conf")
    figure(finding["message"])
    assert finding["id"] == OLD
    assert "kube-system/keeper-node/keeper" in finding["message"]
    assert "crictl" in finding["message"]

    node.systemctl("restart", "certwarden")
    node.wait_for_message("certwarden", "keeper started at", 60)
    metrics = node.run("cat", "/run/certwarden/metrics.prom").out.splitlines()
    (series,) = [line for line in metrics if OLD in line and "admin.conf" in line]
    assert series.split()[-1] == "1"

    node.kill_containers("keeper")
    wait_until("another container", 90, lambda: node.containers("keeper") not in (set(), containers[-1]))
    assert node.findings("admin.conf") == []
