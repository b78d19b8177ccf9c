"""A small core, a shim and a clock for tests of the server."""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.effects import Effect, Lane, Order, Reason
from mbcas_core.errors import UnknownNodeError, UnknownPodError
from mbcas_core.events import (
    CpuResources,
    Event,
    Mode,
    NodeAttached,
    NodeDetached,
    Policy,
    PriorityClass,
    ReportArrived,
    TickDue,
)
from mbcas_core.market.allocate import LiveMarket
from mbcas_core.views import (
    ContainerGoodView,
    ContainerView,
    DecisionView,
    GoodDecisionView,
    GoodView,
    HeadroomView,
    MarketView,
    OrderDecisionView,
    PriceView,
    SignalsView,
)
from mbcas_server.app import Serving, serving
from mbcas_server.clock import SystemClock
from mbcas_server.settings import Settings

Given = Any  # Fields of a message or of the settings, by name.


class FakeCore:
    """Remembers its events; answers each with what `respond` returns."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.counters: Counter[str] = Counter()
        self.tick_count = 0
        self.respond: Callable[[Event], list[Effect]] = lambda _event: []
        self.views: dict[str, MarketView] = {}
        self.live: dict[str, LiveMarket] = {}
        self.changed_at: dict[str, int] = {}
        self.pods: dict[tuple[str, str], list[DecisionView]] = {}
        self.unreleased = 0
        self.progress_reads = 0
        self.arrays: dict[str, NDArray[np.generic]] = {"version": np.array([1])}

    def handle(self, event: Event) -> list[Effect]:
        self.events.append(event)
        match event:
            case TickDue():
                self.tick_count += 1
            case NodeAttached(node=node) | ReportArrived(node=node):
                self.views.setdefault(node, market_view(node))
                self.changed_at[node] = self.tick_count + 1
            case NodeDetached(node=node):
                self.changed_at[node] = self.tick_count + 1
            case _:
                pass
        return self.respond(event)

    def node_names(self) -> list[str]:
        return sorted(self.views)

    def changed_nodes(self, since_tick: int) -> list[str]:
        return sorted(node for node, tick in self.changed_at.items() if tick > since_tick)

    def market_view(self, node: str, *, include_containers: bool) -> MarketView:
        del include_containers
        if node not in self.views:
            raise UnknownNodeError(node)
        return self.views[node]

    def explain_pod(self, namespace: str, name: str) -> list[DecisionView]:
        if (namespace, name) not in self.pods:
            raise UnknownPodError(namespace, name)
        return self.pods[namespace, name]

    def live_markets(self) -> dict[str, LiveMarket]:
        return {node: live_market() for node in self.views} | self.live

    def release_progress(self, namespace: str, pod: str) -> tuple[int, int]:
        del pod
        self.progress_reads += 1
        return (5, self.unreleased) if namespace != "empty" else (0, 0)

    def learned(self) -> Mapping[str, NDArray[np.generic]]:
        return self.arrays

    def restore_learned(self, arrays: Mapping[str, NDArray[np.generic]]) -> int:
        self.arrays = dict(arrays)
        return len(arrays)

    def of_type(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Inline(Executor):
    """Does each job at once, in the caller's thread, so that virtual time knows when it is done."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - as inherited.
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the one who waits for the future gets it.
            future.set_exception(error)
        return future


def live_market(*needs: int) -> LiveMarket:
    """A node of 1600m where pods bid these needs, with floors of 100m."""
    return LiveMarket(
        need_millicores=np.array(needs, np.int64),
        floor_millicores=np.full(len(needs), 100, np.int64),
        weight=np.full(len(needs), 100.0),
        available_millicores=1600,
        reserve_millicores=100,
        quantum_millicores=10,
        default_cap_millicores=1200,
    )


def good_view(*, shadow_price: float = 0.0) -> GoodView:
    return GoodView(
        supply_millicores=1500,
        demand_millicores=1200,
        floor_millicores=300,
        target_millicores=1200,
        billed_millicores=1000,
        price=PriceView(
            shadow_price=shadow_price,
            shadow_price_normalized=0.5 if shadow_price else 0.0,
            shortage=0.2 if shadow_price else 0.0,
        ),
        floors_reduced=False,
    )


