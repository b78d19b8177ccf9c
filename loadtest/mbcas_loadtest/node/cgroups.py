"""The demo's cgroups: found, made, read and removed, under cgroup v1 or v2.

All of a run's groups lie in one, `mbcas-demo-PID-START`, named after the process that made it (its
id and its start time in clock ticks since boot). A later run can tell whether that process still
lives, and removes what a killed run left behind.
"""

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mbcas_core.units import CPU_PERIOD_USEC, MILLICORES_PER_CORE
from mbcas_loadtest.clock import sleep_seconds
from mbcas_shim.cgroup_v2 import weight_of_shares

Version = Literal[1, 2]

V1: Version = 1
V2: Version = 2
PREFIX = "mbcas-demo-"
_NAME = re.compile(r"mbcas-demo-(\d+)-(\d+)")
REMOVE_ATTEMPTS = 100  # A killed process leaves its group within milliseconds, or it never does.
REMOVE_PAUSE_SECONDS = 0.02
READ_ATTEMPTS = 20
READ_PAUSE_SECONDS = 0.001
SHARES_PER_CORE = 1024  # How Kubernetes turns requests into cpu.shares.
NODE_SHARES_FACTOR = 8  # What else runs on this machine should not distort the measurement.


class CgroupsUnavailableError(Exception):
    """This machine does not let us make CPU cgroups; the message says why."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where CPU cgroups live on this machine."""

    version: Version
    roots: tuple[Path, ...]
    """v2: one. v1: of the controllers cpu and cpuacct, which may be one mount or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What the kernel says about one group at one moment."""

    usage_usec: int
    nr_throttled: int
    quota_millicores: int | None
    """None where there is no quota."""
    shares_millicores: float | None
    """The reservation that cpu.shares stands for; None under v2, whose weight is too coarse."""


def find_hierarchy(mounts: str) -> Hierarchy:
    """Finds where CPU is controlled from the text of /proc/self/mounts.

    Raises:
        CgroupsUnavailableError: no mounted hierarchy has the cpu controller.
    """
    v1: dict[str, Path] = {}
    v2: list[Path] = []
    for line in mounts.splitlines():
        _, target, kind, options, *_ = line.split()
        if kind == "cgroup":
            for controller in {"cpu", "cpuacct"} & set(options.split(",")):
                v1.setdefault(controller, Path(target))
        elif kind == "cgroup2":
            v2.append(Path(target))
    if {"cpu", "cpuacct"} <= v1.keys():
        return Hierarchy(V1, tuple(dict.fromkeys((v1["cpu"], v1["cpuacct"]))))
    for root in v2:
        if "cpu" in _read_words(root / "cgroup.controllers"):
            return Hierarchy(V2, (root,))
    raise CgroupsUnavailableError("no mounted cgroup hierarchy has the cpu controller")


def own_name() -> str:
    """Returns the name of this process's group."""
    return f"{PREFIX}{os.getpid()}-{_start_ticks(os.getpid())}"


def is_leftover(name: str) -> bool:
    """Tells whether a group or folder has our kind of name and its process is gone."""
    match = _NAME.fullmatch(name)
    return match is not None and _start_ticks(int(match[1])) != int(match[2])


def remove_leftovers(hierarchy: Hierarchy) -> list[str]:
    """Removes the groups of runs whose process is gone, and returns their names."""
    names = {path.name for root in hierarchy.roots for path in root.glob(f"{PREFIX}*")}
    left = [name for name in sorted(names) if is_leftover(name)]
    for name in left:
        Node(hierarchy, name).remove()
    return left


