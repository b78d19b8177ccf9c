"""What loads a server while `bench allocate` asks it: shims, a scraper, clients that flood it.

Each is a process of its own, of low priority: on a cluster they run elsewhere, and the CPU they
need is not the server's. Run as `python -m mbcas_loadtest.bench.allocate_load ROLE ADDRESS NUMBER`:
`shims` of so many nodes, `scrapes` with so many seconds between them, `flood` of so many clients.
It prints `ready` once its load stands, and goes on until it is ended.
"""

import asyncio
import os
import sys
import urllib.request
from dataclasses import dataclass, field

import grpc
import numpy as np

from mbcas.v1 import market_pb2, node_link_pb2
from mbcas_core.market.allocate import MAX_BIDS, MAX_ID_BYTES
from mbcas_core.units import IntArray

CONTAINERS = 30
LARGE_CONTAINERS = 100
LARGE_NODE = "node-0"
REQUEST_MILLICORES = 400
CHANNELS = 8  # Streams share connections; shims have one each.
NICE = 10
HOT_EVERY, BUSY_EVERY = 5, 5  # Of five nodes one is hot, one busy, three are calm.
PERIOD_USEC = 100_000
FLOOD_PAUSE_SECONDS = 0.05  # A client that was refused comes again after this.
START_SECONDS = 60.0

Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


