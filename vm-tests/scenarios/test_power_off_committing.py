"""Breaks: the power goes in the middle of the renames: each is slowed down, and the whole machine killed. About 130 s.

Must hold: at the next boot the set is all old or all new, and keys match, before the kubelet starts; the daemon
finishes the transaction; Ready.
"""

from lib.command import figure
from lib.power import boot_finishes_the_transaction, files_renamed
from lib.waiting import wait_until


def test_the_set_is_whole_again_before_the_kubelet_starts(node):
    node.shorten_waits()
    node.enable_at_boot("certwarden", "certwarden-recover")
    node.boot()
    serials, content = node.files.serials(), node.files.content()
    renewal = node.begin_certwarden("renew", "--all", slow_renames=0.5)
    wait_until("five files renamed", 200, lambda: files_renamed(node, content, 5), during=renewal)
    node.cut_power()
    renewal.wait()

    assert node.transactions.state == "committing"
    renamed, all_files = node.files.new_files(content), len(serials) + len(serials) - len(node.files.kubeconfigs)
    figure(f"power off in committing, {renamed} of {all_files} files new")
    assert renamed < all_files, "too late: all files were new"
    boot_finishes_the_transaction(node, serials, "committing")