class Node:
    """The group that stands for the node, with one group for each container in it."""

    def __init__(self, hierarchy: Hierarchy, name: str) -> None:
        self._hierarchy = hierarchy
        self.version = hierarchy.version
        self.name = name
        root = hierarchy.roots[0]
        self.mount = root if hierarchy.version == V2 else root.parent
        """Where a shim has to look for cgroups."""

    def create(self, node_millicores: int) -> None:
        """Makes the node's group, which has a weight and no quota, as Kubernetes makes it.

        Raises:
            CgroupsUnavailableError: not allowed here; nothing is left behind.
        """
        try:
            for root in self._hierarchy.roots:
                (root / self.name).mkdir()
            if self._hierarchy.version == V2:
                root = self._hierarchy.roots[0]
                (root / "cgroup.subtree_control").write_text("+cpu")
                (root / self.name / "cgroup.subtree_control").write_text("+cpu")
            self._write_weight(self._paths("")[0], NODE_SHARES_FACTOR * node_millicores)
        except OSError as error:
            self.remove()
            raise CgroupsUnavailableError(f"{error.filename}: {error.strerror}") from error

    def add(self, container: str, millicores: int, *, burst: bool) -> None:
        """Makes a container's group with request = limit."""
        for path in self._paths(container):
            path.mkdir()
        path = self._paths(container)[0]
        quota_usec = millicores * CPU_PERIOD_USEC // MILLICORES_PER_CORE
        burst_usec = quota_usec if burst else 0
        if self._hierarchy.version == V1:
            (path / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_USEC))
            (path / "cpu.cfs_quota_us").write_text(str(quota_usec))
            (path / "cpu.cfs_burst_us").write_text(str(burst_usec))
        else:
            (path / "cpu.max").write_text(f"{quota_usec} {CPU_PERIOD_USEC}")
            (path / "cpu.max.burst").write_text(str(burst_usec))
        self._write_weight(path, millicores)

    def attach(self, container: str, pid: int) -> None:
        """Moves a process into a container's group."""
        for path in self._paths(container):
            (path / "cgroup.procs").write_text(str(pid))

    def reader(self, container: str) -> "Reader":
        """Opens a container's counters."""
        return Reader(self._hierarchy.version, self._paths(container))

    def zero_bursts(self) -> None:
        """Takes the burst credit from every container, for when the shim did not."""
        name = "cpu.cfs_burst_us" if self._hierarchy.version == V1 else "cpu.max.burst"
        for path in self._paths("")[0].glob(f"*/{name}"):
            with contextlib.suppress(OSError):  # The group may be going.
                path.write_text("0")

    def remove(self) -> None:
        """Ends every process in the groups and removes them.

        Raises:
            TimeoutError: a group could not be removed in time.
        """
        for path in self._paths(""):
            with contextlib.suppress(FileNotFoundError):  # Another run may have removed it first.
                for group in [*(child for child in path.iterdir() if child.is_dir()), path]:
                    _remove_group(group)

    def _paths(self, container: str) -> list[Path]:
        return [root / self.name / container for root in self._hierarchy.roots]

    def _write_weight(self, path: Path, millicores: int) -> None:
        shares = max(2, millicores * SHARES_PER_CORE // MILLICORES_PER_CORE)
        if self._hierarchy.version == V1:
            (path / "cpu.shares").write_text(str(min(shares, 262_144)))
        else:
            (path / "cpu.weight").write_text(str(weight_of_shares(shares)))


class Reader:
    """Reads one group's files, kept open: a read costs a system call."""

    def __init__(self, version: Version, paths: list[Path]) -> None:
        self._version = version
        cpu, usage = paths[0], paths[-1]
        names = (
            [
                cpu / "cpu.stat",
                cpu / "cpu.cfs_quota_us",
                cpu / "cpu.shares",
                usage / "cpuacct.usage",
            ]
            if version == V1
            else [cpu / "cpu.stat", cpu / "cpu.max", cpu / "cpu.weight"]
        )
        self._files: list[int] = []
        with contextlib.ExitStack() as opened:
            for name in names:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
                opened.callback(os.close, fd)
                self._files.append(fd)
            self._opened = opened.pop_all()

    def read(self) -> Counters:
        """Returns what the kernel says now.

        Raises:
            OSError: the group is gone.
        """
        texts = [_read_whole(fd) for fd in self._files]
        stat = dict(line.split()[:2] for line in texts[0].splitlines())
        nr_throttled = int(stat.get("nr_throttled", 0))
        if self._version == V1:
            quota_usec, shares, usage_nsec = (int(text) for text in texts[1:4])
            return Counters(
                usage_usec=usage_nsec // 1000,
                nr_throttled=nr_throttled,
                quota_millicores=None if quota_usec < 0 else _millicores(quota_usec),
                shares_millicores=shares * MILLICORES_PER_CORE / SHARES_PER_CORE,
            )
        quota = texts[1].split()[0]
        return Counters(
            usage_usec=int(stat["usage_usec"]),
            nr_throttled=nr_throttled,
            quota_millicores=None if quota == "max" else _millicores(int(quota)),
            shares_millicores=None,
        )

    def close(self) -> None:
        """Closes the files."""
        self._opened.close()


def _millicores(quota_usec: int) -> int:
    return quota_usec * MILLICORES_PER_CORE // CPU_PERIOD_USEC


def _read_whole(fd: int) -> str:
    """Reads a file that is never empty, but for an instant where the model's is being rewritten."""
    for _ in range(READ_ATTEMPTS):
        text = os.pread(fd, 4096, 0)
        if text:
            return text.decode()
        sleep_seconds(READ_PAUSE_SECONDS)
    raise OSError("a file of a cgroup stays empty")


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _start_ticks(pid: int) -> int | None:
    """Returns when a process started, or None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])  # Field 22; the name may hold spaces.


def _remove_group(group: Path) -> None:
    for _ in range(REMOVE_ATTEMPTS):
        for pid in _read_words(group / "cgroup.procs"):
            if int(pid) > 0:  # 0 stands for a process of another pid namespace.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            sleep_seconds(REMOVE_PAUSE_SECONDS)
        else:
            return
    raise TimeoutError(f"{group} still has processes; remove it with rmdir when they are gone")
