"""Breaks: the kubelet's file and link in eight ways, one after another, the kubelet restarted with each. About 170 s.

Must hold: each is found under its own id, repaired by `renew` with the CA key of this control plane, and the node is
Ready again; the seconds of each.
"""

import pytest

from lib import rows
from lib.rows import SIGN, Row, repaired

ROWS = [
    Row(rows.dangling, "dangling-symlink", SIGN),
    Row(rows.missing, "missing", SIGN),
    Row(rows.empty, "empty", SIGN),
    Row(rows.cut_off, "malformed", SIGN),
    Row(rows.another_nodes, "wrong-identity", SIGN),
    Row(rows.of_another_ca, "wrong-issuer", SIGN),
    Row(rows.with_another_key, "key-mismatch", SIGN),
    Row(rows.expired, "expired", SIGN),
]


@pytest.fixture(scope="module", autouse=True)
def running_node(node):
    node.shorten_waits("4s")
    node.boot()


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_is_found_and_repaired(node, row):
    repaired(node, row)
