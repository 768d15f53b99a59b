"""Breaks: the kubelet's self-signed kubelet.crt ends in 20 days, and a kubelet would serve another. About 170 s.

Then serverTLSBootstrap, first with nobody to approve, then with the approver on. Must hold: 10250 serves the renewed
pair, with the same subject and names, without a restart where the kubelet reads it again by itself; what is not served
is rolled back byte for byte; a pending request is said and none is added; the daemon approves it, refuses strangers'
and says so; 10250 serves what the controller manager signed.
"""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import Certificate
from cryptography.x509.oid import NameOID

from lib import x509
from lib.command import figure, run
from lib.faults import break_kubelet, mend_kubelet
from lib.machine import TESTS
from lib.node import KUBELET, now
from lib.signing import request
from lib.waiting import wait_until

PAIR = "/var/lib/kubelet/pki/kubelet.crt"
SERVING = "kubernetes.io/kubelet-serving"


@pytest.fixture(scope="module", autouse=True)
def running_node(node):
    node.shorten_waits()
    age_the_pair(node)
    node.boot()


def age_the_pair(node) -> None:
    """kubelet.crt as the kubelet made it 345 days ago, with its own CA."""
    name = leaf(node).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    host, made = name.split("@")
    ca = str(node.tree.with_name(f"{node.name}.kubelet-ca"))
    usage = "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "20", "-addext", usage]
    run([*command, "-subj", f"/CN={host}-ca@{made}", "-keyout", f"{ca}.key", "-out", f"{ca}.crt"], "the kubelet's CA")
    pair = node.read(PAIR) + node.read(PAIR.replace(".crt", ".key"))
    again = [str(TESTS / "inside/sign-again"), ca, "345 days ago", "20 days"]
    node.overwrite(PAIR, (run(again, "sign again", stdin=pair).out + Path(f"{ca}.crt").read_text()).encode())


def leaf(node) -> Certificate:
    return x509.certificate(node.path(PAIR).read_bytes())


def names(certificate: Certificate) -> tuple[str, Any]:
    """What a renewal keeps of a self-signed certificate."""
    identity = x509.identity(certificate)
    return identity.subject, [p for p in identity.purposes if p[0] != "keyUsage"]


def test_the_self_signed_pair_is_renewed_and_served(node):
    old = leaf(node)
    assert node.served(KUBELET) == old.serial_number
    assert node.problems("kubelet-serving") == ["expiring"]

    since = now()
    renewed = node.certwarden("renew", "-o", "json")
    assert (renewed.code, renewed.json["outcome"]) == (0, "verified")
    node.wait_leased("with the renewed pair", since)
    reloads = "ReloadKubeletServerCertificateFile" in node.run("kubelet", "--help").text
    assert len(renewed.json["restarted"]) == (0 if reloads else 1)
    figure(f"self-signed: renewed and served in {now() - since:.0f} s, {len(renewed.json['restarted'])} restarts")

    pem = node.path(PAIR).read_bytes()
    assert names(leaf(node)) == names(old)
    assert len(x509.certificates(pem)) == 2
    assert leaf(node).serial_number != old.serial_number
    assert node.served(KUBELET) == leaf(node).serial_number
    place = ("--resolve", "node:10250:127.0.0.1", "-o", "/dev/null", "https://node:10250/healthz")
    node.run("curl", "-sS", "-m", "5", "--cacert", PAIR, *place)


def test_a_pair_that_is_not_served_is_rolled_back(node):
    node.path("/var/lib/other").mkdir()
    for name in ("kubelet.crt", "kubelet.key"):
        node.run("cp", "-a", f"/var/lib/kubelet/pki/{name}", "/var/lib/other/")
    break_kubelet(node, "serves-other", PAIR)
    content, since = node.files.content(), now()
    renewal = node.certwarden("renew", "kubelet-serving", "-o", "json")
    assert (renewal.code, renewal.json["outcome"]) == (2, "rolled-back")
    figure(f"not served: {renewal.json['reason']}")
    assert node.files.content() == content
    node.wait_ready("with the old pair", since)
    mend_kubelet(node)


def serving_requests(node) -> list[dict[str, Any]]:
    return [r for r in node.api.requests() if r["spec"]["signerName"] == SERVING]


def test_a_pending_request_is_said_and_approved_once_the_approver_is_on(node):
    node.append("/var/lib/kubelet/config.yaml", "serverTLSBootstrap: true\n")
    node.restart_kubelet()
    wait_until("the kubelet's request", 90, lambda: serving_requests(node))
    plan = node.certwarden("plan", "-o", "json").json
    skipped = [s for s in plan["skipped"] if s["name"] == "kubelet-serving"]
    assert [s for s in skipped if serving_requests(node)[0]["metadata"]["name"] in s["reason"]]

    node.configure("30-approver.toml", "[approver]\nenabled = true\n")
    node.systemctl("start", "certwarden")
    began = time.monotonic()

    def issued() -> bool:
        return any(r["status"].get("certificate") for r in serving_requests(node))

    def served() -> bool:
        current = node.files.kubelet_pki / "kubelet-server-current.pem"
        if not current.is_symlink():
            return False
        file = node.tree / str(current.readlink()).lstrip("/")
        return node.served(KUBELET) == x509.certificate(file.read_bytes()).serial_number

    wait_until("a request that was approved and signed", 90, issued)
    wait_until("10250 serves it", 60, served)
    figure(f"serverTLSBootstrap: approved, signed and served {time.monotonic() - began:.0f} s after the daemon's start")
    place = ("-o", "/dev/null", "https://10.99.0.2:10250/healthz")
    node.run("curl", "-sS", "-m", "5", "--cacert", "/etc/kubernetes/pki/ca.crt", *place)
    approvals = [r for r in node.journal("certwarden") if r.get("CW_REQUEST")]
    assert approvals


@pytest.mark.parametrize("name", ["node", "another"])
def test_what_an_administrator_asks_for_in_a_nodes_name_is_denied(node, name):
    asked = request(f"/O=system:nodes/CN=system:node:{name}", "-addext", f"subjectAltName=DNS:{name}")
    spec = {
        "signerName": SERVING,
        "usages": ["digital signature", "server auth"],
        "request": base64.b64encode(asked.encode()).decode(),
    }
    kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    node.kubectl("apply", "-f", "-", stdin=json.dumps({**kind, "metadata": {"name": f"bad-{name}"}, "spec": spec}))

    def denied() -> list[str]:
        (found,) = [r for r in serving_requests(node) if r["metadata"]["name"] == f"bad-{name}"]
        return [c["message"] for c in found["status"].get("conditions", []) if c["type"] == "Denied"]

    (message,) = wait_until("a denial", 60, denied)
    assert "which is no node" in message
    figure(f"denied: {message}")


def test_denials_are_counted_and_nothing_is_wrong(node):
    def counted() -> bool:
        metrics = node.run("cat", "/run/certwarden/metrics.prom").out.splitlines()
        return 'certwarden_approver_decisions_total{decision="denied"} 2' in metrics

    wait_until("both denials counted", 90, counted)
    assert node.certwarden("check").code == 0
