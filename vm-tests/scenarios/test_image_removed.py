"""Breaks: the scheduler's image is removed from the runtime, and no registry answers here. About 90 s.

Must hold: a renewal that would stop its container is refused, with the image's name, before anything is touched; what
does not need it is renewed; with the image imported again it is renewed, in a new container.
"""

import re
import time

from lib.command import figure
from lib.waiting import wait_until

CTR = ("ctr", "-n", "k8s.io")


def test_nothing_is_stopped_that_could_not_be_started_again(node):
    node.shorten_waits()
    node.boot()
    scheduler, content = node.container("kube-scheduler"), node.files.content()
    image = re.search(r"image: (\S+)", node.read("/etc/kubernetes/manifests/kube-scheduler.yaml"))[1]

    def images() -> dict[str, str]:
        """Digests by name."""
        rows = [line.split() for line in node.run(*CTR, "images", "ls").out.splitlines()[1:]]
        return {row[0]: row[2] for row in rows}

    before = images()
    node.run(*CTR, "images", "export", "/root/scheduler.tar", image)
    # by its name, by its digest, and by the id that the runtime gives it: the CRI finds it by each
    names = [name for name, digest in before.items() if digest == before[image]]
    node.run(*CTR, "images", "rm", "--sync", *names)
    wait_until("the image gone", 30, lambda: image not in images())
    assert node.container("kube-scheduler") == scheduler

    refused = node.certwarden("renew", "scheduler.conf", "-o", "json")
    assert (refused.code, refused.json["outcome"]) == (1, "refused")
    (refusal,) = refused.json["refusals"]
    assert refusal["gate"] == "activation"
    assert "kube-system/kube-scheduler-node/kube-scheduler" in refusal["reason"]
    assert image in refusal["reason"]
    assert node.files.content() == content
    assert node.container("kube-scheduler") == scheduler
    figure(f"image removed: {refusal['reason']}")

    assert node.certwarden("renew", "admin.conf").code == 0, "this one needs no container"
    assert node.container("kube-scheduler") == scheduler

    node.run(*CTR, "images", "import", "/root/scheduler.tar")
    wait_until("the image back", 30, lambda: image in images())
    began = time.monotonic()
    renewed = node.certwarden("renew", "scheduler.conf", "-o", "json")
    assert (renewed.code, renewed.json["outcome"]) == (0, "verified")
    assert node.container("kube-scheduler") != scheduler
    (restarted,) = [r for r in renewed.json["restarted"] if r["component"] == "kube-scheduler"]
    assert restarted["new_id"] == node.container("kube-scheduler")
    figure(f"image imported again: renewed in {time.monotonic() - began:.0f} s")
