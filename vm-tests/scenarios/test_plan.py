"""Breaks nothing: what renew would do, and why, before anything is touched. About 4 s.

Must hold: nothing is to be done on a fresh node; with --all each step has a reason, and controller manager, scheduler
and kubelet are among what is restarted; no transaction is begun.
"""

import pytest

from lib.command import figure

pytestmark = pytest.mark.readonly


def test_nothing_is_to_be_done_on_a_fresh_node(node):
    before = node.transactions.count()
    plan = node.certwarden("plan", "-o", "json")
    assert (plan.code, plan.json["schema"]) == (0, "certwarden.plan/v1")
    assert plan.json["steps"] == []
    assert node.transactions.count() == before


def test_with_all_each_step_has_a_reason_and_the_clients_are_restarted(node):
    before = node.transactions.count()
    assert node.certwarden("plan", "--all").code == 0
    plan = node.certwarden("plan", "--all", "-o", "json")
    assert plan.code == 0
    steps = plan.json["steps"]
    assert len(steps) >= 3
    assert [step for step in steps if not step.get("reason")] == []
    for component in ("kube-controller-manager", "kube-scheduler", "kubelet"):
        assert [step for step in steps if component in str(step)], component
    assert node.transactions.count() == before
    figure(f"--all: {len(steps)} steps: {' '.join(sorted({step['step'] for step in steps}))}")
