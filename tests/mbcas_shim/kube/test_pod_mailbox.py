from dataclasses import replace

import pytest

from mbcas_shim.kube import pod_mailbox
from mbcas_shim.kube.pod_mailbox import PodMailbox
from mbcas_shim.kube.pods import Pod, parse_pod
from tests.mbcas_shim.kube.pod_objects import running_pod


def some(name: str = "web", generation: int = 1) -> Pod:
    return replace(parse_pod(running_pod(name)), generation=generation)


def mailbox() -> PodMailbox:
    return PodMailbox(on_first=lambda: None)


def names(pods: list[Pod] | None) -> list[str] | None:
    return None if pods is None else [pod.name for pod in pods]


def test_of_many_changes_only_the_newest_is_read() -> None:
    box = mailbox()
    for generation in range(1, 100):
        box.put(some(generation=generation))

    (found,) = box.take() or []

    assert found.generation == 99
    assert box.take() is None


def test_what_says_the_same_as_before_is_no_change() -> None:
    box = mailbox()
    box.put(some())
    box.take()

    box.put(some())

    assert box.take() is None


def test_a_pod_that_has_ended_is_not_kept() -> None:
    box = mailbox()
    box.put(some())
    box.put(replace(some(), is_terminal=True))
    ended = replace(some("other"), is_terminal=True)
    box.replace([ended])

    assert box.take() == []


def test_a_list_takes_away_what_is_not_in_it() -> None:
    box = mailbox()
    box.put(some("gone"))

    box.replace([some("web")])

    assert names(box.take()) == ["web"]
    assert box.find("uid-gone") is None


def test_a_pod_whose_newest_state_cannot_be_read_stays_as_it_was() -> None:
    box = mailbox()
    box.put(some("odd"))

    box.replace([some("web")], kept_uids=frozenset({"uid-odd", "uid-never-seen"}))

    assert names(box.take()) == ["odd", "web"]


def test_it_is_told_once_that_the_pods_are_known() -> None:
    told: list[int] = []
    box = PodMailbox(on_first=lambda: told.append(1))

    box.put(some())
    assert told == []
    box.replace([])
    box.replace([])

    assert told == [1]
    assert box.take() == []


def test_there_is_a_bound_to_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_mailbox, "MAX_PODS", 3)
    box = mailbox()
    many = [replace(some(), uid=f"u{number}") for number in range(5)]

    assert box.replace(many) == 2
    assert not box.put(replace(some(), uid="late"))
    assert box.put(replace(many[0], generation=7))
    assert len(box.take() or []) == 3
