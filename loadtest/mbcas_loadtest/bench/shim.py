"""What a shim costs: its real process, real cgroups where they can be made, a server that is none.

The cgroups hold no process: to read a counter costs the same whether it moves or not, and the
settings directive makes the shim treat every container as busy (or as calm). Time from an order to
the kernel is taken after the window in which the cost is measured.
"""

import asyncio
import contextlib
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from mbcas.v1 import node_link_pb2 as pb
from mbcas.v1 import node_link_pb2_grpc as rpc
from mbcas_loadtest.clock import monotonic_seconds

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_WARMUP_SECONDS = 3.0  # Imports, the first inventory, the first reports.
_ORDERS = 40
_HEARTBEAT_SECONDS = 5.0
_STOP_SECONDS = 20.0
_LIMIT_MILLICORES = 500

Context = grpc.aio.ServicerContext[pb.NodeReport, pb.NodeDirective]


def bench_shim(*, containers: int = 220, seconds: float = 20, busy: bool = True) -> dict[str, Any]:
    """Measures a shim's share of a core and its memory.

    Args:
        containers: How many containers the node has.
        seconds: How long to measure, after a warm-up.
        busy: Follow every container ten times a second; else all are calm.

    Returns:
        `cpu_cores`, `rss_bytes`, `reports_per_second`, `report_bytes`, `slices_dropped`,
        `order_to_kernel_ms` (p50, p95, max; from the server's write to the new quota), and
        `environment`: `cgroup-v1`, or `files` where no cgroup could be made.
    """
    return asyncio.run(_measure(containers, seconds, busy=busy))


async def _measure(containers: int, seconds: float, *, busy: bool) -> dict[str, Any]:
    with _tree(containers) as tree, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "containers.yaml"
        file.write_text(_containers_yaml(tree.paths))
        link = _Link(busy=busy)
        address = f"unix:{folder}/link.sock"
        server = grpc.aio.server()
        rpc.add_NodeLinkServicer_to_server(link, server)
        server.add_insecure_port(address)
        await server.start()
        try:
            async with _shim(tree.root, file, address) as process_id:
                await asyncio.wait_for(link.connected.wait(), timeout=_STOP_SECONDS)
                await asyncio.sleep(_WARMUP_SECONDS)
                figures = await _window(link, process_id, seconds)
                if tree.is_real:
                    figures["order_to_kernel_ms"] = await _order_latency(link, tree.quota_files[0])
        finally:
            await server.stop(grace=None)
    return {
        "environment": "cgroup-v1" if tree.is_real else "files",
        "containers": containers,
        "busy": busy,
        "seconds": seconds,
        **figures,
    }


async def _window(link: "_Link", process_id: int, seconds: float) -> dict[str, Any]:
    link.reports = link.report_bytes = link.slices_dropped = link.seconds_of_detail = 0
    cpu, start = _cpu_seconds(process_id), monotonic_seconds()
    await asyncio.sleep(seconds)
    elapsed = monotonic_seconds() - start
    return {
        "cpu_cores": (_cpu_seconds(process_id) - cpu) / elapsed,
        "rss_bytes": _rss_bytes(process_id),
        "reports_per_second": link.reports / elapsed,
        "report_bytes": link.report_bytes / max(1, link.reports),
        "detail_seconds_per_second": link.seconds_of_detail / elapsed,
        "slices_dropped": link.slices_dropped,
    }


async def _order_latency(link: "_Link", quota_file: Path) -> dict[str, float]:
    """Times orders for the first container until the kernel's file shows each."""
    latencies_ms: list[float] = []
    for number in range(1, _ORDERS + 1):
        limit = _LIMIT_MILLICORES - 100 if number % 2 else _LIMIT_MILLICORES
        order = pb.Order(
            order_id=number,
            pod_uid="local/c0",
            container="c0",
            desired=pb.CpuResources(limit_millicores=limit),
            lane=pb.LANE_EMERGENCY,
        )
        start = monotonic_seconds()
        await link.outgoing.put(pb.NodeDirective(orders=pb.Orders(orders=[order])))
        while _read_int(quota_file) != limit * 100:
            await asyncio.sleep(0.0002)
            if monotonic_seconds() - start > _STOP_SECONDS:
                raise TimeoutError(f"order {number} was not carried out")
        latencies_ms.append((monotonic_seconds() - start) * 1000)
        await asyncio.sleep(0.037)  # Not in step with the ten reads a second.
    return {
        "p50": statistics.median(latencies_ms),
        "p95": statistics.quantiles(latencies_ms, n=20)[-1],
        "max": max(latencies_ms),
    }


