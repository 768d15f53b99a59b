"""Breaks nothing: `rollback` after a renewal that went well. About 140 s.

Must hold: the old set is back byte for byte, in a transaction of its own that is verified; it is served again, and the
node is Ready; exit code 0; `history` knows both.
"""

import time

from lib.command import figure
from lib.node import now


def test_a_rollback_restores_every_byte_and_the_old_set_is_served(node):
    node.shorten_waits()
    node.boot()
    content, serials = node.files.content(), node.files.serials()
    assert node.certwarden("renew", "--all", "-o", "json").code == 0
    node.files.assert_all_renewed(serials)

    since, began = now(), time.monotonic()
    assert node.certwarden("rollback").code == 0
    figure(f"rollback: {time.monotonic() - began:.0f} s")
    assert node.files.content() == content
    node.wait_served("after the rollback", 60)
    assert node.ready(since)
    assert node.certwarden("history").code == 0
    assert [t.state for t in node.transactions.all()] == ["verified", "verified"]
