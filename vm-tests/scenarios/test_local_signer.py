"""Breaks nothing: what certwarden signs with the CA keys, beside what kubeadm renews. About 25 s.

Two trees beside the node's own, with RSA keys as on this node and with ECDSA keys, are renewed by both programs. Must
hold: of each certificate, key and kubeconfig every field is the same but for serial, key, signature and dates; these
are as they should be.
"""

import re
import shutil
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from lib import x509
from lib.command import figure, run
from lib.der import certificate_shape, key_shape
from lib.files import Files, entry_name, field

pytestmark = pytest.mark.readonly

PLACE = "/root/signer"
BACKDATED = 300  # seconds that certwarden and newer kubeadms date a certificate back, for clocks that are late
NEAR = 90  # seconds between the two renewals of one file, on a slow machine


@pytest.mark.parametrize("algorithm", ["RSA", "ECDSA"])
def test_what_certwarden_signs_is_what_kubeadm_signs(node, algorithm):
    place = node.path(f"{PLACE}/{algorithm}")
    shutil.rmtree(place, ignore_errors=True)
    kubeadms, certwardens = place / "kubeadm", place / "certwarden"
    make_tree(node, kubeadms, algorithm)
    run(["cp", "-a", str(kubeadms), str(certwardens)], "copy the tree")

    kubeadm(node, kubeadms, "certs renew")
    # by name: in a tree without the kubelet's own files --all would leave those out, which is exit code 1
    names = [entry_name(leaf) for leaf in Files(certwardens).leaves]
    assert node.certwarden("renew", *names, "--root", f"{PLACE}/{algorithm}/certwarden").code == 0

    kind = RSAPublicKey if algorithm == "RSA" else EllipticCurvePublicKey
    assert isinstance(Files(certwardens).certificate("pki/apiserver.crt").public_key(), kind)
    for leaf in Files(certwardens).leaves:
        assert_the_same(Files(kubeadms), Files(certwardens), leaf, fixed_lengths=algorithm == "RSA")
    version = node.kubernetes_version()
    figure(
        f"kubeadm {version}, {algorithm}: {len(names)} credentials are the same but for serial, key, signature, dates"
    )
    shutil.rmtree(place)


def make_tree(node, tree: Path, algorithm: str) -> None:
    """A copy of the node's /etc/kubernetes with keys of this kind, and kubeadm to be run in it."""
    (tree / "etc").mkdir(parents=True)
    run(["cp", "-a", str(node.files.kubernetes), str(tree / "etc")], "copy /etc/kubernetes")
    shutil.copy(node.path("/usr/bin/kubeadm"), tree / "kubeadm")
    settings = node.read("/root/kubeadm.yaml")
    settings = settings.replace("kubernetesVersion:", f"{key_algorithm(node, algorithm)}\nkubernetesVersion:")
    (tree / "kubeadm.yaml").write_text(settings)
    if algorithm == "ECDSA":
        shutil.rmtree(tree / "etc/kubernetes/pki")
        for kubeconfig in (tree / "etc/kubernetes").glob("*.conf"):
            kubeconfig.unlink()
        # renewed once: by the feature gate `init` gives kubeconfigs RSA keys all the same; certwarden keeps the kind
        for what in ("init phase certs", "init phase kubeconfig", "certs renew"):
            kubeadm(node, tree, what)


def key_algorithm(node, algorithm: str) -> str:
    """The line of a ClusterConfiguration: a field, or a feature gate before there was one."""
    if "encryptionAlgorithm:" in node.run("kubeadm", "config", "print", "init-defaults").out:
        return f"encryptionAlgorithm: {'RSA-2048' if algorithm == 'RSA' else 'ECDSA-P256'}"
    return f"featureGates: {{PublicKeysECDSA: {str(algorithm == 'ECDSA').lower()}}}"


def kubeadm(node, tree: Path, what: str) -> None:
    inside = "/" + str(tree.relative_to(node.tree))
    node.run("chroot", inside, "/kubeadm", *what.split(), "all", "--config", "/kubeadm.yaml")


def ca_of(leaf: str) -> str:
    if "etcd/" in leaf or "etcd-client" in leaf:
        return "pki/etcd/ca.crt"
    return "pki/front-proxy-ca.crt" if "front" in leaf else "pki/ca.crt"


def key_pem(files: Files, leaf: str) -> str:
    path = files.kubernetes / leaf
    if leaf.endswith(".conf"):
        return b64decode(field(path.read_text(), "client-key-data")).decode()
    return path.with_suffix(".key").read_text()


def encoding(files: Files, leaf: str, fixed_lengths: bool) -> dict[str, object]:
    """All of a credential that is not random."""
    path, pem = files.kubernetes / leaf, key_pem(files, leaf)
    text = path.read_text()
    around = re.sub(r"(client-(certificate|key)-data:).*", r"\1", text) if leaf.endswith(".conf") else text[:27]
    owner, der = path.stat(), files.certificate(leaf).public_bytes(Encoding.DER)
    return {
        "certificate": certificate_shape(der, fixed_lengths=fixed_lengths),
        "key": (pem.splitlines()[0], key_shape(b64decode("".join(pem.splitlines()[1:-1])))),
        "around": around,
        "owner": (oct(owner.st_mode), owner.st_uid, owner.st_gid),
    }


def assert_the_same(kubeadms: Files, certwardens: Files, leaf: str, *, fixed_lengths: bool) -> None:
    assert encoding(certwardens, leaf, fixed_lengths) == encoding(kubeadms, leaf, fixed_lengths), leaf
    theirs, ours = kubeadms.certificate(leaf), certwardens.certificate(leaf)
    for files, certificate in ((kubeadms, theirs), (certwardens, ours)):
        assert certificate.serial_number.bit_length() <= 63, leaf
        pem = certificate.public_bytes(Encoding.PEM).decode()
        run(["openssl", "verify", "-CAfile", str(files.kubernetes / ca_of(leaf))], f"verify {leaf}", stdin=pem)
    assert ours.serial_number != theirs.serial_number
    assert x509.public_bytes(ours) != x509.public_bytes(theirs)

    assert abs((x509.end(ours) - x509.end(theirs)).total_seconds()) <= NEAR, leaf
    # some kubeadms take the CA's beginning, which may be years ago; the others go back, and not before the CA's
    ca = x509.start(kubeadms.certificate(ca_of(leaf))).timestamp()
    signed = (certwardens.kubernetes / leaf).stat().st_mtime
    assert abs(x509.start(ours).timestamp() - max(signed - BACKDATED, ca)) <= NEAR, leaf
    start = x509.start(theirs).timestamp()
    assert start == ca or abs(start - x509.start(ours).timestamp()) <= NEAR, leaf
