"""What `Allocate` costs a caller while a whole cluster reports, and while others flood the server.

The server runs as it does in production, in a process of its own; shims and flooding clients run in
further processes of low priority (`allocate_load`). Requests are made beforehand, sent at fixed
times whether or not earlier ones were answered, and timed in the client. Between two of them goes a
health check: what that takes is the transport's, the client's and the machine's share.
"""

import asyncio
import itertools
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2
from prometheus_client.parser import text_string_to_metric_families

from mbcas_loadtest.bench.allocate_load import Call, allocate_request

START_SECONDS = 60.0
WARMUP_SECONDS = 20.0  # A round is 15 s: every node has had one.
FLOOD_WARMUP_SECONDS = 3.0
IDLE_SECONDS = 20.0
BIDS = 50
ID_BYTES = 16
SCRAPE_SECONDS = 15  # As Prometheus would.
HTTP_ADDRESS = "127.0.0.1:17480"
WAIT_METRIC, TICK_METRIC = "mbcas_server_report_wait_seconds", "mbcas_server_tick_seconds"

Figures = dict[str, Any]


def bench_allocate(
    *,
    nodes: int = 1_000,
    rate: float = 20.0,
    duration_seconds: float = 60.0,
    flood_clients: int = 4,
) -> Figures:
    """Measures `Allocate` with 50 bids on a node of 100 containers: idle, loaded and flooded.

    Args:
        nodes: How many report, 30 containers each, but the node that is asked about.
        rate: Requests a second, and as many health checks.
        duration_seconds: Of each measurement under load, after a warm-up.
        flood_clients: Clients that each send the largest legal request, again and again.
    """
    return asyncio.run(_bench(nodes, rate, duration_seconds, flood_clients))


