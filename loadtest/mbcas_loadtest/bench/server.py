"""What the server costs: a report from the socket to the table, a tick, a round, a container.

Costs are CPU time, not time on the wall: other programs on the machine do not count. The server is
measured as it runs, in a process of its own over a unix socket; parsing, inbox and core are then
measured alone, so that what is left is the transport's.
"""

import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.events import (
    COUNTERS,
    ContainerFacts,
    CpuResources,
    Enforcement,
    Mode,
    NodeAttached,
    NodeFacts,
    Policy,
    Report,
    ReportArrived,
    Samples,
    TickDue,
)
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds
from mbcas_server.convert import parse_report
from mbcas_server.inbox import Inbox

CHANNELS = 8  # Streams share connections, as gRPC would have it; shims have one each.
WARMUP_SECONDS = 4.0
START_SECONDS = 30.0
REPEATS = 2_000
NODE_MILLICORES = 16_000
BUSY_SECONDS_OF_DETAIL = 1
ROUND_SECONDS = 15

Figures = dict[str, Any]


def bench_report_path(
    *,
    rates: tuple[int, ...] = (500, 2_000),
    containers: int = 30,
    duration_seconds: float = 10.0,
) -> Figures:
    """Measures one report from the socket to the table.

    Args:
        rates: Reports a second; each stream sends one a second.
        containers: In each report.
        duration_seconds: Of each rate's measurement, after a warm-up.

    Returns:
        For each rate the server's CPU time per message, everything included; and the parts of it
        that can be measured alone.
    """
    message = _message("node-0", 2, containers)
    parts = {
        "decode_usec": _usec(lambda: pb.NodeReport.FromString(message)),
        "decode_and_convert_usec": _usec(lambda: parse_report(message, unix_seconds=0.0)),
        "inbox_usec": _inbox_usec(containers),
    }
    measured = []
    for rate in rates:
        figures = asyncio.run(_measure_rate(rate, containers, duration_seconds))
        alone = parts["decode_and_convert_usec"] + parts["inbox_usec"]
        figures["parse_ratio"] = round(alone / 1000 / figures["cpu_msec_per_message"], 3)
        measured.append(figures)
    return {"message_bytes": len(message), "containers": containers, **parts, "rates": measured}


def bench_core(
    *,
    nodes: int = 5_000,
    containers: int = 30,
    reports_per_tick: int = 2_000,
    ticks: int = 20,
) -> Figures:
    """Measures the core alone: cost of a report, of a tick, of a round, memory per container.

    Args:
        nodes: All with the same number of containers.
        containers: Of each node, in pods of two.
        reports_per_tick: Nodes that report between two ticks, by turns.
        ticks: How many are measured, after those in which rows get their first samples.

    Returns:
        Figures in milliseconds and bytes. `round_msec` is a tick that clears every node at once;
        in a tick like any other a fifteenth of them is due. The nodes' shims patch pods, so the
        resize budget bounds the orders, as on a cluster of this size.
    """
    rows = nodes * containers
    rounds = Rounds(
        Parameters(
            mode=Mode.AUTO,
            policy=Policy.REQUESTS_AND_LIMITS,
            max_nodes=max(nodes, 1),
            max_containers=max(rows, 1),
            max_containers_per_node=max(containers, 1),
        )
    )
    gc.collect()
    resident_bytes = _resident_bytes()
    inventory_seconds = _cpu_seconds(lambda: _attach(rounds, nodes, containers))
    fleet = _Fleet(rounds, nodes, containers)
    first_ticks = [fleet.tick(nodes)[1] for _ in range(rounds.parameters.min_observed_seconds + 1)]
    measured = [fleet.tick(reports_per_tick) for _ in range(ticks)]
    gc.collect()
    report_usec = [1e6 * reports / reports_per_tick for reports, _ in measured]
    tick_msec = sorted(1000 * tick for _, tick in measured)
    return {
        "nodes": nodes,
        "containers": rows,
        "inventory_usec_per_container": round(1e6 * inventory_seconds / rows, 2),
        "report_usec": round(statistics.median(report_usec), 2),
        "tick_msec": {
            "median": round(statistics.median(tick_msec), 1),
            "max": round(tick_msec[-1], 1),
        },
        "round_msec": round(1000 * max(first_ticks), 1),
        "round_spread_over_15_ticks_msec": round(
            1000 * ROUND_SECONDS * statistics.mean(tick for _, tick in measured), 1
        ),
        "bytes_per_container": round((_resident_bytes() - resident_bytes) / rows),
    }


