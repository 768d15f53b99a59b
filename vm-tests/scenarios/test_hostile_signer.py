"""Breaks: a worker asks a real API server for its kubelet's next certificate, and is answered badly. About 170 s.

Nobody approves; it is denied; approved and never issued; answered with another key, a shorter life, another node's
name; then the API server stands still after the request was filed. Must hold: nothing live changes, the reason is one
sentence, exit code 1; the next renewal files no other request before its time; what may still be answered is found
again: the last one is, and the node is Ready with it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from cryptography.x509.oid import NameOID

from lib.command import Result, figure
from lib.node import now
from lib.waiting import wait_until
from lib.worker import Worker, heartbeat_age, let_kubelet_rotate, make_kubelet_due

MANAGER = "/etc/kubernetes/manifests/kube-controller-manager.yaml"


def be_patient(node, time: str) -> None:
    node.configure("30-patience.toml", f'[kubelet]\nrequest-timeout = "{time}"\n')


@pytest.fixture(scope="module")
def worker(node) -> Worker:
    node.shorten_waits()
    be_patient(node, "5s")
    make_kubelet_due(node)
    let_kubelet_rotate(node, False)
    worker = Worker(node)
    node.replace(MANAGER, "--controllers=*,", "--controllers=*,-csrapproving,-csrsigning,")
    node.boot()
    return worker


@pytest.fixture(scope="module")
def content(worker):
    return worker.content()


def assert_refused(worker: Worker, content, result: Result, reason: str) -> None:
    """It changed nothing, and says why."""
    assert result.code == 1
    assert reason in result.json["reason"]
    assert "\n" not in result.json["reason"]
    assert worker.content() == content


@dataclass(frozen=True)
class Answer:
    """What somebody answers, what certwarden says of it, and what it says the next time."""

    name: str
    given: Callable[[Worker, str], None]
    reason: str
    later: str
    lingers: bool = False  # the controller manager deletes it after an hour

    def __str__(self) -> str:
        return self.name


NOT_BEFORE = "came to nothing: the next is filed after"
ANSWERS = [
    Answer("denied", Worker.deny, "was denied: KubectlDeny", "was denied: the next is filed after"),
    Answer("never issued", Worker.approve, "nothing was issued within 5s", "nothing was issued", lingers=True),
    Answer("another key", lambda w, r: w.issue(r, another_key=True), "what was issued is for another key", NOT_BEFORE),
    Answer("a shorter life", lambda w, r: w.issue(r, days=30), "and the one it replaces lived", NOT_BEFORE),
    Answer("another name", lambda w, r: w.issue(r, node="another"), "CN=system:node:another", NOT_BEFORE),
]


def test_a_request_that_nobody_approves_is_filed_once(worker, content):
    for _ in range(2):
        result = worker.certwarden("renew", "-o", "json")
        assert_refused(worker, content, result, "nobody approved request certwarden-node-")
        assert len(worker.requests()) == 1
    figure(f"never approved: {result.json['reason']}")
    worker.delete(worker.newest())  # as the controller manager does after a day


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_a_bad_answer_changes_nothing(worker, content, answer):
    before = len(worker.requests())
    result = worker.certwarden("renew", "kubelet-client", "-o", "json")
    assert_refused(worker, content, result, "nobody approved request certwarden-node-")
    answer.given(worker, worker.newest())
    result = worker.certwarden("renew", "-o", "json")
    assert_refused(worker, content, result, answer.reason)
    figure(f"{answer}: {result.json['reason']}")
    assert_refused(worker, content, worker.certwarden("renew", "-o", "json"), answer.later)
    assert len(worker.requests()) == before + 1
    if answer.lingers:
        worker.delete(worker.newest())


def test_it_is_still_found_to_be_due(worker):
    assert worker.problems() == ["rotation-off", "expiring"]


def test_what_is_answered_at_last_is_found_again(node, worker, content):
    before = len(worker.requests())
    be_patient(node, "20s")
    renewal = worker.begin_certwarden("renew", "kubelet-client", "-o", "json")
    wait_until("a request", 15, lambda: len(worker.requests()) == before + 1, during=renewal)
    node.run("pkill", "-STOP", "-x", "kube-apiserver")
    try:
        hung = renewal.wait()
    finally:
        node.run("pkill", "-CONT", "-x", "kube-apiserver")
    assert_refused(worker, content, hung, "is filed, and what became of it cannot be told")
    figure(f"API server hangs: {hung.json['reason']}")
    node.wait_healthy("with the API server answering")

    worker.issue(worker.newest())
    since = now()
    renewed = worker.certwarden("renew", "-o", "json")
    assert (renewed.code, renewed.json["outcome"]) == (0, "verified")
    assert len(worker.requests()) == before + 1
    node.wait_ready("with what was answered", since)
    figure(f"answered at last: the same request, Ready by a heartbeat {heartbeat_age(node, since)} after renew began")
    subject = node.files.kubelet_certificate().subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:node"
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"
    assert not node.path("/var/lib/certwarden/request.pem").exists(), "its key is not kept"
