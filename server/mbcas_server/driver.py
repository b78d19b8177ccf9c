"""The loop that decides: it alone changes the core's state.

Each tick takes in what the inboxes hold, tells the core that a tick is due, and carries out what
the core wants done. While the core works, in a thread of its own, reports go on to arrive in the
inboxes and callers are answered.

A tick is due a tick period after the last one was; it comes earlier when reports wait and ticks are
cheap, so that a small cluster reacts within a fraction of a second while a large one spends no more
than it has to.
"""

import asyncio
import logging
import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, assert_never

import grpc

from mbcas_core.effects import (
    Effect,
    Notice,
    Order,
    PodNotice,
    RequestInventory,
    SendOrders,
    Violation,
)
from mbcas_core.events import (
    Event,
    NodeAttached,
    NodeDetached,
    ReleaseAsked,
    ReportArrived,
    TickDue,
    WritesFrozen,
)
from mbcas_core.market.allocate import LiveMarket
from mbcas_server.clock import Clock
from mbcas_server.core import Core
from mbcas_server.core_thread import Breaths, CoreThread
from mbcas_server.heap import Heap
from mbcas_server.leadership import Leadership
from mbcas_server.links import Link, Links
from mbcas_server.live import LiveMarkets
from mbcas_server.logs import LimitedLog
from mbcas_server.metrics import Metrics
from mbcas_server.resizes import Resizes
from mbcas_server.settings import Settings
from mbcas_server.status import RefusedError
from mbcas_server.watchers import Watchers

EARLY_TICK_LOAD = 0.05  # Early ticks spend at most this share of the time.
COALESCE_SECONDS = 0.02  # Reports that arrive together are taken in together.
SLICE_SECONDS = 0.0005  # The transport gets its turn at least this often between inboxes,
STREAMS_PER_TURN = 5  # and after so many streams have got something to write, for this long.
PAUSE_SECONDS = 0.002
RELEASES_MAX = 1_000

logger = logging.getLogger(__name__)


class KubeObjects(Protocol):
    """What becomes of orders and notices on Kubernetes; neither of the two waits."""

    def send(self, link: Link, orders: tuple[Order, ...]) -> None:
        """Puts orders into a stream once what they rest on is written down."""

    def tell(self, notice: PodNotice) -> None:
        """Shows a notice beside its pod."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Turn:
    """What the core made of one tick's events."""

    effects: list[Effect]
    tick: int
    nodes: set[str]
    changed: set[str]
    live: dict[str, LiveMarket]