async def _bench(nodes: int, rate: float, duration_seconds: float, clients: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/mbcas.sock"
        async with (
            _process("mbcas_server", *_server_flags(address, nodes)) as server,
            grpc.aio.insecure_channel(address) as channel,
        ):
            async with asyncio.timeout(START_SECONDS):
                await channel.channel_ready()
            async with _load("shims", address, 1):
                await _wait_for_node(channel)
                idle = await _measure(channel, server.pid, rate, IDLE_SECONDS)
            async with (
                _load("shims", address, nodes),
                _load("scrapes", f"http://{HTTP_ADDRESS}/metrics", SCRAPE_SECONDS),
            ):
                await asyncio.sleep(WARMUP_SECONDS)
                loaded = await _measure(channel, server.pid, rate, duration_seconds)
                async with _load("flood", address, clients) as flood:
                    await asyncio.sleep(FLOOD_WARMUP_SECONDS)
                    flooded = await _measure(channel, server.pid, rate, duration_seconds)
                flooded["large_requests"] = await _read_counts(flood)
                await asyncio.sleep(FLOOD_WARMUP_SECONDS)
                after_bytes = _memory_bytes(server.pid)["VmRSS"]
    return {
        "nodes": nodes,
        "idle": idle,
        "loaded": loaded,
        "flooded": flooded,
        "resident_bytes_after_flood": after_bytes,
        "p99_loaded_over_idle": _ratio(loaded, idle),
        "p99_flooded_over_loaded": _ratio(flooded, loaded),
    }


def _server_flags(address: str, nodes: int) -> list[str]:
    return [
        f"--listen-address={address}",
        f"--http-address={HTTP_ADDRESS}",
        "--log-level=warning",
        f"--max-nodes={max(nodes, 1)}",
        "--mode=auto",
        "--policy=requests-and-limits",
    ]


@asynccontextmanager
async def _process(
    module: str,
    *arguments: str,
    **options: Any,  # noqa: ANN401 - of the subprocess.
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, **options
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def _load(role: str, address: str, count: int) -> AsyncIterator[asyncio.subprocess.Process]:
    module, pipe = "mbcas_loadtest.bench.allocate_load", asyncio.subprocess.PIPE
    async with _process(module, role, address, str(count), stdout=pipe) as process:
        assert process.stdout is not None, "it was asked for"
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
        if line != b"ready\n":
            raise RuntimeError(f"the {role} did not start: {line!r}")
        yield process


async def _read_counts(flood: asyncio.subprocess.Process) -> Figures:
    """Returns how many of the largest requests were answered and refused."""
    assert flood.stdout is not None, "it was asked for"
    lines = (await flood.stdout.read()).splitlines()
    answered, refused = map(int, lines[-1].split()) if lines else (0, 0)
    return {"answered": answered, "refused": refused}


async def _wait_for_node(channel: grpc.aio.Channel) -> None:
    call: Call = channel.unary_unary("/mbcas.v1.Market/Allocate")
    request = allocate_request(BIDS, id_bytes=ID_BYTES)
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                await call(request)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)
            else:
                return


async def _measure(
    channel: grpc.aio.Channel, pid: int, rate: float, duration_seconds: float
) -> Figures:
    """Sends requests and health checks by turns."""
    health_request = health_pb2.HealthCheckRequest().SerializeToString()
    check: Call = channel.unary_unary("/grpc.health.v1.Health/Check")
    allocate: Call = channel.unary_unary("/mbcas.v1.Market/Allocate")
    request = allocate_request(BIDS, id_bytes=ID_BYTES)
    _forget_peak(pid)
    before, before_cpu = await _scrape(), _process_cpu_seconds(pid)
    begin = time.perf_counter()
    allocate_msec: list[float] = []
    check_msec: list[float] = []
    async with asyncio.TaskGroup() as group:
        # At random times: at even ones, each would meet every tick, or none would.
        gaps = np.random.default_rng(7).exponential(0.5 / rate, 2 * round(duration_seconds * rate))
        turns = ((allocate, request, allocate_msec), (check, health_request, check_msec))
        for due, turn in zip(begin + np.cumsum(gaps), itertools.cycle(turns), strict=False):
            await asyncio.sleep(due - time.perf_counter())
            group.create_task(_time(*turn), name="ask")
    wall_seconds = time.perf_counter() - begin
    after = await _scrape()
    memory = _memory_bytes(pid)
    return {
        "allocate_msec": _percentiles(allocate_msec),
        "health_check_msec": _percentiles(check_msec),
        "server_cpu_cores": round((_process_cpu_seconds(pid) - before_cpu) / wall_seconds, 3),
        "reports_per_second": round(_count(before, after, WAIT_METRIC) / wall_seconds),
        "report_wait_msec": _histogram_msec(before, after, WAIT_METRIC),
        "tick_msec": _histogram_msec(before, after, TICK_METRIC),
        "resident_bytes": memory["VmRSS"],
        "peak_resident_bytes": memory["VmHWM"],
    }


async def _time(ask: Call, message: bytes, msec: list[float]) -> None:
    begin = time.perf_counter()
    await ask(message)
    msec.append(1000 * (time.perf_counter() - begin))


async def _scrape() -> dict[str, float]:
    """Returns every sample of the server's metrics that has no label but a bucket's bound."""

    def get() -> str:
        with urllib.request.urlopen(f"http://{HTTP_ADDRESS}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    text = await asyncio.to_thread(get)
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for family in text_string_to_metric_families(text)
        if family.name in {WAIT_METRIC, TICK_METRIC}
        for sample in family.samples
    }


def _count(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after[f"{name}_count"] - before[f"{name}_count"]


def _histogram_msec(before: dict[str, float], after: dict[str, float], name: str) -> Figures:
    """Returns the mean, and the bounds of the buckets that hold the median and the 99th."""
    count = max(_count(before, after, name), 1.0)
    total = after[f"{name}_sum"] - before[f"{name}_sum"]

    def bound(share: float) -> Iterator[float]:
        for key, value in after.items():
            if key.startswith(f"{name}_bucket") and value - before[key] >= share * count:
                yield 1000 * float(key.removeprefix(f"{name}_bucket"))

    return {
        "mean": round(1000 * total / count, 1),
        "p50_at_most": min(bound(0.5), default=None),
        "p99_at_most": min(bound(0.99), default=None),
    }


def _percentiles(msec: list[float]) -> Figures:
    values = np.array(msec)
    figures = {f"p{share}": round(float(np.percentile(values, share)), 2) for share in (50, 95, 99)}
    return {**figures, "max": round(float(values.max()), 2), "count": len(msec)}


def _ratio(figures: Figures, base: Figures) -> float:
    p99, base_p99 = (float(item["allocate_msec"]["p99"]) for item in (figures, base))
    return round(p99 / base_p99, 2)


def _process_cpu_seconds(pid: int) -> float:
    """User and system time of a process: fields 14 and 15 of /proc/PID/stat, see proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_bytes(pid: int) -> dict[str, int]:
    """Returns VmRSS, the resident memory, and VmHWM, its peak since that was last reset."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM")}


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
