"""Breaks: powered off until everything had expired, the kubelet's own identity too. About 110 s.

After the boot the kubelet exits and no pod runs. Must hold: the daemon, started by the boot and alone, makes all of
them anew with the CA keys on the disk, and the node is Ready; the kubelet's link stays a link.
"""

import time

from cryptography.x509.oid import NameOID

from lib.command import figure
from lib.node import API_SERVER, now
from lib.waiting import wait_until


def test_the_daemon_alone_brings_back_a_node_that_expired_while_it_was_off(node):
    node.make_due(-1)
    node.make_due(-1, "kubelet")
    node.shorten_waits()
    node.enable_at_boot("certwarden")
    identities, serials, kubelet = node.files.identities(), node.files.serials(), node.files.kubelet_certificate()
    node.start()
    since, began = now(), time.monotonic()
    expired = ("journalctl", "-u", "kubelet", "-q", "-n1", "--grep=client certificate.*expired")
    wait_until("the kubelet refuses to start", 60, lambda: node.succeeds(*expired))

    node.wait_ready("by the daemon alone", since, 240)
    figure(f"Ready {time.monotonic() - began:.0f} s after the boot")
    node.wait_for_end()
    figure(f"verified after {time.monotonic() - began:.0f} s: {' '.join(node.transactions.states())}")
    assert node.transactions.state == "verified"
    node.files.assert_all_renewed(serials)
    assert node.files.identities() == identities
    node.files.assert_keys_match()

    assert node.files.kubelet_link.is_symlink()
    new = node.files.kubelet_certificate()
    assert new.serial_number != kubelet.serial_number
    assert new.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"
    assert new.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:node"
    node.wait_healthy("again", 60)
    assert node.served(API_SERVER) == node.files.serial("pki/apiserver.crt")
    assert node.certwarden("check").code == 0
