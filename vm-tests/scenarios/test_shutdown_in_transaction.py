"""Breaks: the machine is shut down while the daemon's transaction is committed and not verified yet. About 120 s.

Must hold: the shutdown does not wait for the verification, and nothing is rolled back for it; after the next boot the
daemon verifies, and the node is Ready.
"""

import time

from lib.command import figure
from lib.power import boot_finishes_the_transaction


def test_a_shutdown_is_not_held_up_and_the_next_boot_verifies(node):
    node.make_due(20)
    node.shorten_waits()
    node.enable_at_boot("certwarden-recover")
    node.boot()
    serials = node.files.serials()
    node.enable_at_boot("certwarden")
    node.systemctl("start", "certwarden")
    node.wait_for_state("committed", 300)

    began = time.monotonic()
    node.stop()
    took = time.monotonic() - began
    figure(f"shutdown in committed: {took:.0f} s")
    assert took <= 25
    assert node.transactions.state == "committed"
    node.files.assert_all_renewed(serials)
    boot_finishes_the_transaction(node, serials, "shutdown-in-transaction")
    assert node.transactions.state == "verified"
