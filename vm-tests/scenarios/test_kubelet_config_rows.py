"""Breaks: how the kubelet's identity lies there and what kubelet.conf says of it, in eight ways. About 170 s.

Must hold: each is found under its own id and repaired by `renew`, without a new certificate where a good one is there;
the node is Ready again; the seconds of each.
"""

import pytest

from lib import rows
from lib.rows import ADOPT, REFER, Row, repaired

ROWS = [
    Row(rows.older_one_beside_an_empty_one, "empty", ADOPT),
    Row(rows.file_in_the_place_of_the_link, "not-a-symlink", ADOPT),
    Row(rows.kubeconfig_gone, "missing", REFER),
    Row(rows.kubeconfig_is_rubbish, "malformed", REFER),
    Row(rows.kubeconfig_points_nowhere, "points-nowhere", REFER),
    Row(rows.identity_in_the_kubeconfig, "embedded-identity", REFER),
    # the kubelet makes a link of it at its start, if it comes to that first
    Row(rows.identity_in_the_kubeconfig_alone, "embedded-identity", ADOPT + REFER),
    Row(rows.file_where_the_next_link_would_be, "rotation-blocked", ADOPT),
]


@pytest.fixture(scope="module", autouse=True)
def running_node(node):
    node.shorten_waits("4s")
    node.boot()


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_is_found_and_repaired(node, row):
    repaired(node, row)


def test_what_lay_where_the_next_link_would_be_is_gone(node):
    assert node.path(rows.NEXT).is_symlink()
