"""The boot after a machine went down in the middle of a transaction, and what must hold then."""

import json

from .command import figure
from .files import Picture
from .machine import REPOSITORY
from .node import Node
from .waiting import wait_until


def monotonic(node: Node, unit: str, word: str) -> int | None:
    """When systemd said this of a unit since the boot, in microseconds; None: it has not."""
    options = ("-b", "--no-pager", "-q", "-o", "json", f"UNIT={unit}")
    lines = node.run("journalctl", *options, check=False).out.splitlines()
    records = [json.loads(line) for line in lines]
    times = [int(r["__MONOTONIC_TIMESTAMP"]) for r in records if str(r["MESSAGE"]).startswith(word)]
    return times[0] if times else None


def boot_finishes_the_transaction(node: Node, serials: dict[str, int], when: str) -> None:
    """Boots the node: the set is consistent before the kubelet starts, and the daemon finishes the transaction."""
    node.start()
    wait_until("the kubelet started", 30, lambda: monotonic(node, "kubelet.service", "Started"))
    kubelet = monotonic(node, "kubelet.service", "Started")
    began = monotonic(node, "certwarden-recover.service", "Starting")
    recovered = monotonic(node, "certwarden-recover.service", "Finished")
    assert recovered is not None
    assert recovered < kubelet
    node.files.assert_keys_match()
    node.files.assert_old_or_new(serials)
    took = (recovered - began) // 1000
    figure(
        f"boot: recovery took {took} ms and ended {(kubelet - recovered) // 1000} ms before the kubelet started; "
        f"{len(node.files.renewed_since(serials))} of {len(serials)} leaves new"
    )
    write_reliability_row(node.name, when, took)

    for message in node.messages("certwarden-recover", "-b"):
        print(message)
    node.wait_ready("after the boot", node.booted_at, 180)
    node.wait_for_end()
    figure(f"then: {' '.join(node.transactions.states())}")
    assert node.transactions.state in ("verified", "rolled-back")
    node.files.assert_keys_match()
    node.files.assert_old_or_new(serials)
    node.wait_ready("in the end", node.booted_at)
    node.wait_served("in the end", 60)
    assert node.files.temporary() == []


def write_reliability_row(name: str, when: str, milliseconds: int) -> None:
    """A line of docs/reliability.md, which `make reliability` makes."""
    what = f"certwarden-recover.service on a real node, power off in {when}"
    rows = [{"section": "boot", "what": what, "note": f"{milliseconds} ms"}]
    directory = REPOSITORY / "target/reliability"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"boot-{name}.json").write_text(json.dumps({"whole": True, "rows": rows}))


def files_renamed(node: Node, content: Picture, count: int) -> bool:
    """Whether a commit is under way and has renamed so many files."""
    return node.transactions.state == "committing" and node.files.new_files(content) >= count
