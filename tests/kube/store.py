"""Objects with resource versions, and the history that watches are served from."""

import threading
from collections import deque
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from tests.kube.errors import ApiError

Object = dict[str, Any]
HISTORY = 10_000
FIRST_VERSION = 100
"""Greater than 1, so that a watch can ask for what is forgotten, as on a real server."""


@dataclass(frozen=True, slots=True)
class Change:
    """One object's change: None before it was made, None after it is deleted."""

    version: int
    resource: str
    before: Object | None
    after: Object | None


class Store:
    """What etcd and the watch cache are to an API server; all callers hold `changed`."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = FIRST_VERSION
        self.forgotten_version = FIRST_VERSION - 1
        """Watches from here, or from before, are told that it is gone."""
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._history: deque[Change] = deque(maxlen=HISTORY)

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """Returns a copy.

        Raises:
            ApiError: 404.
        """
        found = self._objects.get((resource, namespace, name))
        if found is None:
            raise ApiError(404, f'{resource} "{name}" not found')
        return deepcopy(found)

    def all(self, resource: str, namespace: str = "") -> list[Object]:
        """Returns copies of all objects of a namespace, or of all of them, by name."""
        return [
            deepcopy(value)
            for (kind, place, _), value in sorted(self._objects.items(), key=lambda item: item[0])
            if kind == resource and namespace in ("", place)
        ]

    def has(self, resource: str, namespace: str, name: str) -> bool:
        """Says whether an object is there."""
        return (resource, namespace, name) in self._objects

    def everything(self) -> list[tuple[str, Object]]:
        """Returns copies of all objects of all kinds, with their resources."""
        return [(kind, deepcopy(value)) for (kind, _, _), value in self._objects.items()]

    def put(self, resource: str, new: Object) -> Object:
        """Adds or replaces an object under a new resource version; the same content keeps it."""
        metadata = new["metadata"]
        key = (resource, metadata.get("namespace", ""), metadata["name"])
        before = self._objects.get(key)
        new = deepcopy(new)
        if before is not None:
            new["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
            if new == before:
                return new
        self._record(resource, before, new)
        self._objects[key] = new
        return deepcopy(new)

    def remove(self, resource: str, namespace: str, name: str) -> Object:
        """Removes an object.

        Raises:
            ApiError: 404.
        """
        before = self.get(resource, namespace, name)
        del self._objects[resource, namespace, name]
        self._record(resource, before, None)
        return before

    def since(self, version: int) -> Iterator[Change]:
        """Yields the changes after a version.

        Raises:
            ApiError: 410, that version is forgotten.
        """
        self.check_known(version)
        newer: list[Change] = []
        for change in reversed(self._history):
            if change.version <= version:
                break
            newer.append(change)
        yield from reversed(newer)

    def check_known(self, version: int) -> None:
        """Raises where a version is too old to go on from.

        Raises:
            ApiError: 410.
        """
        if version <= self.forgotten_version:
            oldest = self.forgotten_version + 1
            raise ApiError(410, f"too old resource version: {version} ({oldest})")

    def compact(self) -> None:
        """Forgets all history: every watch that starts from a known version must list again."""
        self.forgotten_version = self.version
        self._history.clear()
        self.version += 1

    def _record(self, resource: str, before: Object | None, after: Object | None) -> None:
        self.version += 1
        if len(self._history) == HISTORY:
            self.forgotten_version = self._history[0].version
        if after is not None:
            after["metadata"]["resourceVersion"] = str(self.version)
        self._history.append(Change(self.version, resource, before, after))
        self.changed.notify_all()
