"""A copy of all objects of one kind, kept by a list and a watch that resumes where it broke off."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from mbcas_server.clock import Clock
from mbcas_server.kube.client import GONE, ApiError, KubeClient, Object
from mbcas_server.logs import LimitedLog
from mbcas_server.metrics import Metrics

WATCH_SECONDS = 300.0  # The server ends a watch after this; the next one resumes.
BACKOFF_MIN_SECONDS = 1.0
BACKOFF_MAX_SECONDS = 30.0

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, kw_only=True)
class Mirror:
    """Tells whoever keeps the copy what changes. It never gives up; `listed` says it has begun."""

    client: KubeClient
    clock: Clock
    metrics: Metrics
    path: str
    """The collection, as `api_path` gives it."""
    replace: Callable[[Sequence[Object]], None]
    """Takes all objects there are: what it had is void."""
    put: Callable[[Object], None]
    """Takes an object that is new or has changed."""
    remove: Callable[[Object], None]
    """Takes the last state of an object that is gone."""
    listed: bool = field(init=False, default=False)
    _version: str = field(init=False, default="")
    _backoff_seconds: float = field(init=False, default=BACKOFF_MIN_SECONDS)
    _is_gone: bool = field(init=False, default=False)
    """The last version to watch from was gone: to list at once helps once, not again and again."""
    _log: LimitedLog = field(init=False)

    def __post_init__(self) -> None:
        self._log = LimitedLog(logger, self.clock)

    async def start(self) -> None:
        """Lists everything; tries until it has succeeded."""
        while not self.listed:
            await self._attempt(self._list)

    async def run(self) -> None:
        """Follows what changes, for as long as it is let."""
        while True:
            await self._attempt(self._watch if self._version else self._list)

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> None:
        """Takes one step; after a failure it waits, longer each time."""
        try:
            await step()
        except ApiError as error:
            if not error.is_transient:
                self._version = ""  # 410 above all: what was missed is no longer told.
            self.metrics.kube_watch_failures.inc()
            self._log.log(logging.WARNING, "watch failed", f"path={self.path} error={error}")
            if error.code != GONE or self._is_gone:
                await self.clock.sleep_until(self.clock.now_seconds() + self._backoff_seconds)
                self._backoff_seconds = min(BACKOFF_MAX_SECONDS, 2 * self._backoff_seconds)
            self._is_gone = error.code == GONE

    async def _list(self) -> None:
        items, self._version = await self.client.list(self.path)
        self.replace(items)
        self.listed = True
        self._backoff_seconds = BACKOFF_MIN_SECONDS

    async def _watch(self) -> None:
        watch = self.client.watch(
            self.path, resource_version=self._version, timeout_seconds=WATCH_SECONDS
        )
        async with watch as events:
            async for event in events:
                self._take(event.get("type"), event.get("object"))
                self._backoff_seconds, self._is_gone = BACKOFF_MIN_SECONDS, False

    def _take(self, kind: object, found: object) -> None:
        if not isinstance(found, dict):
            return
        metadata = found.get("metadata")
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if kind in ("ADDED", "MODIFIED"):
            self.put(found)
        elif kind == "DELETED":
            self.remove(found)
        if isinstance(version, str) and version:
            self._version = version
