"""A cgroup v2 tree of plain files, which the unchanged shim reads and writes as if it were one.

The model writes the counters and reads the settings. Files keep their inode, as the kernel's do:
they are rewritten in place by one write, so that a reader with an open file sees the new text.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from mbcas_core.units import CPU_PERIOD_USEC, MILLICORES_PER_CORE
from mbcas_loadtest.node.cgroups import SHARES_PER_CORE
from mbcas_shim.cgroup_v2 import weight_of_shares

UNLIMITED = "max"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force for one container."""

    quota_usec: float
    """Infinite where there is none."""
    burst_usec: float
    weight: float


class Group:
    """One container's folder."""

    def __init__(self, path: Path, millicores: int, *, burst: bool) -> None:
        self.path = path
        path.mkdir(parents=True)
        quota_usec = millicores * CPU_PERIOD_USEC // MILLICORES_PER_CORE
        weight = weight_of_shares(millicores * SHARES_PER_CORE // MILLICORES_PER_CORE)
        self._settings = Settings(quota_usec, quota_usec if burst else 0, weight)
        (path / "cpu.max").write_text(f"{quota_usec} {CPU_PERIOD_USEC}\n")
        (path / "cpu.max.burst").write_text(f"{quota_usec if burst else 0}\n")
        (path / "cpu.weight").write_text(f"{weight}\n")
        (path / "cgroup.procs").write_text("")
        (path / "cgroup.controllers").write_text("cpu\n")
        self._stat_fd = os.open(path / "cpu.stat", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._written_nanoseconds = self._quota_written_nanoseconds()

    def settings(self) -> tuple[Settings, bool]:
        """Returns what is in force, and whether the quota was written since the last call.

        A file that is being rewritten, or holds nonsense, changes nothing: the last good value
        stays, as the kernel refuses a bad write.
        """
        written_nanoseconds = self._quota_written_nanoseconds()
        was_written = written_nanoseconds != self._written_nanoseconds
        self._written_nanoseconds = written_nanoseconds
        last = self._settings
        quota_usec = _parse_quota((self.path / "cpu.max").read_text(), last.quota_usec)
        burst_usec = _parse((self.path / "cpu.max.burst").read_text(), last.burst_usec)
        weight = _parse((self.path / "cpu.weight").read_text(), last.weight)
        self._settings = Settings(quota_usec, min(burst_usec, quota_usec), max(weight, 1.0))
        return self._settings, was_written

    def write_counters(self, counters: dict[str, int]) -> None:
        """Replaces the counters; they only grow, so no tail of an older text can stay."""
        text = "".join(f"{name} {value}\n" for name, value in counters.items())
        os.pwrite(self._stat_fd, text.encode(), 0)

    def close(self) -> None:
        """Closes the file of the counters."""
        os.close(self._stat_fd)

    def _quota_written_nanoseconds(self) -> int:
        return (self.path / "cpu.max").stat().st_mtime_ns


def make_root(root: Path) -> None:
    """Makes the files by which a cgroup v2 mount is known."""
    (root / "cgroup.controllers").write_text("cpu\n")
    (root / "cgroup.subtree_control").write_text("cpu\n")
    (root / "cgroup.procs").write_text("")


def _parse_quota(text: str, otherwise: float) -> float:
    words = text.split()
    if not words:
        return otherwise
    if words[0] == UNLIMITED:
        return math.inf
    return _parse(words[0], otherwise) or otherwise


def _parse(text: str, otherwise: float) -> float:
    words = text.split()
    return float(words[0]) if words and words[0].isdecimal() else otherwise
