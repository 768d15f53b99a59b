"""Certificates and keys as values."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import Certificate, ExtensionNotFound
from cryptography.x509.oid import ExtensionOID

PURPOSES = (
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
)


def certificate(pem: bytes) -> Certificate:
    """The first certificate in a PEM file."""
    return x509.load_pem_x509_certificate(pem)


def certificates(pem: bytes) -> list[Certificate]:
    """Every certificate in a PEM file."""
    end = b"-----END CERTIFICATE-----\n"
    return [certificate(part + end) for part in pem.split(end) if b"BEGIN CERTIFICATE" in part]


def private_key(pem: bytes) -> Any:
    """The private key in a PEM file, which may hold certificates before it."""
    start = pem.index(b"-----BEGIN", pem.rindex(b"END CERTIFICATE-----")) if b"END CERTIFICATE" in pem else 0
    return load_pem_private_key(pem[start:], None)


def public_bytes(of: Any) -> bytes:
    """The public key of a certificate or a private key, as its DER."""
    return of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def belong_together(cert: Certificate, key: Any) -> bool:
    """Whether this key is the certificate's."""
    return public_bytes(cert) == public_bytes(key)


def serial(text: str) -> int:
    """A serial number as certwarden writes it: hexadecimal digits, with or without colons."""
    return int(text.replace(":", ""), 16)


def end(cert: Certificate) -> datetime:
    return cert.not_valid_after.replace(tzinfo=UTC)


def start(cert: Certificate) -> datetime:
    return cert.not_valid_before.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Identity:
    """Whom a certificate names, who issued it, and for which purposes: what a renewal must not change."""

    subject: str
    issuer: str
    purposes: tuple[tuple[str, bool, str], ...]


def identity(cert: Certificate) -> Identity:
    found = []
    for oid in PURPOSES:
        try:
            extension = cert.extensions.get_extension_for_oid(oid)
        except ExtensionNotFound:
            continue
        found.append((oid._name, extension.critical, repr(extension.value)))
    return Identity(cert.subject.rfc4514_string(), cert.issuer.rfc4514_string(), tuple(found))
