"""One container's CPU cgroup for a measurement: counters, quota, and when its periods start."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mbcas_core.units import CPU_PERIOD_SECONDS, CPU_PERIOD_USEC, MILLICORES_PER_CORE
from mbcas_loadtest.node import cgroups

CONTAINER = "measured"
MOST_MILLICORES = 32_000
"""Declared: the greatest weight that there is, so that what else runs here distorts little."""
NSEC_PER_USEC = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Cumulative, as the kernel counts them."""

    usage_usec: float
    nr_periods: int
    nr_throttled: int
    throttled_usec: float
    nr_bursts: int


class Group:
    """The group of the container that is measured; its files stay open."""

    def __init__(self, hierarchy: cgroups.Hierarchy, node: cgroups.Node, files: ExitStack) -> None:
        self._is_v1 = hierarchy.version == cgroups.V1
        self._node = node
        self._folders = [root / node.name / CONTAINER for root in hierarchy.roots]
        self._stat = _open(self._folders[0] / "cpu.stat", files)
        self._usage = _open(self._folders[-1] / "cpuacct.usage", files) if self._is_v1 else None

    def attach(self, pid: int) -> None:
        self._node.attach(CONTAINER, pid)

    def read(self) -> Counters:
        stat = dict(line.split() for line in os.pread(self._stat, 4096, 0).decode().splitlines())
        if self._usage is None:
            usage_usec = float(stat["usage_usec"])
            throttled_usec = float(stat["throttled_usec"])
        else:
            usage_usec = int(os.pread(self._usage, 64, 0)) / NSEC_PER_USEC
            throttled_usec = int(stat["throttled_time"]) / NSEC_PER_USEC
        return Counters(
            usage_usec=usage_usec,
            nr_periods=int(stat["nr_periods"]),
            nr_throttled=int(stat["nr_throttled"]),
            throttled_usec=throttled_usec,
            nr_bursts=int(stat.get("nr_bursts", 0)),
        )

    def set_quota(self, millicores: int, *, has_burst: bool) -> None:
        """Sets the quota, and a burst of the same size or none, by as few writes as the shim."""
        quota_usec = millicores * CPU_PERIOD_USEC // MILLICORES_PER_CORE
        burst_usec = quota_usec if has_burst else 0
        folder = self._folders[0]
        burst = folder / ("cpu.cfs_burst_us" if self._is_v1 else "cpu.max.burst")
        # The kernel refuses a quota below the burst.
        now_usec = int(burst.read_text())
        if burst_usec < now_usec:
            burst.write_text(str(burst_usec))
        if self._is_v1:
            (folder / "cpu.cfs_quota_us").write_text(str(quota_usec))
        else:
            (folder / "cpu.max").write_text(f"{quota_usec} {CPU_PERIOD_USEC}")
        if burst_usec > now_usec:
            burst.write_text(str(burst_usec))


@contextmanager
def open_group(
    hierarchy: cgroups.Hierarchy, millicores: int, *, has_burst: bool
) -> Iterator[Group]:
    """Makes the group and removes it, with all that runs in it, however the block ends."""
    node = cgroups.Node(hierarchy, cgroups.own_name())
    with ExitStack() as cleanup:
        cleanup.callback(node.remove)
        node.create(MOST_MILLICORES)
        node.add(CONTAINER, millicores, burst=has_burst)
        yield Group(hierarchy, node, cleanup)


def phase_seconds(edges_seconds: list[float]) -> float:
    """Returns when periods start, from when a period was first seen to be over.

    A poll is late, never early: of moments on a circle the first of their cluster is the best.
    """
    remainders = sorted(edge % CPU_PERIOD_SECONDS for edge in edges_seconds)
    gaps = [
        (later - earlier) % CPU_PERIOD_SECONDS
        for earlier, later in zip([remainders[-1], *remainders[:-1]], remainders, strict=True)
    ]
    return remainders[gaps.index(max(gaps))]


def _open(path: Path, files: ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    files.callback(os.close, fd)
    return fd
