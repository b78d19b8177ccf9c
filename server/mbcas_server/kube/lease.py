"""Which of several servers decides: the one that holds the Lease.

Times are compared on this machine's monotonic clock alone: a rival waits until it has seen no
renewal for `lease_seconds`, and the holder stops `lease_renew_seconds` after it *sent* the last
renewal that went through. The latter is shorter, so there are never two that send orders.

A holder that cannot renew keeps all it knows and tries on: while nobody reaches the API server,
nobody can take the Lease either. If it then finds the Lease as it left it, it goes on where it was;
if it finds another holder, it is over.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc

from mbcas_server.clock import Clock
from mbcas_server.kube.client import ApiError, KubeClient, Object, api_path
from mbcas_server.kube.lease_record import TRANSITIONS_MAX, LeaseRecord, written
from mbcas_server.kube_settings import KubeSettings
from mbcas_server.leadership import NotRememberedError
from mbcas_server.logs import LimitedLog
from mbcas_server.metrics import Metrics
from mbcas_server.status import RefusedError

NAME = "mbcas"
GROUP = "coordination.k8s.io/v1"
NOT_FOUND, CONFLICT = 404, 409
TRIES = 3  # Of one look; each but the last found that somebody was faster.
KEEP_STREAMS_SECONDS = 120.0
"""A holder that could not renew for so much longer ends its streams: if only its own way to the API
server is cut, another decides by now, and the shims must be free to find it."""

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, kw_only=True)
class LeaseLeadership:
    """Takes the Lease when it is free, renews it, and follows what operators write on it."""

    client: KubeClient
    clock: Clock
    metrics: Metrics
    settings: KubeSettings
    namespace: str
    identity: str
    """Of this run of this server."""
    prepare: Callable[[], Awaitable[None]]
    """Loads what must be known before the first decision; awaited once the Lease is held."""
    end_streams: Callable[[RefusedError], None]
    lose: Callable[[], None]
    """Ends the server: another one decides, and this one must begin anew."""
    outlives_restart: bool = field(init=False, default=True)
    _lease: Object = field(init=False, default_factory=dict)
    _record: LeaseRecord | None = field(init=False, default=None)
    _seen_seconds: float = field(init=False, default=-math.inf)
    """When the Lease last changed, as seen from here."""
    _transitions: int = field(init=False, default=-1)
    """The highest number seen: a Lease that was deleted goes on from there."""
    _own: int = field(init=False, default=-1)
    """The number since this server holds it."""
    _holds: bool = field(init=False, default=False)
    _lost: bool = field(init=False, default=False)
    _prepared: bool = field(init=False, default=False)
    _renewed_seconds: float = field(init=False, default=-math.inf)
    _wanted_frozen: bool | None = field(init=False, default=None)
    """What an operator said, until it is written down."""
    _failure: str = field(init=False, default="")
    _state: str = field(init=False, default="")
    _turn: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
    _log: LimitedLog = field(init=False)

    def __post_init__(self) -> None:
        self._log = LimitedLog(logger, self.clock)

    @property
    def epoch(self) -> int:
        return self._own + 1

    @property
    def leads(self) -> bool:
        return self._prepared and self.may_order

    @property
    def may_order(self) -> bool:
        return self._holds and self._unrenewed_seconds < self.settings.lease_renew_seconds

    @property
    def frozen(self) -> bool:
        written_down = self._record is not None and self._record.frozen
        return self._wanted_frozen is True or written_down

    def check(self) -> None:
        if self._keeps_streams:
            return
        raise RefusedError(
            grpc.StatusCode.UNAVAILABLE,
            f"this server does not decide ({self._describe()}): connect again",
            reason="STANDBY",
        )

    async def set_frozen(self, *, frozen: bool) -> None:
        self._wanted_frozen = frozen
        await self._look()
        if self._wanted_frozen is not None:
            raise NotRememberedError(self._failure or "this server does not hold the Lease")

    async def run(self) -> None:
        """Looks at the Lease for as long as it is let, or until it is lost."""
        async with asyncio.TaskGroup() as group:
            preparing: asyncio.Task[None] | None = None
            while True:
                begin_seconds = self.clock.now_seconds()
                await self._look()
                if self._holds and preparing is None:
                    preparing = group.create_task(self._prepare(), name="prepare")
                self._tell()
                if self._lost:
                    return
                await self.clock.sleep_until(begin_seconds + self.settings.lease_retry_seconds)

    async def give_up(self) -> None:
        """Leaves the Lease to whoever comes first; only for when nothing is decided any more."""
        if not self._holds:
            return
        try:
            async with self._turn:
                await self._read()  # A renewal may have been cut short.
                if self._record is not None and self._record.holder == self.identity:
                    await self._write(holder="", transitions=self._own, taken=False)
        except ApiError as error:
            self._fail(error)
        self._holds = False

    @property
    def _unrenewed_seconds(self) -> float:
        return self.clock.now_seconds() - self._renewed_seconds

    @property
    def _keeps_streams(self) -> bool:
        most_seconds = self.settings.lease_renew_seconds + KEEP_STREAMS_SECONDS
        return self._holds and self._prepared and self._unrenewed_seconds < most_seconds

    async def _prepare(self) -> None:
        await self.prepare()
        self._prepared = True
        self._tell()

    async def _look(self) -> None:
        """Reads the Lease, and takes or renews it where that is right."""
        async with self._turn:
            for _ in range(TRIES):
                try:
                    await self._step()
                except ApiError as error:
                    if error.code not in (NOT_FOUND, CONFLICT):
                        self._fail(error)
                        return
                    # Somebody was faster: look again.
                    self._lease, self._failure = {}, str(error)
                else:
                    return

    async def _step(self) -> None:
        if not (self._holds and self._lease):
            await self._read()
        record, now_seconds = self._record, self.clock.now_seconds()
        if not self._lease:
            # Deleted, or never made. A rival that does not know yet may decide for a while.
            if self._holds or now_seconds >= self._free_seconds(record):
                await self._create()
        elif record is not None and self._holds:
            if record.holder not in (self.identity, "") or record.transitions != self._own:
                self._give_way()
            else:
                await self._write(holder=self.identity, transitions=self._own, taken=False)
        elif record is not None and (
            not record.holder or now_seconds >= self._free_seconds(record)
        ):
            await self._write(holder=self.identity, transitions=self._transitions + 1, taken=True)

    def _free_seconds(self, record: LeaseRecord | None) -> float:
        """Returns when a holder that renews no more has certainly stopped."""
        if record is None:
            return -math.inf
        return self._seen_seconds + max(self.settings.lease_seconds, record.duration_seconds)

    async def _read(self) -> None:
        try:
            self._take_in(await self._call("GET", self._path))
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise
            self._lease = {}

    async def _create(self) -> None:
        transitions = self._own if self._holds else self._first_transitions()
        if self.frozen and self._wanted_frozen is None:
            self._wanted_frozen = True  # It was written on the one that is gone.
        named = {"apiVersion": GROUP, "kind": "Lease", "metadata": {"name": NAME}}
        await self._write(
            named, holder=self.identity, transitions=transitions, taken=not self._holds
        )

    def _first_transitions(self) -> int:
        """Returns the number that a new Lease begins with.

        Shims refuse a number below the last they saw. If the old Lease went while no server ran,
        nobody remembers its number; it began with the time of day and grew more slowly than that.
        """
        unix_seconds = min(int(self.clock.unix_seconds()), TRANSITIONS_MAX)
        return max(self._transitions + 1, unix_seconds)

    async def _write(
        self, new: Object | None = None, *, holder: str, transitions: int, taken: bool
    ) -> None:
        sent_seconds, wanted = self.clock.now_seconds(), self._wanted_frozen
        body = written(
            new or self._lease,
            holder=holder,
            transitions=transitions,
            taken=taken,
            duration_seconds=self.settings.lease_seconds,
            unix_seconds=self.clock.unix_seconds(),
            frozen=wanted,
        )
        path = api_path(GROUP, "leases", namespace=self.namespace) if new else self._path
        self._take_in(await self._call("POST" if new else "PUT", path, body))
        self._holds, self._renewed_seconds, self._own = bool(holder), sent_seconds, transitions
        if self._wanted_frozen is wanted:
            self._wanted_frozen = None

    def _take_in(self, lease: Object) -> None:
        record = LeaseRecord.read(lease)
        if record != self._record:
            self._seen_seconds = self.clock.now_seconds()
        self._lease, self._record, self._failure = lease, record, ""
        self._transitions = max(self._transitions, record.transitions)

    def _give_way(self) -> None:
        self._holds, self._lost = False, True
        self.lose()

    @property
    def _path(self) -> str:
        return api_path(GROUP, "leases", namespace=self.namespace, name=NAME)

    async def _call(self, method: str, path: str, body: Object | None = None) -> Object:
        timeout_seconds = self.settings.lease_renew_seconds / 2
        return await self.client.call(method, path, body=body, timeout_seconds=timeout_seconds)

    def _fail(self, error: ApiError) -> None:
        self._failure = str(error)
        self.metrics.lease_failures.inc()
        self._log.log(logging.WARNING, "lease failed", f"error={self._failure!r}")

    def _tell(self) -> None:
        """Says what has changed, and ends the streams of a holder that is cut off."""
        self.metrics.leading.set(self.leads)
        state = self._describe()
        if state == self._state:
            return
        logger.info("lease %s identity=%s epoch=%d", state, self.identity, self.epoch)
        if self._prepared and not self._keeps_streams and not self._lost:
            self.end_streams(
                RefusedError(
                    grpc.StatusCode.UNAVAILABLE,
                    "this server cannot renew its Lease, another may decide: connect again",
                    reason="STANDBY",
                )
            )
        self._state = state

    def _describe(self) -> str:
        """Says in a few words where this server stands."""
        if self._lost:
            return "lost to another server"
        if not self._holds:
            holder = self._record.holder if self._record is not None else ""
            return f"held by {holder}" if holder else "held by nobody"
        if not self._prepared:
            return "held, loading what must be known first"
        if self.may_order:
            return "held"
        return "held, not renewed" if self._keeps_streams else "held, not renewed for too long"