@dataclass(eq=False, slots=True)
class FakeShim:
    """One node: reports as often as the settings say, and carries out what it is told."""

    index: int
    containers: int
    generator: np.random.Generator
    sequence: int = 0
    interval_seconds: float = 5.0
    results: list[node_link_pb2.OrderResult] = field(default_factory=list)
    quota_usec: IntArray = field(init=False)
    usage_usec: IntArray = field(init=False)
    nr_periods: IntArray = field(init=False)
    nr_throttled: IntArray = field(init=False)

    def __post_init__(self) -> None:
        zeros = np.zeros(self.containers, np.int64)
        self.usage_usec, self.nr_periods, self.nr_throttled = zeros, zeros.copy(), zeros.copy()
        self.quota_usec = zeros + REQUEST_MILLICORES * PERIOD_USEC // 1000

    @property
    def node(self) -> str:
        return f"node-{self.index}"

    @property
    def heat(self) -> str:
        return ("hot", "busy", "calm", "calm", "calm")[self.index % 5]

    def take(self, directive: node_link_pb2.NodeDirective) -> None:
        """Notes the settings; applies orders, whose results go with the next report."""
        match directive.WhichOneof("body"):
            case "settings":
                interval = getattr(directive.settings, f"{self.heat}_interval")
                self.interval_seconds = interval.seconds + interval.nanos / 1e9
            case "orders":
                for order in directive.orders.orders:
                    self.results.append(
                        node_link_pb2.OrderResult(
                            order_id=order.order_id,
                            outcome=node_link_pb2.OUTCOME_APPLIED,
                            actual=order.desired,
                        )
                    )
                    handle = int(order.container.removeprefix("c"))
                    limit = order.desired.limit_millicores
                    if order.desired.HasField("limit_millicores"):
                        self.quota_usec[handle - 1] = limit * PERIOD_USEC // 1000
            case _:
                pass

    def report(self) -> bytes:
        """Makes the next report."""
        self.sequence += 1
        report = node_link_pb2.NodeReport(
            node_name=self.node,
            instance=node_link_pb2.ShimInstance(
                boot_id="bench", start_monotonic_usec=1, nonce=1 + self.index
            ),
            sequence=self.sequence,
            monotonic_time_usec=round(1e6 * self.sequence * self.interval_seconds),
            order_results=self.results,
            samples=self._samples(),
        )
        self.results = []
        if self.sequence == 1:
            self._add_inventory(report)
        return report.SerializeToString()

    def _samples(self) -> node_link_pb2.Samples:
        """In a hot node a tenth of the containers is throttled; a busy third brings its detail."""
        count = self.containers
        seconds = self.interval_seconds
        least, most = {"hot": (0.2, 1.0), "busy": (0.2, 0.8), "calm": (0.05, 0.5)}[self.heat]
        ratio = self.generator.uniform(least, most, count)
        throttled = np.zeros(count, np.int64)
        if self.heat == "hot":
            ratio[: count // 10], throttled[: count // 10] = 1.0, 1
        periods = round(1e6 * seconds / PERIOD_USEC)
        self.usage_usec += (ratio * self.quota_usec * periods).astype(np.int64)
        self.nr_periods += periods
        self.nr_throttled += throttled * periods // 2
        busy = 0 if self.heat == "calm" else count // 3
        detail = round(seconds) if busy else 0
        slices = np.repeat((ratio[:busy] * self.quota_usec[:busy] / 100), 10 * detail)
        return node_link_pb2.Samples(
            handles=np.arange(1, count + 1, dtype="<i4").tobytes(),
            usage_usec=_column(self.usage_usec),
            nr_periods=_column(self.nr_periods),
            nr_throttled=_column(self.nr_throttled),
            throttled_usec=_column(self.nr_throttled * 20_000),
            nr_bursts=_column(np.zeros(count, np.int64)),
            quota_usec=_column(self.quota_usec),
            period_usec=_column(np.full(count, PERIOD_USEC)),
            burst_usec=_column(np.zeros(count, np.int64)),
            detail_seconds=bytes([detail] * busy + [0] * (count - busy)),
            slice_millicores=slices.astype("<u2").tobytes(),
            second_throttled=bytes(busy * detail),
        )

    def _add_inventory(self, report: node_link_pb2.NodeReport) -> None:
        report.full_inventory = True
        report.node_facts.allocatable_millicores = self.containers * REQUEST_MILLICORES * 4 // 3
        report.node_facts.cpu_count = 64
        report.node_facts.cgroup_version = 2
        # They patch pods, so the resize budget bounds the orders, as on a cluster of this size.
        report.node_facts.enforcement = node_link_pb2.ENFORCEMENT_RESIZE
        for handle in range(1, self.containers + 1):
            pod = f"{self.node}-{(handle + 1) // 2}"
            facts = report.containers.add(
                handle=handle,
                pod_uid=pod,
                namespace="bench",
                pod=pod,
                container=f"c{handle}",
                container_id=f"{self.node}-{handle}",
            )
            facts.spec.request_millicores = facts.spec.limit_millicores = REQUEST_MILLICORES


def allocate_request(bids: int, *, id_bytes: int, node: str = LARGE_NODE) -> bytes:
    """Makes a request whose bids all fit above their small floors, and mostly are rationed."""
    request = market_pb2.AllocateRequest(node=node)
    for index in range(bids):
        request.bids.add(
            id=f"{index:0{id_bytes}}",
            need_millicores=100 + 37 * index % 900,
            floor_millicores=index % 3 if bids <= LARGE_CONTAINERS else 0,
            weight=100.0 + index % 700,
        )
    return request.SerializeToString()


def _column(values: IntArray) -> bytes:
    return values.astype("<i8").tobytes()


async def _run_shims(address: str, count: int) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
    generators = np.random.default_rng(7).spawn(count)
    async with asyncio.timeout(START_SECONDS):
        for channel in channels:
            await channel.channel_ready()
    async with asyncio.TaskGroup() as group:
        for index in range(count):
            containers = CONTAINERS if index else LARGE_CONTAINERS
            shim = FakeShim(index, containers, generators[index])
            call: grpc.aio.StreamStreamCall[bytes, bytes] = channels[
                index % CHANNELS
            ].stream_stream("/mbcas.v1.NodeLink/Connect")()
            # One after the other: a shim that connects and does not report is turned away.
            await call.write(shim.report())
            group.create_task(_read_directives(call, shim), name=f"read {shim.node}")
            group.create_task(_report(call, shim), name=f"report {shim.node}")
        _say_ready()


async def _read_directives(call: "grpc.aio.StreamStreamCall[bytes, bytes]", shim: FakeShim) -> None:
    while isinstance(message := await call.read(), bytes):
        shim.take(node_link_pb2.NodeDirective.FromString(message))
    raise RuntimeError(f"the server ended {shim.node}: {await call.details()}")


async def _report(call: "grpc.aio.StreamStreamCall[bytes, bytes]", shim: FakeShim) -> None:
    loop = asyncio.get_running_loop()
    due_seconds = loop.time() + shim.generator.uniform(0.0, 1.0)
    while True:
        await asyncio.sleep(due_seconds - loop.time())
        await call.write(shim.report())
        due_seconds += shim.interval_seconds


async def _run_flood(address: str, count: int) -> None:
    """Sends the largest legal request from each client, again as soon as it is answered."""
    request = allocate_request(MAX_BIDS, id_bytes=MAX_ID_BYTES)
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", 16 << 20),
    ]
    counts = {"answered": 0, "refused": 0}

    async def client(channel: grpc.aio.Channel) -> None:
        call: Call = channel.unary_unary("/mbcas.v1.Market/Allocate")
        while True:
            try:
                await call(request)
                counts["answered"] += 1
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                counts["refused"] += 1
                await asyncio.sleep(FLOOD_PAUSE_SECONDS)
            print(counts["answered"], counts["refused"], flush=True)  # noqa: T201 - read by the bench.

    async with asyncio.TaskGroup() as group:
        for index in range(count):
            channel = grpc.aio.insecure_channel(address, options=options)
            group.create_task(client(channel), name=f"client {index}")
        _say_ready()


async def _run_scrapes(address: str, period_seconds: int) -> None:
    def scrape() -> None:
        with urllib.request.urlopen(address, timeout=period_seconds) as answer:  # noqa: S310 - the bench's own http address.
            answer.read()

    _say_ready()
    while True:
        await asyncio.to_thread(scrape)
        await asyncio.sleep(period_seconds)


def _say_ready() -> None:
    print("ready", flush=True)  # noqa: T201 - the process that started this one waits for it.


if __name__ == "__main__":
    os.nice(NICE)
    role, where, number = sys.argv[1:]
    roles = {"shims": _run_shims, "scrapes": _run_scrapes, "flood": _run_flood}
    asyncio.run(roles[role](where, int(number)))
