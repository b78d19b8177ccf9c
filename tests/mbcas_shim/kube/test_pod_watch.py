from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from mbcas_shim.counters import Counters
from mbcas_shim.kube.api import Answer, KubeApiRefusedError, KubeApiUnreachableError
from mbcas_shim.kube.pod_mailbox import PodMailbox
from mbcas_shim.kube.pod_watch import PodWatch
from tests.mbcas_shim.fakes import VirtualClock
from tests.mbcas_shim.kube.pod_objects import Object, running_pod

Step = Answer | list[Object] | Exception | tuple[list[Object], Exception]


class ScriptedApi:
    """Answers one call after another from a script, and closes the watch at its end."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.queries: list[dict[str, str]] = []
        self.watch: PodWatch | None = None

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        timeout_seconds: float = 10.0,
    ) -> Answer:
        del timeout_seconds
        assert (method, path) == ("GET", "/api/v1/pods")
        step = self._next(query or {})
        assert isinstance(step, Answer), f"listed instead of {step}"
        return step

    def stream(self, path: str, query: Mapping[str, str]) -> "Events":
        assert path == "/api/v1/pods"
        step = self._next(query)
        assert not isinstance(step, Answer), "watched instead of listing"
        events, error = step if isinstance(step, tuple) else (step, None)
        return Events(events, error)

    def _next(self, query: Mapping[str, str]) -> Answer | list[Object] | tuple[Any, Exception]:
        self.queries.append(dict(query))
        if not self.steps:
            assert self.watch is not None
            self.watch.close()
            raise KubeApiUnreachableError("the script is over")
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


class Events:
    def __init__(self, events: list[Object], error: Exception | None) -> None:
        self._events, self._error = events, error

    def __iter__(self) -> Iterator[Object]:
        yield from self._events
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Has nothing to end."""


class Followed:
    """A watch that has run through a script."""

    def __init__(self, *steps: Step) -> None:
        self.api = ScriptedApi(*steps)
        self.slept_seconds: list[float] = []
        self.counters = Counters(VirtualClock())
        self.mailbox = PodMailbox(on_first=lambda: None)
        watch = PodWatch(
            self.api,
            self.mailbox,
            self.counters,
            node_name="node-1",
            uniform=lambda: 0.0,
            sleep=self.slept_seconds.append,
        )
        self.api.watch = watch
        watch.run()

    @property
    def names(self) -> list[str]:
        return sorted(pod.name for pod in self.mailbox.take() or [])

    @property
    def versions(self) -> list[str]:
        """From where it watched, empty for a list."""
        return [query.get("resourceVersion", "") for query in self.api.queries]


def page(*pods: Object, version: str = "7", following: str = "") -> Answer:
    metadata = {"resourceVersion": version} | ({"continue": following} if following else {})
    return Answer(200, {"items": list(pods), "metadata": metadata})


def event(kind: str, pod: Object, version: str = "8") -> Object:
    pod["metadata"]["resourceVersion"] = version
    return {"type": kind, "object": pod}


def bookmark(version: str) -> Object:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}


def gone() -> Object:
    return {"type": "ERROR", "object": {"code": 410, "message": "too old"}}


DOWN = KubeApiUnreachableError("nobody is there")


def test_it_lists_page_by_page_and_watches_from_there() -> None:
    followed = Followed(
        page(running_pod("a"), following="more"),
        page(running_pod("b")),
        [event("ADDED", running_pod("c")), event("DELETED", running_pod("a"))],
    )

    assert followed.names == ["b", "c"]
    first, second, watch, *_ = followed.api.queries
    assert first == {"fieldSelector": "spec.nodeName=node-1", "limit": "100"}
    assert second["continue"] == "more"
    assert watch == {
        "fieldSelector": "spec.nodeName=node-1",
        "watch": "1",
        "allowWatchBookmarks": "true",
        "resourceVersion": "7",
        "timeoutSeconds": "300",
    }


def test_a_watch_that_ends_goes_on_from_the_last_version_without_a_list_and_at_once() -> None:
    followed = Followed(page(), [event("ADDED", running_pod("a")), bookmark("12")], [bookmark("9")])

    assert followed.versions[:3] == ["", "7", "12"]
    assert followed.slept_seconds == []


def test_a_watch_that_breaks_off_goes_on_from_the_last_version() -> None:
    followed = Followed(page(), ([bookmark("12")], DOWN), [bookmark("13")])

    assert followed.versions == ["", "7", "12", "13"]
    assert followed.slept_seconds == []
    assert followed.counters.value("pod_watch_lost") == 1


@pytest.mark.parametrize(
    "lost", [[gone()], KubeApiRefusedError(Answer(410))], ids=["event", "answer"]
)
def test_a_version_that_is_forgotten_makes_it_list_again(lost: Step) -> None:
    followed = Followed(page(running_pod("old")), lost, page(running_pod("new"), version="50"))

    assert followed.versions == ["", "7", "", "50"]
    assert followed.names == ["new"]
    assert len(followed.slept_seconds) == 1


def test_while_the_api_server_is_away_pods_stay_and_attempts_become_rare() -> None:
    followed = Followed(page(running_pod("a")), *[DOWN] * 9, [bookmark("8")])

    assert followed.names == ["a"]
    assert followed.slept_seconds == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert followed.counters.value("pods_unreadable") == 9


def test_watches_that_end_without_a_word_are_not_opened_in_a_loop() -> None:
    followed = Followed(page(), [], [], [bookmark("8")])

    assert followed.slept_seconds == [0.5, 1]


def test_a_list_that_is_refused_is_said_and_tried_again() -> None:
    refused = Answer(403, {"reason": "Forbidden", "message": "cannot list pods"})
    followed = Followed(refused, page(running_pod("a")))

    assert followed.names == ["a"]
    assert followed.slept_seconds == [0.5]


def test_a_malformed_pod_stops_nothing_and_keeps_what_was_known_of_it() -> None:
    bad = running_pod("odd")
    bad["spec"]["containers"] = 3
    followed = Followed(
        page(running_pod("a"), running_pod("odd")),
        [event("MODIFIED", bad), event("ADDED", running_pod("b")), gone()],
        page(running_pod("b"), bad),
    )

    assert followed.names == ["b", "odd"]
    assert followed.counters.value("pod_malformed") == 2


def test_a_pod_of_another_node_is_not_taken() -> None:
    followed = Followed(page(running_pod("a"), running_pod("far", node="node-2")))

    assert followed.names == ["a"]
    assert followed.counters.value("pod_of_another_node") == 1


@pytest.mark.parametrize(
    "nonsense", [{"type": 3}, {"type": "ADDED", "object": []}, {"type": "BOOKMARK", "object": 1}]
)
def test_a_watch_of_nonsense_is_opened_again_after_a_wait(nonsense: Object) -> None:
    followed = Followed(page(running_pod("a")), [nonsense], [bookmark("8")])

    assert followed.names == ["a"]
    assert len(followed.slept_seconds) == 1
