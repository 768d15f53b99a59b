"""Breaks: settings, and the life of the package on Debian 13 (systemd 257): upgrade, downgrade, removal. About 110 s.

It is installed before there is a node; enabled; the node is made under the running daemon; bad settings; the timer; an
upgrade in an open transaction; a downgrade; remove; purge. Must hold: disabled until enabled; exposure at most 2.8;
nothing is renewed or cut, edits are kept; removal leaves the node, purging leaves nothing.
"""

import pytest

from lib import life


@pytest.fixture(scope="module")
def machine(plain):
    return plain(13)


def test_it_is_installed_and_does_nothing(machine):
    life.is_installed_and_does_nothing(machine)
    life.is_little_exposed(machine)


def test_enabled_it_sees_the_node_being_made(machine):
    life.sees_the_node_being_made(machine, directory_is_there=True)


def test_without_the_daemon_a_timer_checks(machine):
    life.has_a_timer_for_people_without_the_daemon(machine)


def test_bad_settings_are_refused(machine):
    life.refuses_bad_settings(machine)


def test_it_is_upgraded_in_an_open_transaction_and_downgraded(machine):
    life.is_upgraded_in_an_open_transaction_and_downgraded(machine)


def test_it_is_removed_and_purged(machine):
    life.is_removed_and_purged(machine)
