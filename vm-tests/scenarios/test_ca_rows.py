"""Breaks: CA keys are elsewhere; a CA ends in 100 days; it has expired; and leaves end in 20 days. About 60 s.

Must hold: the daemon and `renew` say exactly what is needed, `check` warns half a year ahead, and not one byte is
touched.
"""

import shutil

import pytest
from cryptography.x509 import DNSName, SubjectAlternativeName

from lib import x509
from lib.command import figure, run
from lib.files import entry_name
from lib.node import now

CAS = ("ca", "front-proxy-ca", "etcd/ca")


@pytest.fixture(scope="module", autouse=True)
def running_node(node):
    node.make_due(20)
    node.shorten_waits()
    node.boot()


@pytest.fixture(autouse=True)
def nothing_is_touched(node, what_is_wrong):
    content = node.files.content()
    yield
    assert node.files.content() == content
    assert node.transactions.count() == 0


def daemon_says(node, *words: str) -> None:
    """It looks, says this, and does not act."""
    since = f"--since=@{now():.0f}"
    node.systemctl("start", "certwarden")
    for word in words:
        node.wait_for_message("certwarden", word, 60, since)
    node.systemctl("stop", "certwarden")


def sign_ca_again(node, days: int) -> None:
    """The same CA, with so many days left."""
    pki = node.files.kubernetes / "pki"
    copy = node.tree.with_name(f"{node.name}.ca")
    shutil.copy(pki / "ca.crt", copy)
    command = ["openssl", "x509", "-in", str(copy), "-signkey", str(pki / "ca.key"), "-days", str(days)]
    node.overwrite("/etc/kubernetes/pki/ca.crt", run(command, "sign the CA again").out.encode())


class TestKeysElsewhere:
    @pytest.fixture
    def what_is_wrong(self, node):
        for ca in CAS:
            aside = node.path(f"/root/away/{ca}.key")
            aside.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(node.files.kubernetes / f"pki/{ca}.key", aside)
        yield
        for ca in CAS:
            shutil.move(node.path(f"/root/away/{ca}.key"), node.files.kubernetes / f"pki/{ca}.key")

    def test_it_is_said_what_to_have_signed_and_where_to_put_it(self, node):
        refused = node.certwarden("renew", "--all", "-o", "json")
        assert refused.code == 1
        needs = {skipped["name"]: skipped["needed"] for skipped in refused.json["left_out"] if skipped.get("needed")}
        assert set(needs) == {entry_name(leaf) for leaf in node.files.leaves}

        server = node.files.certificate("pki/apiserver.crt").extensions.get_extension_for_class(SubjectAlternativeName)
        for name in server.value:
            kind = "DNS" if isinstance(name, DNSName) else "IP"
            assert f"{kind}:{name.value}" in needs["apiserver"]
        assert "serverAuth" in needs["apiserver"]
        assert "put it to /etc/kubernetes/pki/apiserver.crt" in needs["apiserver"]
        figure(f"apiserver needs {needs['apiserver']}")
        for attribute in x509.identity(node.files.certificate("admin.conf")).subject.split(","):
            assert attribute in needs["admin.conf"]
        assert "put it into /etc/kubernetes/admin.conf" in needs["admin.conf"]
        daemon_says(node, "the key of ca is not on this node")


class TestCaThatEnds:
    @pytest.fixture
    def what_is_wrong(self, node):
        node.make_due(60)
        sign_ca_again(node, 100)

    def test_check_warns_half_a_year_ahead(self, node):
        assert node.certwarden("check").code == 1
        (finding,) = node.findings("ca")
        assert finding["id"] == "expiring"
        figure(finding["message"])


class TestCaThatHasExpired:
    @pytest.fixture
    def what_is_wrong(self, node):
        node.make_due(20)
        sign_ca_again(node, -1)

    def test_nothing_is_signed_with_it(self, node):
        assert node.certwarden("check").code == 2
        refused = node.certwarden("renew", "apiserver", "-o", "json")
        assert (refused.code, refused.json["outcome"]) == (1, "refused")
        (refusal,) = [r for r in refused.json["refusals"] if r["gate"] == "ca"]
        assert "the CA ca has expired" in refusal["reason"]
        assert "rotate the CA first" in refusal["remedy"]
        figure(f"{refusal['reason']}; {refusal['remedy']}")
        daemon_says(node, "ca: it expired at")
