"""Version 1: cpu and cpuacct are controllers of their own, mounted apart or together."""

from pathlib import Path

from mbcas_shim.cgroup import (
    DEFAULT_PERIOD_USEC,
    Bandwidth,
    Identity,
    KernelFile,
    Throttling,
    identity_of,
    malformed,
    open_optional,
    parse_counts,
    write_kernel_file,
)
from mbcas_shim.errors import CgroupGoneError

_NSEC_PER_USEC = 1000
_NO_QUOTA = -1  # cpu.cfs_quota_us without a quota, sched-bwc.rst.
_MIN_SHARES = 2  # kernel/sched/sched.h, MIN_SHARES.
_SHARES_PER_CORE = 1024


class CgroupTreeV1:
    """The mounts of the two controllers; they may be one."""

    version = 1

    def __init__(self, cpu_mount: Path, cpuacct_mount: Path) -> None:
        self._cpu_mount = cpu_mount
        self._cpuacct_mount = cpuacct_mount

    def identity(self, path: str) -> Identity | None:
        return identity_of(self._cpu_mount / path)

    def open(self, path: str) -> "CgroupV1":
        return CgroupV1(self._cpu_mount, self._cpuacct_mount / path, path)


class CgroupV1:
    """One group of version 1, its files open."""

    def __init__(self, mount: Path, cpuacct: Path, path: str) -> None:
        self.path = mount / path
        identity = identity_of(self.path)
        if identity is None:
            raise CgroupGoneError(f"{self.path}: there is no such cgroup")
        self.identity = identity
        self._mount = mount
        self._open: list[KernelFile] = []
        self._bandwidth = Bandwidth(None, DEFAULT_PERIOD_USEC, None)
        self._bandwidth_texts = (b"", b"", b"")
        try:
            self.usage_file = self._kept(KernelFile(cpuacct / "cpuacct.usage"))
            self.throttling_file = self._kept(KernelFile(self.path / "cpu.stat"))
            self._quota = self._kept(KernelFile(self.path / "cpu.cfs_quota_us"))
            self._period = self._kept(KernelFile(self.path / "cpu.cfs_period_us"))
            self._burst = open_optional(self.path / "cpu.cfs_burst_us")
            if self._burst is not None:
                self._kept(self._burst)
        except BaseException:
            self.close()
            raise

    def parse_usage(self, text: bytes) -> int:
        try:
            return int(text) // _NSEC_PER_USEC
        except ValueError as error:
            raise malformed(self.usage_file.path, text, "one whole number") from error

    def parse_throttling(self, text: bytes) -> Throttling:
        counts = parse_counts(self.throttling_file.path, text)
        try:
            return Throttling(
                counts[b"nr_periods"],
                counts[b"nr_throttled"],
                counts[b"throttled_time"] // _NSEC_PER_USEC,
                counts.get(b"nr_bursts"),
            )
        except KeyError as error:
            raise malformed(self.throttling_file.path, text, f"a line {error}") from error

    def pressure_usec(self) -> int | None:
        return None

    def bandwidth(self) -> Bandwidth:
        texts = (
            self._quota.read(),
            self._period.read(),
            b"" if self._burst is None else self._burst.read(),
        )
        # It seldom changes, and comparing bytes is cheaper than parsing them.
        if texts != self._bandwidth_texts:
            quota = self._quota.read_int()
            self._bandwidth = Bandwidth(
                None if quota == _NO_QUOTA else quota,
                self._period.read_positive(),
                None if self._burst is None else self._burst.read_int(),
            )
            self._bandwidth_texts = texts
        return self._bandwidth

    def weight(self) -> int:
        return _read_int_once(self.path / "cpu.shares")

    def weight_for(self, request_millicores: int) -> int:
        return shares_of(request_millicores)

    def tightest_ancestor_millicores(self) -> int | None:
        limits: list[int] = []
        for group in self.path.parents:
            if group == self._mount:
                break
            quota = _read_int_once(group / "cpu.cfs_quota_us")
            period = _read_int_once(group / "cpu.cfs_period_us")
            limit = Bandwidth(None if quota == _NO_QUOTA else quota, period, None)
            limits += [found for found in (limit.limit_millicores(),) if found is not None]
        return min(limits, default=None)

    def write_quota(self, quota_usec: int | None) -> None:
        value = _NO_QUOTA if quota_usec is None else quota_usec
        write_kernel_file(self.path / "cpu.cfs_quota_us", str(value))

    def write_burst(self, burst_usec: int) -> None:
        write_kernel_file(self.path / "cpu.cfs_burst_us", str(burst_usec))

    def write_weight(self, weight: int) -> None:
        write_kernel_file(self.path / "cpu.shares", str(weight))

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def _kept(self, file: KernelFile) -> KernelFile:
        self._open.append(file)
        return file


def shares_of(request_millicores: int) -> int:
    """The cpu.shares of a request, as the kubelet converts it (1m and 2m are the same)."""
    return max(_MIN_SHARES, request_millicores * _SHARES_PER_CORE // 1000)


def _read_int_once(path: Path) -> int:
    file = KernelFile(path)
    try:
        return file.read_int()
    finally:
        file.close()