class _Link(rpc.NodeLinkServicer):
    """A server that only listens, and sends what it is given."""

    def __init__(self, *, busy: bool) -> None:
        self.connected = asyncio.Event()
        self.outgoing: asyncio.Queue[pb.NodeDirective] = asyncio.Queue()
        self.reports = self.report_bytes = self.slices_dropped = self.seconds_of_detail = 0
        self._settings = pb.Settings(
            hot_interval=Duration(seconds=1),
            busy_interval=Duration(seconds=2),
            calm_interval=Duration(seconds=5),
            # Every use is at least 0: with these ratios all containers are hot.
            hot_usage_ratio=0.0 if busy else 0.9,
            calm_usage_ratio=0.0 if busy else 0.7,
            calm_after=Duration(seconds=10 if busy else 0),
            failsafe_after=Duration(seconds=300),
        )

    async def Connect(  # type: ignore[override]  # noqa: N802  # The stub knows only generators.
        self,
        request_iterator: object,
        context: Context,
    ) -> None:
        """Counts reports; uses the context's own read and write, which cost least."""
        del request_iterator
        async with asyncio.TaskGroup() as group:
            writers = [
                group.create_task(self._write(context), name="bench-write"),
                group.create_task(self._beat(), name="bench-heartbeat"),
            ]
            while True:
                report: object = await context.read()
                if not isinstance(report, pb.NodeReport):
                    break
                self._count(report)
                self.connected.set()
            for writer in writers:
                writer.cancel()

    async def _write(self, context: Context) -> None:
        sequence = 1
        await context.write(pb.NodeDirective(sequence=sequence, settings=self._settings))
        while True:
            directive = await self.outgoing.get()
            sequence += 1
            directive.sequence = sequence
            await context.write(directive)

    async def _beat(self) -> None:
        while True:
            await self.outgoing.put(pb.NodeDirective(heartbeat=pb.Heartbeat()))
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    def _count(self, report: pb.NodeReport) -> None:
        self.reports += 1
        self.report_bytes += report.ByteSize()
        self.slices_dropped += report.samples.slices_dropped
        self.seconds_of_detail += sum(report.samples.detail_seconds)


@dataclass
class _Tree:
    """The containers' cgroups, or plain files that look like them."""

    root: Path
    is_real: bool
    paths: list[str] = field(default_factory=list)
    quota_files: list[Path] = field(default_factory=list)


@contextlib.contextmanager
def _tree(containers: int) -> Iterator[_Tree]:
    name = f"mbcas-bench-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        root = _CGROUP_ROOT
        is_real = os.access(root / "cpu", os.W_OK) and (root / "cpu" / "cpu.shares").exists()
        if not is_real:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tree = _Tree(root, is_real)
        folders = [root / controller / name for controller in ("cpu", "cpuacct")]
        for folder in dict.fromkeys(folder.resolve() for folder in folders):
            stack.callback(folder.rmdir if is_real else lambda: None)
            folder.mkdir(parents=True)
            for index in range(containers):
                group = folder / f"c{index}"
                group.mkdir()
                stack.callback(group.rmdir if is_real else lambda: None)
                if not is_real:
                    _imitate(group)
        tree.paths = [f"{name}/c{index}" for index in range(containers)]
        tree.quota_files = [root / "cpu" / path / "cpu.cfs_quota_us" for path in tree.paths]
        yield tree


def _imitate(group: Path) -> None:
    for file, text in {
        "cpuacct.usage": "123456789\n",
        "cpu.stat": "nr_periods 10\nnr_throttled 1\nthrottled_time 5000\nnr_bursts 0\n",
        "cpu.cfs_quota_us": "-1\n",
        "cpu.cfs_period_us": "100000\n",
        "cpu.cfs_burst_us": "0\n",
        "cpu.shares": "1024\n",
    }.items():
        (group / file).write_text(text)


def _containers_yaml(paths: list[str]) -> str:
    rows = "".join(
        f"- {{name: c{index}, cgroup: {path}, request: 1m, limit: {_LIMIT_MILLICORES}m}}\n"
        for index, path in enumerate(paths)
    )
    return f"node: {{allocatable: 1600m}}\ncontainers:\n{rows}"


@contextlib.asynccontextmanager
async def _shim(root: Path, file: Path, address: str) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mbcas_shim",
        f"--containers-file={file}",
        f"--cgroup-root={root}",
        f"--server-address={address}",
        "--node-name=bench",
        "--log-level=warning",
    )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), timeout=_STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def _cpu_seconds(process_id: int) -> float:
    """CPU time of a process, finer than the ticks of /proc/PID/stat: the sum of its threads'."""
    threads = Path(f"/proc/{process_id}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _read_int(path: Path) -> int:
    return int(path.read_text())


def _rss_bytes(process_id: int) -> int:
    status = Path(f"/proc/{process_id}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