def find_bottleneck(report_path: Figures, core: Figures) -> str:
    """Says in a sentence what costs the most at the highest rate that was measured."""
    fastest = report_path["rates"][-1]
    rate = fastest["messages_per_second_reached"]
    parse = rate * (report_path["decode_and_convert_usec"] + report_path["inbox_usec"]) / 1e6
    intake = rate * core["report_usec"] / 1e6
    # The server that was measured also ticked, over fewer rows than `core`.
    parts = {
        "the transport, with that server's ticks": fastest["cpu_cores"] - parse - intake,
        "parsing": parse,
        "the core's intake": intake,
        "the core's ticks": core["tick_msec"]["median"] / 1e3,
    }
    name = max(parts, key=lambda part: parts[part])
    shown = ", ".join(f"{part} {cores:.2f}" for part, cores in parts.items())
    return f"{name} (cores at {rate} reports/s: {shown})"


async def _measure_rate(rate: int, containers: int, duration_seconds: float) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/mbcas.sock"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mbcas_server",
            f"--listen-address={address}",
            "--http-address=",
            "--log-level=warning",
            f"--max-nodes={rate}",
        )
        try:
            return await _drive(process.pid, address, rate, containers, duration_seconds)
        finally:
            process.terminate()
            await process.wait()


async def _drive(
    pid: int, address: str, rate: int, containers: int, duration_seconds: float
) -> Figures:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
    try:
        async with asyncio.timeout(START_SECONDS):
            for channel in channels:
                await channel.channel_ready()
        shims = []
        for index in range(rate):
            # One after the other: a shim that connects and does not report is turned away.
            shims.append(_Shim(channels[index % CHANNELS], index, containers))
            await shims[-1].send()
        await _send_evenly(shims, WARMUP_SECONDS)
        begin_cpu, begin = _process_cpu_seconds(pid), time.perf_counter()
        sent = await _send_evenly(shims, duration_seconds)
        cpu_seconds = _process_cpu_seconds(pid) - begin_cpu
        wall_seconds = time.perf_counter() - begin
        for shim in shims:
            shim.call.cancel()
    finally:
        for channel in channels:
            await channel.close()
    return {
        "messages_per_second": rate,
        "messages_per_second_reached": round(sent / wall_seconds),
        "cpu_cores": round(cpu_seconds / wall_seconds, 3),
        "cpu_msec_per_message": round(1000 * cpu_seconds / sent, 4),
    }


async def _send_evenly(shims: "list[_Shim]", duration_seconds: float) -> int:
    """Sends one report a second from each shim, evenly spread; returns how many were sent."""
    begin, sent = time.perf_counter(), 0
    spacing_seconds = 1.0 / len(shims)
    while (elapsed := time.perf_counter() - begin) < duration_seconds:
        while sent * spacing_seconds <= elapsed:
            await shims[sent % len(shims)].send()
            sent += 1
        await asyncio.sleep(0.001)
    return sent


class _Shim:
    def __init__(self, channel: grpc.aio.Channel, index: int, containers: int) -> None:
        self.call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(
            "/mbcas.v1.NodeLink/Connect"
        )()
        self._node = f"node-{index}"
        self._containers = containers
        self._sequence = 0

    async def send(self) -> None:
        self._sequence += 1
        try:
            await self.call.write(_message(self._node, self._sequence, self._containers))
        except (asyncio.InvalidStateError, grpc.RpcError) as error:
            code, details = await self.call.code(), await self.call.details()
            raise RuntimeError(f"the server ended {self._node}: {code.name} {details}") from error


def _message(node: str, sequence: int, containers: int) -> bytes:
    report = pb.NodeReport(
        node_name=node,
        instance=pb.ShimInstance(boot_id="bench", start_monotonic_usec=1, nonce=1),
        sequence=sequence,
        monotonic_time_usec=1_000_000 * sequence,
        samples=_sample_columns(sequence, containers),
    )
    if sequence == 1:
        report.full_inventory = True
        report.node_facts.allocatable_millicores = NODE_MILLICORES
        report.node_facts.cpu_count = 16
        report.node_facts.cgroup_version = 2
        report.node_facts.enforcement = pb.ENFORCEMENT_CGROUP
        for handle in range(1, containers + 1):
            facts = report.containers.add(
                handle=handle,
                pod_uid=f"{node}-{handle // 2}",
                namespace="bench",
                pod=f"{node}-{handle // 2}",
                container=f"c{handle}",
                container_id=f"{node}-{handle}",
            )
            facts.spec.request_millicores = facts.spec.limit_millicores = 400
    return report.SerializeToString()