@dataclass(eq=False, slots=True, kw_only=True)
class Driver:
    """Drives one core. `run` never returns by itself; every other method is for one tick.

    All but `_handle` runs in the event loop.
    """

    core: CoreThread
    links: Links
    live: LiveMarkets
    watchers: Watchers
    settings: Settings
    clock: Clock
    metrics: Metrics
    leadership: Leadership
    kube_objects: KubeObjects | None = None
    """None outside of Kubernetes."""
    last_tick_seconds: float = field(init=False)
    """When the last tick was completed."""
    _tick_cost_seconds: float = field(init=False, default=0.0)
    _tick_count: int = field(init=False, default=0)
    _known_nodes: set[str] = field(init=False, default_factory=set)
    _inventories: list[Link] = field(init=False, default_factory=list)
    _log: LimitedLog = field(init=False)
    _resizes: Resizes = field(init=False)
    _heap: Heap = field(init=False, default_factory=Heap)
    _frozen: bool = field(init=False, default=False)
    _releases: dict[tuple[str, str], ReleaseAsked] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.last_tick_seconds = self.clock.now_seconds()
        self._log = LimitedLog(logger, self.clock)
        self._resizes = Resizes(self.metrics)

    async def run(self) -> None:
        """Ticks for as long as it is let."""
        period_seconds = self.settings.tick_period_seconds
        deadline_seconds = self.clock.now_seconds() + period_seconds
        while True:
            await self._wait_for_tick(deadline_seconds)
            await self.tick()
            now_seconds = self.clock.now_seconds()
            if now_seconds < deadline_seconds:
                deadline_seconds = now_seconds + period_seconds
                continue
            deadline_seconds += period_seconds
            missed = int((now_seconds - deadline_seconds) // period_seconds) + 1
            if missed > 0:
                self.metrics.ticks_missed.inc(missed)
                deadline_seconds += missed * period_seconds

    def ask_release(self, event: ReleaseAsked) -> None:
        """Tells the core at the next tick; of two about the same pods the later one counts."""
        if len(self._releases) >= RELEASES_MAX:
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{RELEASES_MAX} releases were asked for within one tick: ask for a namespace",
            )
        self._releases[event.namespace, event.pod] = event

    async def tick(self) -> None:
        """Takes in what has come, lets the core decide, and carries it out."""
        begin_seconds = self.clock.now_seconds()
        events, arrivals = await self._take_in()
        events += self._take_interventions()
        events.append(TickDue(time_seconds=self.clock.now_seconds()))
        turn = await self.core.work(partial(self._handle, events=events))
        self._tick_count = turn.tick
        self.live.update(turn.live, nodes=turn.nodes)
        await self._carry_out(turn.effects)
        self._request_inventories()
        self.watchers.tell(turn.changed & turn.nodes, self._known_nodes - turn.nodes)
        self._known_nodes = turn.nodes
        end_seconds = self.clock.now_seconds()
        await self._send_heartbeats(end_seconds)
        self._tick_cost_seconds = end_seconds - begin_seconds
        self.last_tick_seconds = end_seconds
        self.metrics.tick_seconds.observe(self._tick_cost_seconds)
        self.metrics.last_tick_time.set(self.clock.unix_seconds())
        for arrived_seconds in arrivals:
            self.metrics.report_wait_seconds.observe(end_seconds - arrived_seconds)

    async def _wait_for_tick(self, deadline_seconds: float) -> None:
        spacing_seconds = max(
            self.settings.tick_spacing_seconds, self._tick_cost_seconds / EARLY_TICK_LOAD
        )
        earliest_seconds = self.last_tick_seconds + spacing_seconds
        if earliest_seconds < deadline_seconds:
            await self.clock.sleep_until(earliest_seconds)
            if not await self._wait_for_report(deadline_seconds):
                return
            deadline_seconds = min(deadline_seconds, self.clock.now_seconds() + COALESCE_SECONDS)
        await self.clock.sleep_until(deadline_seconds)

    async def _wait_for_report(self, deadline_seconds: float) -> bool:
        """Returns whether something is there to take in before the deadline."""
        async with asyncio.TaskGroup() as group:
            report = group.create_task(self.links.wait_due(), name="report")
            deadline = group.create_task(self.clock.sleep_until(deadline_seconds), name="deadline")
            await asyncio.wait({report, deadline}, return_when=asyncio.FIRST_COMPLETED)
            came = report.done()
            report.cancel()
            deadline.cancel()
        return came

    async def _take_in(self) -> tuple[list[Event], list[float]]:
        """Returns what the streams have brought, and when the reports among it arrived."""
        events: list[Event] = []
        arrivals: list[float] = []
        turn_seconds = self.clock.now_seconds()
        for name in self.links.take_due():
            change = self.links.take_change(name)
            if change is None:
                continue
            now_seconds = self.clock.now_seconds()
            if change.last_words is not None:
                self._take_reports(change.last_words, events, arrivals)
            if change.detached:
                events.append(NodeDetached(node=name, time_seconds=now_seconds))
            if change.attached:
                events.append(NodeAttached(node=name, time_seconds=now_seconds))
            if change.current is not None:
                self._take_reports(change.current, events, arrivals)
            if self.clock.now_seconds() - turn_seconds > SLICE_SECONDS:
                await asyncio.sleep(0)
                turn_seconds = self.clock.now_seconds()
        return events, arrivals

    def _take_interventions(self) -> list[Event]:
        """Returns what operators have said, and whether orders may leave."""
        events: list[Event] = list(self._releases.values())
        self._releases.clear()
        frozen = self.leadership.frozen or not self.leadership.may_order
        self.metrics.frozen.set(frozen)
        if frozen is not self._frozen:
            self._frozen = frozen
            events.insert(0, WritesFrozen(frozen=frozen))
            why = "an operator froze them" if self.leadership.frozen else "it does not decide now"
            self._log.log(logging.WARNING, "writes", f"stopped: {why}" if frozen else "go on")
        return events

    def _take_reports(self, link: Link, events: list[Event], arrivals: list[float]) -> None:
        report = link.inbox.drain()
        if link.arrived_seconds is not None:
            arrivals.append(link.arrived_seconds)
            link.arrived_seconds = None
        self._note_inventory(link)
        if report is None:
            return
        self._resizes.ended(report.results)
        now_seconds = self.clock.now_seconds()
        events.append(ReportArrived(node=link.node, time_seconds=now_seconds, report=report))

    def _handle(self, core: Core, events: list[Event]) -> _Turn:
        """Runs in the core's thread."""
        since_tick = core.tick_count
        effects: list[Effect] = []
        breaths = Breaths(self.clock)
        for event in events:
            breaths.take()
            try:
                effects += core.handle(event)
            except Exception:
                # The supervisor's place: one event that the core fails on must not stop the others.
                kind = type(event).__name__
                self.metrics.event_failures.labels(event=kind).inc()
                logger.exception("core failed event=%s node=%s", kind, getattr(event, "node", ""))
        return _Turn(
            effects=effects,
            tick=core.tick_count,
            nodes=set(core.node_names()),
            changed=set(core.changed_nodes(since_tick)),
            live=core.live_markets(),
        )

    async def _carry_out(self, effects: list[Effect]) -> None:
        for number, effect in enumerate(effects, 1):
            self._carry_out_one(effect)
            if number % STREAMS_PER_TURN == 0:
                await self._pause()

    def _carry_out_one(self, effect: Effect) -> None:
        match effect:
            case SendOrders():
                self._send_orders(effect)
            case RequestInventory():
                link = self.links.link(effect.node)
                if link is not None:
                    link.inbox.ask_inventory("core")
                    self._note_inventory(link)
                detail = f"node={effect.node} reason={effect.reason!r}"
                self._log.log(logging.INFO, "inventory needed", detail)
            case Violation():
                self.metrics.invariant_violations.labels(rule=effect.rule).inc()
                self._log.log(
                    logging.ERROR,
                    "rule violated",
                    f"rule={effect.rule} node={effect.node} {effect.detail}",
                )
            case Notice():
                self.metrics.notices.labels(event=effect.event).inc()
                self._log.log(logging.INFO, effect.event, f"node={effect.node} {effect.detail}")
            case PodNotice():
                self.metrics.notices.labels(event=effect.event).inc()
                pod = f"pod={effect.namespace}/{effect.pod} container={effect.container}"
                self._log.log(logging.INFO, effect.event, f"{pod} {effect.message}")
                if self.kube_objects is not None:
                    self.kube_objects.tell(effect)
            case _:
                assert_never(effect)

    def _send_orders(self, effect: SendOrders) -> None:
        link = self.links.link(effect.node)
        # While the core worked, an operator may have frozen, or another server begun to decide.
        stopped = self.leadership.frozen or not self.leadership.may_order
        if link is None or stopped:
            self.metrics.orders_dropped.inc(len(effect.orders))
            return
        self._resizes.sent(effect.orders)
        if self.kube_objects is not None:
            self.kube_objects.send(link, effect.orders)
        else:
            link.outbox.put_orders(effect.orders, now_seconds=self.clock.now_seconds())

    def _note_inventory(self, link: Link) -> None:
        """Remembers to ask for an inventory, once for each time that one is wanted."""
        if not link.inbox.inventory_wanted:
            link.inventory_requested = False
        elif not link.inventory_requested:
            link.inventory_requested = True
            self._inventories.append(link)

    def _request_inventories(self) -> None:
        for link in self._inventories:
            self.metrics.inventory_requests.labels(reason=link.inbox.inventory_wanted).inc()
            link.outbox.put_heartbeat(tick=self._tick_count, inventory_requested=True)
        self._inventories.clear()

    async def _send_heartbeats(self, now_seconds: float) -> None:
        """Sends to each stream at a phase of its own: a thousand at once would hold callers up."""
        container_count = 0
        period_seconds = self.settings.heartbeat_seconds
        sent = 0
        for link in self.links.connected():
            container_count += link.inbox.container_count
            if now_seconds < link.heartbeat_due_seconds:
                continue
            phase_seconds = zlib.crc32(link.node.encode()) % round(period_seconds * 1000) / 1000
            elapsed_seconds = (now_seconds - phase_seconds) % period_seconds
            link.heartbeat_due_seconds = now_seconds - elapsed_seconds + period_seconds
            link.outbox.put_heartbeat(
                tick=self._tick_count, inventory_requested=bool(link.inbox.inventory_wanted)
            )
            sent += 1
            if sent % STREAMS_PER_TURN == 0:
                await self._pause()
        self.links.container_count = container_count
        self._heap.settle(container_count, now_seconds=now_seconds)

    async def _pause(self) -> None:
        """Lets the transport write what it was given before it is given more."""
        await self.clock.sleep_until(self.clock.now_seconds() + PAUSE_SECONDS)
