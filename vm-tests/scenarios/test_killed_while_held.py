"""Breaks: `renew` by hand is killed while it holds the kubelet for the exchange of its link. About 230 s.

No daemon runs. Must hold: systemd runs the recovery within three minutes: the kubelet runs, its link is the old one or
the new one, the node is Ready, nobody has to look into it, and the timer is gone.
"""

import time

from lib.command import figure
from lib.node import now
from lib.waiting import wait_until

TIMER = "certwarden-kubelet-held.timer"


def test_systemd_ends_what_a_killed_renewal_left(node):
    node.shorten_waits()
    node.make_due(20, "kubelet", "pki/apiserver.crt")
    node.replace("/var/lib/kubelet/config.yaml", "rotateCertificates: true", "rotateCertificates: false")
    node.boot()
    link = node.files.kubelet_file
    renewal = node.begin_certwarden("renew", "kubelet-client", "apiserver", slow_renames=0.7)

    def held() -> bool:
        return node.transactions.state == "committing" and node.property("kubelet", "ActiveState") == "inactive"

    wait_until("the kubelet is held", 200, held, during=renewal)
    # certwarden first: without its tracer its renames fail at once (ENOSYS, seccomp(2)), and it begins a rollback
    node.run("pkill", "-KILL", "-x", "certwarden.*", check=False)
    node.run("pkill", "-KILL", "-x", "strace", check=False)
    renewal.wait()
    assert node.property("kubelet", "ActiveState") == "inactive"
    assert node.transactions.state == "committing"
    assert node.active(TIMER)

    since, began = now(), time.monotonic()
    wait_until("the kubelet runs again", 240, lambda: node.active("kubelet"))
    figure(f"the kubelet ran again after {time.monotonic() - began:.0f} s")
    node.wait_ready("again", since, 90)
    node.wait_for_end(120)
    which = "old" if node.files.kubelet_file == link else "new"
    figure(f"{' '.join(node.transactions.states())}; the link is the {which} one")
    assert node.transactions.state in ("verified", "rolled-back")
    node.files.assert_keys_match()
    assert not node.transactions.observe_only()
    wait_until("the timer is gone", 90, lambda: not node.active(TIMER))
    assert node.certwarden("renew", "front-proxy-client").code == 0