def container_view(
    container: str = "app", *, namespace: str = "default", pod: str = "web", applied: int = 400
) -> ContainerView:
    good = ContainerGoodView(
        admitted_millicores=300,
        need_millicores=480,
        target_millicores=450,
        desired_millicores=400,
        allocated_millicores=None,
        applied_millicores=applied,
    )
    return ContainerView(
        namespace=namespace,
        pod=pod,
        container=container,
        pod_uid=f"uid-{pod}",
        mode=Mode.AUTO,
        policy=Policy.REQUESTS_AND_LIMITS,
        priority_class=PriorityClass.NORMAL,
        weight=300.0,
        usage_millicores=390.5,
        throttled_ratio=0.25,
        reservation=good,
        ceiling=good,
        lag_seconds=0.4,
        emergency=False,
        emergency_since_seconds=None,
        reason=Reason.RATIONED,
        decision_time_seconds=1.0,
    )


def market_view(
    node: str, *, shadow_price: float = 0.0, containers: Sequence[ContainerView] = ()
) -> MarketView:
    return MarketView(
        node=node,
        report_time_seconds=1.0,
        round=3,
        round_time_seconds=None,
        live=True,
        frozen=False,
        allocatable_millicores=1600,
        unmanaged_millicores=0,
        reservation=good_view(shadow_price=shadow_price),
        ceiling=good_view(),
        containers=list(containers),
    )


def decision_view(container: ContainerView, *, node: str = "node-a") -> DecisionView:
    good = GoodDecisionView(
        takes_part=True,
        need_millicores=480,
        floor_millicores=300,
        reclaim_factor=1.0,
        pod_need_millicores=480,
        pod_floor_millicores=300,
        pod_cap_millicores=1200,
        pod_weight=300.0,
        node_supply_millicores=1500,
        node_level=0.5,
        pod_allocation_millicores=450,
        pod_level=None,
        container_weight=300.0,
        target_millicores=450,
    )
    return DecisionView(
        container=container,
        node=node,
        signals=SignalsView(
            sample_count=12,
            usage_millicores=390.5,
            throttled_ratio_2s=0.3,
            throttled_ratio_15s=0.25,
            demand_millicores=430.0,
            variation=0.2,
            quota_millicores=400.0,
            sample_age_seconds=0.3,
        ),
        headroom=HeadroomView(
            workload_class="steady",
            forecast="last 15 s",
            base_millicores=400.0,
            tau=0.05,
            level=1.2,
            burst_millicores=0.0,
            reservation_quantile_millicores=380.0,
            need_floor_millicores=10.0,
            emergency_millicores=0.0,
            ceiling_need_millicores=480,
            reservation_need_millicores=400,
            price_response="frozen",
            response_shortage=0.25,
            effective_tau=0.16875,
            demand_factor=1.0,
            usage_millicores=390.0,
            recent_need_millicores=470.0,
        ),
        reservation=replace(good, class_weight=0.5, floors_reduced=True, credit_millicores=20),
        ceiling_headroom=good,
        order=OrderDecisionView(
            time_seconds=1.0,
            billed_reservation_millicores=400,
            billed_ceiling_millicores=400,
            slack_reservation_millicores=100,
            slack_ceiling_millicores=200,
            granted_reservation_millicores=0,
            granted_ceiling_millicores=50,
            desired_reservation_millicores=400,
            desired_ceiling_millicores=450,
            last_order_id=7,
            last_result="in flight",
        ),
        summary="Raised to a target that scarcity keeps below its need.",
    )


def order(order_id: int = 1, *, expires_after_seconds: float = 10.0) -> Order:
    return Order(
        order_id=order_id,
        pod_uid="uid-1",
        namespace="default",
        pod="web",
        container="app",
        expected_generation=0,
        desired=CpuResources(limit_millicores=500),
        burst_usec=None,
        admitted=CpuResources(request_millicores=300, limit_millicores=300),
        restore_exactly=False,
        expires_after_seconds=expires_after_seconds,
        lane=Lane.NORMAL,
        reason=Reason.RAISED,
    )


def samples(handles: Sequence[int] = (1,), *, usage: int = 1000, seconds: int = 0) -> pb.Samples:
    count = len(handles)

    def column(value: int) -> bytes:
        return struct.pack(f"<{count}q", *[value] * count)

    return pb.Samples(
        handles=struct.pack(f"<{count}i", *handles),
        usage_usec=column(usage),
        nr_periods=column(10),
        nr_throttled=column(1),
        throttled_usec=column(100),
        nr_bursts=column(0),
        quota_usec=column(40_000),
        period_usec=column(100_000),
        burst_usec=column(0),
        detail_seconds=bytes([seconds] * count),
        slice_millicores=struct.pack(f"<{10 * seconds * count}H", *range(10 * seconds * count)),
        second_throttled=bytes(seconds * count),
    )


