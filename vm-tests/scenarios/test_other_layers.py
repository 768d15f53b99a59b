"""Breaks: certificates in Secrets, bundles and a Certificate, an endpoint that keeps its old one, rights. About 100 s.

Secrets that have expired or hold rubbish, a cert-manager Certificate that is not ready, an APIService whose CA has
expired, an endpoint that serves its old certificate after its Secret was renewed, the rule for Secrets taken away, the
API server away. `certwarden watch` runs as its own user, with a token of least rights. Must hold: series and findings
come and go with the objects; no key is in what it writes or logs, and none it could change; what was known stays while
the API server is away, and is followed again afterwards.
"""

import base64
import json
import re
import shutil
import time
from pathlib import Path

import pytest

from lib.command import figure, run
from lib.faults import bring_api_server_back, take_api_server_away
from lib.machine import REPOSITORY
from lib.metrics import values
from lib.waiting import wait_until

PLACE = "/root/w"
PROBE = """[[probe]]
name = "shop"
address = "127.0.0.1:8443"
server-name = "shop"
ca = "/etc/ssl/shop-ca.pem"
secret = "default/shop"
interval = "10s"
"""
ACCOUNT = "system:serviceaccount:kube-system:certwarden-watch"
UNIT = "certwarden-watch"


def make_certificates(place: Path) -> None:
    """A CA, and three certificates of it for one shop: the old one, the new one, and one that has expired."""
    new_key = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
    ca = ["-x509", "-keyout", f"{place}/ca.key", "-out", f"{place}/ca.crt", "-subj", "/CN=issuer", "-days", "400"]
    run([*new_key, *ca], "make a CA")
    (place / "extensions").write_text("subjectAltName=DNS:shop\n")
    for name, days in (("old", 90), ("new", 90), ("past", -1)):
        asked = run([*new_key, "-keyout", f"{place}/{name}.key", "-subj", "/CN=shop"], f"request {name}").out
        signer = ["-CA", f"{place}/ca.crt", "-CAkey", f"{place}/ca.key", "-CAcreateserial", "-days", str(days)]
        out = ["-out", f"{place}/{name}.crt", "-extfile", f"{place}/extensions"]
        run(["openssl", "x509", "-req", *signer, *out], f"sign {name}", stdin=asked)


@pytest.fixture(scope="module", autouse=True)
def watched_node(node):
    place = node.path(PLACE)
    place.mkdir()
    for name in ("kubernetes/watch.yaml", "watch-kubeconfig"):
        shutil.copy(REPOSITORY / "packaging" / name, place)
    make_certificates(place)
    node.write("/etc/ssl/shop-ca.pem", (place / "ca.crt").read_text())
    node.configure("30-probe.toml", PROBE)
    node.boot()


def page(node) -> str:
    return node.run("cat", "/run/certwarden-watch/metrics.prom").out


def has(node, series: str, value: float | None = None, /, **labels: str) -> bool:
    """Whether there is such a series, with this value."""
    found = values(page(node), series, **labels)
    return found != [] if value is None else value in found


def wait_for_series(node, what: str, seconds: float, series: str, value: float | None = None, /, **labels: str) -> None:
    wait_until(what, seconds, lambda: has(node, series, value, **labels))


def serve(node, unit: str, pair: str) -> None:
    """An endpoint that serves this certificate."""
    files = ("-cert", f"{PLACE}/{pair}.crt", "-key", f"{PLACE}/{pair}.key")
    server = ("openssl", "s_server", "-accept", "8443", *files, "-quiet")
    node.run("systemd-run", "-q", f"--unit={unit}", "-p", "StandardInput=null", *server)


def make_secret(node, name: str, pair: str) -> None:
    """A Secret with this certificate, or another one in a Secret that is there."""
    files = (f"--cert={PLACE}/{pair}.crt", f"--key={PLACE}/{pair}.key")
    secret = node.kubectl("create", "secret", "tls", name, *files, "--dry-run=client", "-o", "yaml")
    node.kubectl("apply", "-f", "-", stdin=secret)


def apply(node, value: dict) -> None:
    node.kubectl("apply", "-f", "-", stdin=json.dumps(value))


def test_it_is_given_a_credential_of_least_rights(node):
    node.kubectl("apply", "-f", f"{PLACE}/watch.yaml")
    token = ("-n", "kube-system", "get", "secret", "certwarden-watch", "-o", "jsonpath={.data.token}")
    wait_until("a token", 30, lambda: node.kubectl(*token))
    node.run("sh", f"{PLACE}/watch-kubeconfig")
    credential = node.path("/etc/certwarden/watch.kubeconfig").stat()
    assert (credential.st_uid, credential.st_mode & 0o777) == (0, 0o600)


def test_secrets_and_what_clients_see_are_series(node):
    make_secret(node, "shop", "old")
    rubbish = ("--from-literal=tls.crt=rubbish", "--from-literal=tls.key=rubbish")
    node.kubectl("create", "secret", "generic", "bad", "--type=kubernetes.io/tls", *rubbish)
    serve(node, "shop", "old")
    node.systemctl("start", UNIT)
    shop = {"secret_namespace": "default", "secret_name": "shop", "secret_key": "tls.crt", "issuer_CN": "issuer"}
    wait_for_series(node, "the Secret's series", 40, "x509_cert_not_after", **shop)
    wait_for_series(node, "rubbish found", 10, "x509_cert_error", 1, secret_name="bad", secret_key="tls.crt")
    wait_for_series(node, "what clients see", 30, "certwarden_probe_trusted", 1, probe="shop")
    assert has(node, "certwarden_probe_drift", 0, probe="shop")


