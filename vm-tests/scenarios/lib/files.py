"""The files under test in a node's tree: /etc/kubernetes with its certificates and kubeconfigs, the kubelet's pki."""

import base64
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Any

from cryptography.x509 import Certificate

from . import x509

CERTIFICATES = (
    "pki/apiserver.crt",
    "pki/apiserver-etcd-client.crt",
    "pki/apiserver-kubelet-client.crt",
    "pki/front-proxy-client.crt",
    "pki/etcd/server.crt",
    "pki/etcd/peer.crt",
    "pki/etcd/healthcheck-client.crt",
)
KUBECONFIGS = ("admin.conf", "controller-manager.conf", "scheduler.conf", "super-admin.conf")

Picture = dict[str, tuple[Any, ...]]


def entry_name(leaf: str) -> str:
    """What certwarden calls the certificate in this file: etcd-server for pki/etcd/server.crt."""
    return leaf.removeprefix("pki/").removesuffix(".crt").replace("/", "-")


def field(kubeconfig: str, name: str) -> str:
    """A field of a kubeconfig as kubeadm writes it."""
    found = re.search(rf"^\s*{name}: *(\S+)$", kubeconfig, re.MULTILINE)
    assert found, f"no {name} in {kubeconfig}"
    return found[1]


def set_field(kubeconfig: str, name: str, value: str) -> str:
    """The kubeconfig with another value in this field."""
    return re.sub(rf"^(\s*{name}:) .*$", lambda m: f"{m[1]} {value}", kubeconfig, flags=re.MULTILINE)


class Files:
    """What is on the disk. Certificates are named by their paths below /etc/kubernetes."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.kubernetes = tree / "etc/kubernetes"
        self.kubelet_pki = tree / "var/lib/kubelet/pki"

    @property
    def kubeconfigs(self) -> list[str]:
        """Those that are there beside the kubelet's: three, and super-admin.conf where kubeadm makes it."""
        return [name for name in KUBECONFIGS if (self.kubernetes / name).exists()]

    @property
    def leaves(self) -> list[str]:
        """What `kubeadm certs renew all` renews here."""
        return [*CERTIFICATES, *self.kubeconfigs]

    def certificate(self, name: str) -> Certificate:
        """The certificate in this file, or of the user of this kubeconfig."""
        return x509.certificate(self._part(name, "certificate"))

    def private_key(self, name: str) -> Any:
        """The key that belongs to that certificate."""
        return x509.private_key(self._part(name, "key"))

    def _part(self, name: str, which: str) -> bytes:
        path = self.kubernetes / name
        if name.endswith(".conf"):
            return base64.b64decode(field(path.read_text(), f"client-{which}-data"))
        return (path if which == "certificate" else path.with_suffix(".key")).read_bytes()

    def serial(self, name: str) -> int:
        return self.certificate(name).serial_number

    def serials(self) -> dict[str, int]:
        return {name: self.serial(name) for name in self.leaves}

    def identities(self) -> dict[str, x509.Identity]:
        return {name: x509.identity(self.certificate(name)) for name in self.leaves}

    def renewed_since(self, serials: dict[str, int]) -> set[str]:
        """Which leaves have another serial than then."""
        return {name for name, old in serials.items() if self.serial(name) != old}

    def assert_all_renewed(self, serials: dict[str, int]) -> None:
        assert self.renewed_since(serials) == set(serials)

    def assert_old_or_new(self, serials: dict[str, int]) -> None:
        """One set: every leaf is new, or none is."""
        assert self.renewed_since(serials) in (set(), set(serials))

    def assert_keys_match(self) -> None:
        """Every key belongs to its certificate."""
        assert [n for n in self.leaves if not x509.belong_together(self.certificate(n), self.private_key(n))] == []

    # --- the kubelet's identity

    @property
    def kubelet_link(self) -> Path:
        return self.kubelet_pki / "kubelet-client-current.pem"

    @property
    def kubelet_file(self) -> Path:
        """Where the kubelet's link leads to, as a path here."""
        return self.tree / os.readlink(self.kubelet_link).lstrip("/")

    def kubelet_certificate(self) -> Certificate:
        return x509.certificate(self.kubelet_file.read_bytes())

    # --- all of it, to be compared

    def names(self) -> Picture:
        """Each file's type, mode, owner, group and link: nothing is left over, modes and owners are as they were."""
        return {path: facts[:5] for path, facts in self._walk()}

    def content(self) -> Picture:
        """Names, and what is in the files."""
        return {path: facts[:6] for path, facts in self._walk()}

    def picture(self) -> Picture:
        """Content, and inodes, links and times: not one byte or timestamp has changed."""
        return dict(self._walk())

    def new_files(self, content: Picture) -> int:
        """How many files hold something else than then; temporary ones do not count."""
        now = self.content()
        return sum(f[0] == "-" and content.get(p) != f and "/." not in p for p, f in now.items())

    def temporary(self) -> list[str]:
        """Hidden files that a renewal left behind."""
        return [path for path, facts in self._walk() if facts[0] == "-" and "/." in path]

    def _walk(self) -> list[tuple[str, tuple[Any, ...]]]:
        found = []
        for top in (self.kubernetes, self.kubelet_pki):
            for path in [top, *sorted(top.rglob("*"))]:
                try:
                    found.append((str(path.relative_to(self.tree)), _facts(path)))
                except FileNotFoundError:  # a renewal is running, and this was a temporary file
                    continue
        return found


def _facts(path: Path) -> tuple[Any, ...]:
    s = path.lstat()
    link = os.readlink(path) if stat.S_ISLNK(s.st_mode) else ""
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(s.st_mode) else ""
    kind = stat.filemode(s.st_mode)[0]
    names = (kind, oct(stat.S_IMODE(s.st_mode)), s.st_uid, s.st_gid, link)
    return (*names, digest, s.st_ino, s.st_nlink, s.st_mtime_ns, s.st_ctime_ns)