def container(handle: int = 1, *, pod: str = "web", **fields: Given) -> pb.ContainerFacts:
    facts: dict[str, Any] = {
        "handle": handle,
        "pod_uid": f"uid-{handle}",
        "namespace": "default",
        "pod": pod,
        "container": "app",
        "container_id": f"run-{handle}",
        "spec": pb.CpuResources(request_millicores=300, limit_millicores=400),
    }
    return pb.ContainerFacts(**(facts | fields))


def report(
    node: str = "node-a",
    *,
    sequence: int = 1,
    boot: str = "boot-1",
    start: int = 1000,
    nonce: int = 5,
    **fields: Given,
) -> pb.NodeReport:
    given: dict[str, Any] = {
        "node_name": node,
        "instance": pb.ShimInstance(boot_id=boot, start_monotonic_usec=start, nonce=nonce),
        "sequence": sequence,
        "monotonic_time_usec": 1_000_000 * sequence,
    }
    if sequence == 1:
        given |= {
            "full_inventory": True,
            "node_facts": pb.NodeFacts(
                allocatable_millicores=1600,
                cpu_count=2,
                cgroup_version=2,
                enforcement=pb.ENFORCEMENT_CGROUP,
            ),
            "containers": [container(1)],
            "samples": samples((1,)),
        }
    return pb.NodeReport(**(given | fields))


def settings(**fields: Given) -> Settings:
    given: dict[str, Any] = {
        "listen_address": "127.0.0.1:0",
        "http_address": "",
        "tick_period_seconds": 0.1,
        "tick_spacing_seconds": 0.01,
        "heartbeat_seconds": 0.5,
        "stop_grace_seconds": 10.0,
    }
    return Settings(**(given | fields))


@dataclass(eq=False)
class Server:
    core: FakeCore
    running: Serving
    channel: grpc.aio.Channel

    @property
    def address(self) -> str:
        return self.running.listen_address


@asynccontextmanager
async def server(core: FakeCore | None = None, **fields: Given) -> AsyncIterator[Server]:
    """A server with a small core, and a channel to it."""
    core = core or FakeCore()
    async with (
        serving(settings(**fields), core, SystemClock()) as running,
        grpc.aio.insecure_channel(running.listen_address) as channel,
    ):
        yield Server(core=core, running=running, channel=channel)


class Shim:
    """One stream to the server."""

    def __init__(self, channel: grpc.aio.Channel, **metadata: str) -> None:
        self.call: grpc.aio.StreamStreamCall[bytes, pb.NodeDirective] = channel.stream_stream(
            "/mbcas.v1.NodeLink/Connect", response_deserializer=pb.NodeDirective.FromString
        )(metadata=tuple(metadata.items()))

    async def send(self, message: pb.NodeReport | bytes) -> None:
        given = message if isinstance(message, bytes) else message.SerializeToString()
        async with asyncio.timeout(10):
            await self.call.write(given)

    async def read(self) -> pb.NodeDirective:
        async with asyncio.timeout(10):
            directive = await self.call.read()
        assert isinstance(directive, pb.NodeDirective), "the stream goes on"
        return directive

    async def read_until(self, kind: str) -> pb.NodeDirective:
        while True:
            directive = await self.read()
            if directive.WhichOneof("body") == kind:
                return directive

    async def ending(self) -> grpc.aio.AioRpcError:
        """Reads until the stream ends with an error, and returns it."""
        try:
            async with asyncio.timeout(10):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("the stream ended without an error")


async def eventually(condition: Callable[[], object]) -> None:
    """Waits until the condition holds; for what crosses a socket."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event.
            await asyncio.sleep(0.005)


@dataclass
class VirtualClock:
    """Time that moves only when somebody sleeps or says so."""

    now: float = 1000.0
    sleepers: list[tuple[float, asyncio.Event]] = field(default_factory=list)

    def now_seconds(self) -> float:
        return self.now

    def unix_seconds(self) -> float:
        return 1_700_000_000.0 + self.now

    async def sleep_until(self, deadline_seconds: float) -> None:
        if deadline_seconds <= self.now:
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        self.sleepers.append((deadline_seconds, woken))
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        """Lets time pass and wakes whom it is time to wake."""
        self.now += seconds
        due = [item for item in self.sleepers if item[0] <= self.now]
        self.sleepers = [item for item in self.sleepers if item[0] > self.now]
        for _, woken in sorted(due, key=lambda item: item[0]):
            woken.set()
        for _ in range(20):
            await asyncio.sleep(0)