def test_an_endpoint_that_keeps_its_old_certificate_is_found(node):
    make_secret(node, "shop", "new")
    wait_for_series(node, "the endpoint's drift", 30, "certwarden_probe_drift", 1, probe="shop")
    node.kubectl("delete", "secret", "bad")
    make_secret(node, "past", "past")
    bundle = base64.b64encode((node.path(PLACE) / "past.crt").read_bytes()).decode()
    service = {"name": "x", "namespace": "default"}
    spec = {"group": "lab.io", "version": "v1", "groupPriorityMinimum": 9, "versionPriority": 9}
    spec |= {"service": service, "caBundle": bundle}
    kind = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.lab.io"}}
    apply(node, {**kind, "spec": spec})
    labels = {"cabundle_resource_kind": "APIService", "cabundle_resource_name": "v1.lab.io"}
    wait_for_series(node, "its bundle", 30, "x509_cert_not_after", **labels)
    wait_until("the deleted one gone", 30, lambda: not has(node, "x509_cert_error", secret_name="bad"))

    diagnosis = node.certwarden("diagnose", "layers", "-o", "json")
    assert diagnosis.code == 2
    (playbook,) = diagnosis.json["playbooks"]
    assert [c["id"] for c in (playbook["root_cause"], *playbook["also"])] == ["layer-expiring", "probe-drift"]
    assert len(playbook["root_cause"]["evidence"]) == 2, "the Secret and the bundle that have expired"
    figure(playbook["also"][0]["evidence"][0])

    node.systemctl("stop", "shop")
    serve(node, "shop2", "new")
    wait_for_series(node, "the endpoint with the new one", 40, "certwarden_probe_drift", 0, probe="shop")


def test_a_certificate_of_cert_manager_that_is_not_ready_is_a_series(node):
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    names = {"kind": "Certificate", "plural": "certificates"}
    spec = {"group": "cert-manager.io", "scope": "Namespaced", "names": names, "versions": versions}
    metadata = {"name": "certificates.cert-manager.io"}
    kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    apply(node, {**kind, "metadata": metadata, "spec": spec})
    condition = {"type": "Ready", "status": "False", "message": "no issuer"}
    certificate = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": "shop", "namespace": "default"},
        "status": {"conditions": [condition]},
    }

    def made() -> bool:
        apply(node, certificate)
        return True

    wait_until("a Certificate can be made", 30, made)
    node.systemctl("restart", UNIT)  # or five minutes later
    labels = {"namespace": "default", "name": "shop"}
    wait_for_series(node, "not ready", 40, "certwarden_certmanager_certificate_ready", 0, **labels)


def test_without_an_api_server_what_was_known_stays_and_is_followed_again(node):
    take_api_server_away(node)
    wait_for_series(node, "that the API server is away", 90, "certwarden_watch_up", 0, resource="secrets")
    assert has(node, "x509_cert_not_after", secret_name="shop")
    diagnosis = node.certwarden("diagnose", "layers", "-o", "json").json
    objects = [step for step in diagnosis["playbooks"][0]["steps"] if step["id"] == "objects"]
    assert [step["verdict"] for step in objects] == ["unknown"]

    bring_api_server_back(node)
    began = time.monotonic()
    node.wait_healthy("with the API server back", 120)
    make_secret(node, "later", "new")
    wait_for_series(node, "a new Secret followed", 200, "x509_cert_not_after", secret_name="later")
    figure(f"followed again {time.monotonic() - began:.0f} s after the manifest was back")


def test_without_the_right_to_secrets_the_others_go_on(node):
    role = json.loads(node.kubectl("get", "clusterrole", UNIT, "-o", "json"))
    role["rules"] = [rule for rule in role["rules"] if rule.get("resources") != ["secrets"]]
    node.kubectl("replace", "-f", "-", stdin=json.dumps(role))
    node.systemctl("restart", UNIT)
    wait_for_series(node, "Secrets refused", 40, "certwarden_watch_up", 0, resource="secrets")
    wait_for_series(node, "the others go on", 30, "certwarden_watch_up", 1, resource="apiservices")
    refusals = [m for m in node.messages(UNIT) if "api/v1/secrets cannot be followed" in m and "403" in m]
    assert refusals


def test_it_has_no_key_no_capability_and_no_right_but_to_read(node):
    listed = node.kubectl("auth", "can-i", "--list", "--no-headers", f"--as={ACCOUNT}").splitlines()
    verbs = {re.search(r"\[([a-z ]*)\]$", row.strip())[1] for row in listed if not row.startswith("selfsubject")}
    assert verbs <= {"get", "list watch"}

    said = page(node) + node.run("cat", "/run/certwarden-watch/watch.json").out
    said += node.run("journalctl", "-u", UNIT, "-o", "export").out
    key = node.read(f"{PLACE}/new.key").splitlines()[2]
    assert "PRIVATE KEY" not in said
    assert key[:40] not in said

    status = node.run("cat", f"/proc/{node.property(UNIT, 'MainPID')}/status").out
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    figure(" ".join(re.search(r"^RssAnon:.*$", status, re.MULTILINE)[0].split()))
    assert node.failed_units() == []
