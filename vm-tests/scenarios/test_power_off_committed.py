"""Breaks: the power goes when all files are new and services are being restarted. About 130 s.

Must hold: at the next boot the set is consistent before the kubelet starts; the daemon verifies it, or rolls back;
Ready.
"""

from lib.command import figure
from lib.power import boot_finishes_the_transaction


def test_what_was_committed_is_verified_after_the_boot(node):
    node.shorten_waits()
    node.enable_at_boot("certwarden", "certwarden-recover")
    node.boot()
    serials = node.files.serials()
    renewal = node.begin_certwarden("renew", "--all")
    node.wait_for_state("committed", 200, during=renewal)
    node.cut_power()
    renewal.wait()

    assert node.transactions.state == "committed"
    figure(f"power off in committed, {len(node.files.renewed_since(serials))} of {len(serials)} leaves new")
    boot_finishes_the_transaction(node, serials, "committed")
