"""Version 2: one tree, all of the cpu controller's files beside each other."""

import math
from pathlib import Path

from mbcas_shim.cgroup import (
    Bandwidth,
    Identity,
    KernelFile,
    Throttling,
    identity_of,
    malformed,
    open_optional,
    parse_counts,
    positive,
    write_kernel_file,
)
from mbcas_shim.cgroup_v1 import shares_of
from mbcas_shim.errors import CgroupError, CgroupGoneError


class CgroupTreeV2:
    """The one mount of version 2."""

    version = 2

    def __init__(self, mount: Path) -> None:
        self._mount = mount

    def identity(self, path: str) -> Identity | None:
        return identity_of(self._mount / path)

    def open(self, path: str) -> "CgroupV2":
        return CgroupV2(self._mount, path)


class CgroupV2:
    """One group of version 2, its files open."""

    def __init__(self, mount: Path, path: str) -> None:
        self.path = mount / path
        identity = identity_of(self.path)
        if identity is None:
            raise CgroupGoneError(f"{self.path}: there is no such cgroup")
        self.identity = identity
        self._mount = mount
        self._open: list[KernelFile] = []
        try:
            self.usage_file = self.throttling_file = self._kept(KernelFile(self.path / "cpu.stat"))
            self._max = self._kept(KernelFile(self.path / "cpu.max"))
            self._burst = self._kept_optional("cpu.max.burst")
            self._pressure = self._kept_optional("cpu.pressure")
            if self._pressure is not None and not _is_readable(self._pressure):
                self._pressure = None  # PSI is compiled in and switched off (psi=0).
        except BaseException:
            self.close()
            raise

    def parse_usage(self, text: bytes) -> int:
        try:
            # The kernel writes usage first; parsing only that is what ten reads a second pay for.
            name, value, _ = text.split(None, 2)
            if name == b"usage_usec":
                return int(value)
        except ValueError:
            pass
        try:
            return parse_counts(self.usage_file.path, text)[b"usage_usec"]
        except KeyError as error:
            raise malformed(self.usage_file.path, text, "a line usage_usec") from error

    def parse_throttling(self, text: bytes) -> Throttling:
        counts = parse_counts(self.throttling_file.path, text)
        try:
            return Throttling(
                counts[b"nr_periods"],
                counts[b"nr_throttled"],
                counts[b"throttled_usec"],
                counts.get(b"nr_bursts"),
            )
        except KeyError as error:
            raise malformed(self.throttling_file.path, text, f"a line {error}") from error

    def pressure_usec(self) -> int | None:
        if self._pressure is None:
            return None
        text = self._pressure.read()
        try:
            some = next(line for line in text.splitlines() if line.startswith(b"some "))
            return int(some.rpartition(b"total=")[2])
        except (StopIteration, ValueError) as error:
            raise malformed(self._pressure.path, text, "a line 'some ... total='") from error

    def bandwidth(self) -> Bandwidth:
        quota, period = _parse_max(self._max)
        burst = None if self._burst is None else self._burst.read_int()
        return Bandwidth(quota, period, burst)

    def weight(self) -> int:
        file = KernelFile(self.path / "cpu.weight")
        try:
            return file.read_int()
        finally:
            file.close()

    def weight_for(self, request_millicores: int) -> int:
        return weight_of_shares(shares_of(request_millicores))

    def tightest_ancestor_millicores(self) -> int | None:
        limits: list[int] = []
        for group in self.path.parents:
            if group == self._mount:
                break
            file = open_optional(group / "cpu.max")
            if file is None:
                continue
            try:
                limit = Bandwidth(*_parse_max(file), None).limit_millicores()
            finally:
                file.close()
            limits += [] if limit is None else [limit]
        return min(limits, default=None)

    def write_quota(self, quota_usec: int | None) -> None:
        period_usec = _parse_max(self._max)[1]
        quota = "max" if quota_usec is None else str(quota_usec)
        write_kernel_file(self._max.path, f"{quota} {period_usec}")

    def write_burst(self, burst_usec: int) -> None:
        write_kernel_file(self.path / "cpu.max.burst", str(burst_usec))

    def write_weight(self, weight: int) -> None:
        write_kernel_file(self.path / "cpu.weight", str(weight))

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def _kept(self, file: KernelFile) -> KernelFile:
        self._open.append(file)
        return file

    def _kept_optional(self, name: str) -> KernelFile | None:
        file = open_optional(self.path / name)
        return None if file is None else self._kept(file)


def weight_of_shares(shares: int) -> int:
    """Converts cpu.shares to cpu.weight as opencontainers/cgroups does: 1024 becomes 100."""
    if shares <= _SHARES_MIN:
        return 1
    if shares >= _SHARES_MAX:
        return _WEIGHT_MAX
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


_SHARES_MIN = 2
_SHARES_MAX = 262_144
_WEIGHT_MAX = 10_000


def _parse_max(file: KernelFile) -> tuple[int | None, int]:
    text = file.read()
    try:
        quota, period = text.split()
        return None if quota == b"max" else positive(quota), positive(period)
    except ValueError as error:
        raise malformed(file.path, text, "a quota or 'max', and a period") from error


def _is_readable(file: KernelFile) -> bool:
    try:
        file.read()
    except CgroupError:
        return False
    return True
