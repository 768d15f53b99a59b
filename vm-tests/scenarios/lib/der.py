"""DER as a tree of values, for comparing what two programs encode."""

from typing import Any

CONSTRUCTED = 0x20
INTEGER, BIT_STRING, OCTET_STRING = 0x02, 0x03, 0x04
SECRETS = {INTEGER, BIT_STRING, OCTET_STRING}  # where a private key's numbers are


def parse(der: bytes) -> list[tuple[int, Any]]:
    """Tags and contents: a list for what is constructed, bytes else."""
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            octets = length & 0x7F
            length, at = int.from_bytes(der[at : at + octets], "big"), at + octets
        content, at = der[at : at + length], at + length
        found.append((tag, parse(content) if tag & CONSTRUCTED else content))
    return found


def certificate_shape(der: bytes, *, fixed_lengths: bool) -> list[Any]:
    """A certificate but for serial, dates, key and signature: of these the types, and the lengths if they are fixed."""

    def bits(element: tuple[int, bytes]) -> tuple[int, int | None]:
        return element[0], len(element[1]) if fixed_lengths else None

    ((_, (tbs, algorithm, signature)),) = parse(der)
    version, serial, *rest = tbs[1]
    signing, issuer, (_, dates), subject, (_, (key_algorithm, key)), extensions = rest
    types = [serial[0], *(date[0] for date in dates)]
    return [version, types, signing, issuer, subject, key_algorithm, bits(key), extensions, algorithm, bits(signature)]


def key_shape(der: bytes) -> list[Any]:
    """How a private key is encoded, without its numbers."""

    def without(elements: list[tuple[int, Any]]) -> list[Any]:
        return [
            (tag, without(content) if tag & CONSTRUCTED else None if tag in SECRETS else content)
            for tag, content in elements
        ]

    return without(parse(der))
