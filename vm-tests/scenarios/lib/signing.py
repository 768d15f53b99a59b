"""Keys and certificates that scenarios make, with openssl and the node's own CAs."""

import secrets
from pathlib import Path
from tempfile import TemporaryDirectory

from .command import run
from .node import Node

CLIENT = "keyUsage=digitalSignature\nextendedKeyUsage=clientAuth\n"


def new_key() -> str:
    return run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"], "make a key").out


def sign(
    node: Node, subject: str, days: int, *, ca: str = "ca", extensions: str = CLIENT, public_key: str | None = None
) -> tuple[str, str]:
    """A certificate of that CA of the node, for a new key or for this public one, and the new key."""
    with TemporaryDirectory() as directory:
        place, pki = Path(directory), node.files.kubernetes / "pki"
        key = new_key()
        (place / "key").write_text(key)
        public = public_key or run(["openssl", "pkey", "-in", str(place / "key"), "-pubout"], "public key").out
        (place / "pub").write_text(public)
        (place / "extensions").write_text(extensions)
        signer = ["-CA", f"{pki}/{ca}.crt", "-CAkey", f"{pki}/{ca}.key", "-set_serial", f"0x{secrets.token_hex(7)}"]
        asked = ["-force_pubkey", f"{place}/pub", "-subj", subject, "-days", str(days)]
        command = ["openssl", "x509", "-new", *asked, *signer, "-extfile", f"{place}/extensions"]
        return run(command, f"sign {subject}").out, key


def request(subject: str, *options: str) -> str:
    """A request for a certificate, whose key is thrown away."""
    command = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj", subject]
    return run([*command, *options], f"request {subject}").out