def _sample_columns(sequence: int, containers: int) -> pb.Samples:
    """A third of the containers is busy and brings its detail."""
    busy = containers // 3
    usage = 100_000 * sequence + np.arange(containers)

    def column(values: object) -> bytes:
        return np.broadcast_to(np.asarray(values, "<i8"), (containers,)).tobytes()

    return pb.Samples(
        handles=np.arange(1, containers + 1, dtype="<i4").tobytes(),
        usage_usec=column(usage),
        nr_periods=column(10 * sequence),
        nr_throttled=column(0),
        throttled_usec=column(0),
        nr_bursts=column(0),
        quota_usec=column(40_000),
        period_usec=column(100_000),
        burst_usec=column(0),
        detail_seconds=bytes([BUSY_SECONDS_OF_DETAIL] * busy + [0] * (containers - busy)),
        slice_millicores=np.full(10 * busy, 100, "<u2").tobytes(),
        second_throttled=bytes(busy),
    )


def _inbox_usec(containers: int) -> float:
    inbox = Inbox(samples_max=4)
    reports = [
        parse_report(_message("node-0", sequence, containers), unix_seconds=0.0)
        for sequence in range(1, REPEATS + 1)
    ]
    left = iter(reports)
    return _usec(lambda: inbox.put(next(left)))


class _Fleet:
    """Nodes that report by turns, in the core's own types."""

    def __init__(self, rounds: Rounds, nodes: int, containers: int) -> None:
        self._rounds = rounds
        self._nodes = nodes
        self._containers = containers
        self._second = 0
        self._next = 0
        self._generator = np.random.default_rng(7)
        self._usage = np.zeros((nodes, containers), np.int64)
        self._told = np.zeros(nodes, np.int64)

    def tick(self, reports: int) -> tuple[float, float]:
        """Lets nodes report and the tick come; returns the CPU seconds of both."""
        self._second += 1
        events = [
            self._report((self._next + offset) % self._nodes)
            for offset in range(min(reports, self._nodes))
        ]
        self._next = (self._next + reports) % self._nodes
        handle = self._rounds.handle
        reports_seconds = _cpu_seconds(lambda: [handle(event) for event in events])
        due = TickDue(time_seconds=float(self._second) + 0.5)
        return reports_seconds, _cpu_seconds(lambda: handle(due))

    def _report(self, node: int) -> ReportArrived:
        elapsed = self._second - int(self._told[node])
        self._told[node] = self._second
        use = self._generator.integers(20_000, 390_000, self._containers)
        self._usage[node] += elapsed * use
        busy = self._containers // 3
        counters = np.zeros((len(COUNTERS), self._containers), np.int64)
        counters[COUNTERS.index("usage_usec")] = self._usage[node]
        counters[COUNTERS.index("nr_periods")] = 10 * self._second
        counters[COUNTERS.index("quota_usec")] = 40_000
        counters[COUNTERS.index("period_usec")] = 100_000
        samples = Samples(
            node_time_seconds=float(self._second),
            handles=np.arange(1, self._containers + 1, dtype=np.int32),
            counters=counters,
            detail_seconds=np.array([1] * busy + [0] * (self._containers - busy), np.uint8),
            slice_millicores=np.repeat(use[:busy] // 1000, 10).astype(np.uint16),
            second_throttled=np.zeros(busy, np.uint8),
        )
        return ReportArrived(
            node=f"node-{node}",
            time_seconds=float(self._second),
            report=Report(samples=(samples,)),
        )


def _attach(rounds: Rounds, nodes: int, containers: int) -> None:
    spec = CpuResources(request_millicores=400, limit_millicores=400)
    for node in range(nodes):
        name = f"node-{node}"
        rounds.handle(NodeAttached(node=name, time_seconds=0.0))
        facts = tuple(
            ContainerFacts(
                handle=handle,
                pod_uid=f"{name}-{handle // 2}",
                namespace="bench",
                pod=f"{name}-{handle // 2}",
                container=f"c{handle}",
                container_id=f"{name}-{handle}",
                spec=spec,
            )
            for handle in range(1, containers + 1)
        )
        report = Report(
            full_inventory=True,
            node_facts=NodeFacts(
                allocatable_millicores=NODE_MILLICORES, cpu_count=16, enforcement=Enforcement.RESIZE
            ),
            containers=facts,
        )
        rounds.handle(ReportArrived(node=name, time_seconds=0.0, report=report))


def _usec(work: Callable[[], object]) -> float:
    begin = time.process_time()
    for _ in range(REPEATS):
        work()
    return round(1e6 * (time.process_time() - begin) / REPEATS, 2)


def _cpu_seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _process_cpu_seconds(pid: int) -> float:
    """User and system time of a process: fields 14 and 15 of /proc/PID/stat, see proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
