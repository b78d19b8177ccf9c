"""Follows the pods of one node: lists them, watches from there, lists again where that is lost.

A watch starts from the version of a list and goes on from the last version it told of, which
bookmarks keep fresh. A server that has forgotten that version answers 410: all is listed anew.
While the API server is away what is known stays as it is.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import tenacity

from mbcas_shim.counters import Counters
from mbcas_shim.kube.api import Answer, KubeApiError, KubeApiRefusedError
from mbcas_shim.kube.pod_mailbox import MAX_PODS, PodMailbox
from mbcas_shim.kube.pods import Pod, parse_pod
from mbcas_shim.kube.untrusted import Fields, MalformedError

PAGE = 100  # Pods of a list's page: about a megabyte.
_MAX_PAGES = 2 * MAX_PODS // PAGE
_PATH = "/api/v1/pods"
_WATCH_SECONDS = (300, 600)  # A random time between them, so that not all nodes' end at once.
_BACKOFF_FIRST_SECONDS = 0.5
_BACKOFF_MAX_SECONDS = 30.0
_LIST_SECONDS = 30.0
_GONE = 410
_OK = 200


class Events(Protocol):
    """The objects of a watch; another thread may close it."""

    def __iter__(self) -> Iterator[dict[str, Any]]: ...

    def close(self) -> None: ...


class PodApi(Protocol):
    """The calls that this needs."""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        timeout_seconds: float = 10.0,
    ) -> Answer: ...

    def stream(self, path: str, query: Mapping[str, str]) -> Events: ...


class WatchLostError(KubeApiError):
    """The watch ended, and not as it should."""


class PodWatch:
    """Keeps a mailbox current; `run` is for a thread of its own, `close` for any other."""

    def __init__(
        self,
        api: PodApi,
        mailbox: PodMailbox,
        counters: Counters,
        *,
        node_name: str,
        uniform: Callable[[], float],
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._api = api
        self._mailbox = mailbox
        self._counters = counters
        self._node_name = node_name
        self._uniform = uniform
        self._closed = threading.Event()
        self._sleep = sleep or tenacity.sleep_using_event(self._closed)
        self._lock = threading.Lock()
        self._events: Events | None = None
        self._version = ""
        """From where to watch; empty where all must be listed first."""

    def run(self) -> None:
        """Follows the pods until it is closed."""
        while not self._closed.is_set():
            tenacity.Retrying(
                retry=tenacity.retry_if_exception_type(KubeApiError),
                stop=self._is_closed,
                wait=self._backoff_seconds,
                sleep=self._sleep,
                before_sleep=self._say,
                retry_error_callback=_ended,
            )(self._follow)

    def close(self) -> None:
        """Ends it, also where it waits."""
        with self._lock:
            self._closed.set()
            if self._events is not None:
                self._events.close()

    def _follow(self) -> None:
        """Lists where that is needed, and watches until the server ends it.

        Raises:
            KubeApiError: It came to nothing: wait before the next attempt.
        """
        seen = 0
        try:
            if not self._version:
                self._version = self._list()
            for event in self._open_watch():
                self._take_in(Fields(event))
                seen += 1
        except MalformedError as error:
            raise WatchLostError(f"the API server told nonsense: {error}") from error
        except KubeApiError as error:
            # A watch that had worked is resumed at once; only a vain attempt has to wait.
            if not seen or not self._version:
                raise
            self._counters.count("pod_watch_lost", error)
        finally:
            with self._lock:
                self._events = None
        if not seen and not self._closed.is_set():
            raise WatchLostError("the API server ended a watch without a word")

    def _open_watch(self) -> Events:
        least, most = _WATCH_SECONDS
        seconds = least + (most - least) * self._uniform()
        query = {
            **self._selector(),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": f"{seconds:.0f}",
        }
        try:
            events = self._api.stream(_PATH, query)
        except KubeApiRefusedError as error:
            if error.answer.status == _GONE:
                self._version = ""
            raise
        with self._lock:
            self._events = events
            if self._closed.is_set():
                events.close()
        return events

    def _take_in(self, event: Fields) -> None:
        kind, told = event.text("type"), event.object("object")
        if kind == "ERROR":
            if told.count("code") == _GONE:
                self._version = ""
            raise WatchLostError(told.words("message", at_most=200) or "the watch failed")
        version = told.object("metadata").text("resourceVersion")
        match kind:
            case "ADDED" | "MODIFIED":
                self._put(told)
            case "DELETED":
                self._mailbox.remove(told.object("metadata").text("uid"))
            case "BOOKMARK":
                pass
            case _:
                self._counters.count("pod_event_unknown", kind)
        self._version = version or self._version

    def _put(self, told: Fields) -> None:
        pod = self._parse(told)
        if pod is not None and not self._mailbox.put(pod):
            self._counters.count("too_many_pods", f"more than {MAX_PODS} on this node")

    def _list(self) -> str:
        """Hands over all pods; returns the version from which to watch."""
        pods: list[Pod] = []
        malformed: set[str] = set()
        query = self._selector() | {"limit": str(PAGE)}
        for _ in range(_MAX_PAGES):
            page = self._page(query)
            for item in page.objects("items"):
                pod = self._parse(item)
                if pod is None:
                    malformed.add(_uid_of(item))
                else:
                    pods.append(pod)
            metadata = page.object("metadata")
            following = metadata.text("continue", at_most=4096)
            if not following:
                break
            query["continue"] = following
        else:
            raise WatchLostError(f"the list of pods has more than {_MAX_PAGES} pages")
        too_many = self._mailbox.replace(pods, kept_uids=frozenset(malformed))
        if too_many:
            self._counters.count("too_many_pods", f"{too_many} of this node are left out")
        return metadata.name("resourceVersion")

    def _page(self, query: Mapping[str, str]) -> Fields:
        answer = self._api.request("GET", _PATH, query=query, timeout_seconds=_LIST_SECONDS)
        if answer.status != _OK:
            raise KubeApiRefusedError(answer)
        return Fields(answer.body)

    def _parse(self, told: Fields) -> Pod | None:
        """Reads a pod; one that cannot be read changes nothing."""
        try:
            pod = parse_pod(told)
        except MalformedError as error:
            self._counters.count("pod_malformed", f"{_uid_of(told)}: {error}")
            return None
        if pod.node_name != self._node_name:
            self._counters.count("pod_of_another_node", f"{pod.namespace}/{pod.name}")
            return None
        return pod

    def _selector(self) -> dict[str, str]:
        return {"fieldSelector": f"spec.nodeName={self._node_name}"}

    def _is_closed(self, state: tenacity.RetryCallState) -> bool:
        del state
        return self._closed.is_set()

    def _backoff_seconds(self, state: tenacity.RetryCallState) -> float:
        wait = tenacity.wait_exponential(_BACKOFF_FIRST_SECONDS, _BACKOFF_MAX_SECONDS)
        return wait(state) * (1 - self._uniform() / 2)

    def _say(self, state: tenacity.RetryCallState) -> None:
        outcome = state.outcome
        self._counters.count("pods_unreadable", outcome.exception() if outcome else "")


def _ended(state: tenacity.RetryCallState) -> None:
    """Leaves the failure that came with the end alone."""
    del state


def _uid_of(told: Fields) -> str:
    try:
        return told.object("metadata").text("uid")
    except MalformedError:
        return ""
