"""Who watches the markets.

A watcher holds the names of the nodes that changed since it was last served, and its messages are
made when it is ready for one: however slowly it reads, what waits for it is one set of names, and
what it gets is the latest state.
"""

import asyncio
from dataclasses import dataclass, field

import grpc

from mbcas_server.status import RefusedError


@dataclass(eq=False, slots=True)
class Watcher:
    """One stream of WatchMarkets; `nodes` limits it, an empty set means every node."""

    nodes: frozenset[str]
    changed: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    ending: RefusedError | None = None
    """Why the server ends it; None while it does not."""

    def tell(self, changed: set[str], removed: set[str]) -> None:
        """Adds what one tick changed."""
        if self.nodes:
            changed, removed = changed & self.nodes, removed & self.nodes
        self.changed = (self.changed | changed) - removed
        self.removed = (self.removed | removed) - changed
        if self.changed or self.removed:
            self.woken.set()

    def take(self) -> tuple[list[str], list[str]]:
        """Returns changed and removed nodes by name, and forgets them."""
        changed, removed = sorted(self.changed), sorted(self.removed)
        self.changed, self.removed = set(), set()
        self.woken.clear()
        return changed, removed


class Watchers:
    """All streams of WatchMarkets."""

    def __init__(self, *, watchers_max: int) -> None:
        self._watchers_max = watchers_max
        self._watchers: dict[Watcher, None] = {}

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, watcher: Watcher) -> None:
        """Adds one.

        Raises:
            RefusedError: There are as many as there may be.
        """
        if len(self._watchers) >= self._watchers_max:
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._watchers_max} watchers are here already, which is as many as the "
                "server's setting watchers_max allows",
            )
        self._watchers[watcher] = None

    def discard(self, watcher: Watcher) -> None:
        self._watchers.pop(watcher, None)

    def end_all(self, ending: RefusedError) -> None:
        """Makes every stream end."""
        for watcher in self._watchers:
            watcher.ending = ending
            watcher.woken.set()

    def tell(self, changed: set[str], removed: set[str]) -> None:
        """Tells every watcher what one tick changed."""
        for watcher in self._watchers:
            watcher.tell(changed, removed)
