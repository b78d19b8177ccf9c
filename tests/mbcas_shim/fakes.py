"""A clock to be moved by hand, and trees of plain files that look like cgroups."""

import asyncio
import heapq
import itertools
from pathlib import Path

from mbcas_shim.cgroup import Bandwidth, CgroupTree
from mbcas_shim.cgroup_tree import open_tree
from mbcas_shim.containers import DeclaredContainer
from mbcas_shim.counters import Counters
from mbcas_shim.inventory import Inventory, Row

V1_FILES = {
    "cpu.stat": (
        "nr_periods 10\nnr_throttled 2\nthrottled_time 3000000\nnr_bursts 1\nburst_time 9\n"
    ),
    "cpu.cfs_quota_us": "30000\n",
    "cpu.cfs_period_us": "100000\n",
    "cpu.cfs_burst_us": "0\n",
    "cpu.shares": "307\n",
}
V1_USAGE = "5000000000\n"
V2_FILES = {
    "cpu.stat": (
        "usage_usec 5000000\nuser_usec 4000000\nsystem_usec 1000000\nnice_usec 0\n"
        "core_sched.force_idle_usec 0\nnr_periods 10\nnr_throttled 2\nthrottled_usec 3000\n"
        "nr_bursts 1\nburst_usec 9\n"
    ),
    "cpu.max": "30000 100000\n",
    "cpu.max.burst": "0\n",
    "cpu.weight": "41\n",
    "cpu.pressure": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=777\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"
    ),
}


class VirtualClock:
    """Time that passes only in `advance`."""

    def __init__(self, now_seconds: float = 1000.0) -> None:
        self._now_seconds = now_seconds
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now_seconds(self) -> float:
        return self._now_seconds

    async def sleep_until(self, deadline_seconds: float) -> None:
        if deadline_seconds <= self._now_seconds:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (deadline_seconds, next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Lets time pass, waking each sleeper at its own moment."""
        end_seconds = self._now_seconds + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end_seconds:
            deadline_seconds, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self._now_seconds = deadline_seconds
                future.set_result(None)
                await settle()
        self._now_seconds = end_seconds


async def settle() -> None:
    """Lets every task run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


def write_files(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def make_v1(root: Path, path: str = "api", **changes: str) -> Path:
    """Builds a tree of version 1 with controllers apart; returns the group's cpu folder."""
    write_files(root / "cpu" / path, {**V1_FILES, **changes})
    write_files(root / "cpuacct" / path, {"cpuacct.usage": V1_USAGE})
    return root / "cpu" / path


def make_v2(root: Path, path: str = "api", **changes: str) -> Path:
    """Builds a tree of version 2; returns the group's folder."""
    write_files(root, {"cgroup.controllers": "cpuset cpu io memory pids\n"})
    write_files(root / path, {**V2_FILES, **changes})
    return root / path


def declare(name: str = "api", **fields: object) -> DeclaredContainer:
    given: dict[str, object] = {"name": name, "cgroup": name, "request": "300m", "limit": "300m"}
    return DeclaredContainer.model_validate({**given, **fields})


def make_inventory(root: Path, *declared: DeclaredContainer) -> Inventory:
    inventory = Inventory(open_tree(root), Counters(VirtualClock()), boot_id="boot")
    inventory.declare(declared)
    inventory.refresh()
    return inventory


def only_row(inventory: Inventory) -> Row:
    (row,) = inventory.rows
    return row


def reopened(root: Path, path: str = "api") -> Bandwidth:
    """What the files say now."""
    tree: CgroupTree = open_tree(root)
    group = tree.open(path)
    try:
        return group.bandwidth()
    finally:
        group.close()
