"""One watch: which changes it tells, and as what."""

from collections.abc import Iterator
from typing import Any

from tests.kube.errors import ApiError
from tests.kube.requests import Request, Target
from tests.kube.selecting import selected
from tests.kube.store import Change, Object, Store

Event = dict[str, Any]
INITIAL_END = "k8s.io/initial-events-end"


class Watch:
    """Turns the store's changes into the events of one watch; the caller holds the condition."""

    def __init__(self, store: Store, request: Request, target: Target) -> None:
        self._store = store
        self._query = request.query
        self._target = target
        self._bookmarks = request.query.get("allowWatchBookmarks") in ("1", "true")
        self._version = int(request.query.get("resourceVersion") or 0)
        self.ended = False

    def first(self) -> Iterator[Event]:
        """Yields what is there already, where the watch does not start from a known version."""
        wants_all = self._query.get("sendInitialEvents") == "true"
        if self._version and not wants_all:
            return
        for item in self._store.all(self._target.resource, self._target.namespace):
            if selected(item, self._query):
                yield {"type": "ADDED", "object": item}
        self._version = self._store.version
        if wants_all and self._bookmarks:
            yield self._bookmark({INITIAL_END: "true"})

    def next(self) -> Iterator[Event]:
        """Yields what has changed since the last call; a forgotten version ends the watch."""
        try:
            for change in self._store.since(self._version):
                self._version = change.version
                event = self._event_of(change)
                if event is not None:
                    yield event
        except ApiError as error:
            self.ended = True
            yield {"type": "ERROR", "object": error.to_wire()}

    def bookmarks(self) -> Iterator[Event]:
        """Yields how far the watch has come, where bookmarks are wanted."""
        if self._bookmarks:
            yield self._bookmark({})

    def _bookmark(self, annotations: dict[str, str]) -> Event:
        metadata: dict[str, Any] = {"resourceVersion": str(self._version)}
        if annotations:
            metadata["annotations"] = annotations
        kind = self._target.kind
        bookmark: Object = {
            "kind": kind.name,
            "apiVersion": kind.api_version,
            "metadata": metadata,
        }
        return {"type": "BOOKMARK", "object": bookmark}

    def _event_of(self, change: Change) -> Event | None:
        """Returns what this watch sees of a change: an object may come into its view, or leave."""
        if change.resource != self._target.resource:
            return None
        was, is_now = self._sees(change.before), self._sees(change.after)
        match was, is_now:
            case False, True:
                return {"type": "ADDED", "object": change.after}
            case True, True:
                return {"type": "MODIFIED", "object": change.after}
            case True, False:
                assert change.before is not None
                last = change.after or change.before
                metadata = last["metadata"] | {"resourceVersion": str(change.version)}
                return {"type": "DELETED", "object": last | {"metadata": metadata}}
            case _:
                return None

    def _sees(self, item: Object | None) -> bool:
        if item is None:
            return False
        in_namespace = self._target.namespace in ("", item["metadata"].get("namespace", ""))
        return in_namespace and selected(item, self._query)
