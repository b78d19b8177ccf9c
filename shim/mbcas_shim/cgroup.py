"""What the shim needs of a cgroup's cpu controller, the same for version 1 and 2.

Files are opened once and read with `pread`: a read then costs 1.3 us (cpu.stat 2 us) instead of
about 10 us with a path lookup, which decides whether 220 containers can be read ten times a second.
Writes are rare and open their file anew, so that reading needs no writable tree.
"""

import os
from pathlib import Path
from typing import NamedTuple, Protocol

from mbcas_shim.errors import CgroupError, CgroupGoneError, CgroupWriteError

DEFAULT_PERIOD_USEC = 100_000  # The kernel's default, cgroup-v2.rst, cpu.max.
MIN_QUOTA_USEC = 1_000  # kernel/sched/core.c, min_cfs_quota_period: less is refused.
MILLICORES_PER_CORE = 1000
READ_BYTES = 1024  # cpu.stat, the longest of these files, has about 300.


class Identity(NamedTuple):
    """Tells one life of a path from the next."""

    device: int
    inode: int


class Throttling(NamedTuple):
    """Cumulative counters of CFS bandwidth control; None where the kernel has no such counter."""

    nr_periods: int
    nr_throttled: int
    throttled_usec: int
    nr_bursts: int | None


class Bandwidth(NamedTuple):
    """What the kernel enforces. No quota is None; a kernel without burst credit has burst None."""

    quota_usec: int | None
    period_usec: int
    burst_usec: int | None

    def limit_millicores(self) -> int | None:
        """The quota as a limit, rounded to the nearest millicore."""
        if self.quota_usec is None:
            return None
        return (self.quota_usec * MILLICORES_PER_CORE + self.period_usec // 2) // self.period_usec

    def quota_for(self, limit_millicores: int) -> int:
        """The quota that enforces a limit; limits below 10m act as 10m at the default period."""
        return max(MIN_QUOTA_USEC, limit_millicores * self.period_usec // MILLICORES_PER_CORE)


class CpuCgroup(Protocol):
    """One cgroup with its files open.

    Usage and throttling are read for all groups in a row, many times: whoever does so reads the
    two files itself and leaves only the parsing to the group.
    """

    path: Path
    identity: Identity
    usage_file: "KernelFile"
    throttling_file: "KernelFile"

    def parse_usage(self, text: bytes) -> int:
        """Cumulative CPU time in microseconds."""

    def parse_throttling(self, text: bytes) -> Throttling: ...

    def pressure_usec(self) -> int | None:
        """Time in which some task waited for a CPU; None where the kernel does not say."""

    def bandwidth(self) -> Bandwidth: ...

    def weight(self) -> int:
        """The share among siblings, in this version's own unit."""

    def weight_for(self, request_millicores: int) -> int:
        """The share that stands for a request."""

    def tightest_ancestor_millicores(self) -> int | None:
        """The least quota among the groups it lies in; None where none has one."""

    def write_quota(self, quota_usec: int | None) -> None: ...

    def write_burst(self, burst_usec: int) -> None: ...

    def write_weight(self, weight: int) -> None: ...

    def close(self) -> None: ...


class CgroupTree(Protocol):
    """Where cgroups are found."""

    version: int

    def identity(self, path: str) -> Identity | None:
        """Which life of a path there is now; None where there is no such group."""

    def open(self, path: str) -> CpuCgroup:
        """Opens a group.

        Raises:
            CgroupGoneError: There is no such group.
            CgroupError: It lacks a file it must have.
        """


class KernelFile:
    """A file of a cgroup, kept open for reading."""

    __slots__ = ("descriptor", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _read_failure(path, error) from error

    def read(self) -> bytes:
        try:
            return os.pread(self.descriptor, READ_BYTES, 0)
        except OSError as error:
            raise _read_failure(self.path, error) from error

    def read_int(self) -> int:
        text = self.read()
        try:
            return int(text)
        except ValueError as error:
            raise malformed(self.path, text, "one whole number") from error

    def read_positive(self) -> int:
        text = self.read()
        try:
            return positive(text)
        except ValueError as error:
            raise malformed(self.path, text, "one whole number above 0") from error

    def close(self) -> None:
        os.close(self.descriptor)


def open_optional(path: Path) -> KernelFile | None:
    """Opens a file that not every kernel has."""
    return KernelFile(path) if path.exists() else None


def write_kernel_file(path: Path, value: str) -> None:
    """Writes one value in one system call.

    Raises:
        CgroupGoneError: The group is gone.
        CgroupWriteError: The kernel refused the value.
    """
    try:
        # O_TRUNC means nothing to the kernel's files; it makes plain files (in tests) act the same.
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        if not path.parent.exists():
            raise CgroupGoneError(f"{path.parent}: the cgroup is gone") from error
        raise CgroupWriteError(path, value, error) from error


def identity_of(path: Path) -> Identity | None:
    """Which life of a directory there is now."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CgroupError(f"{path}: cannot be looked at: {error.strerror}") from error
    return Identity(status.st_dev, status.st_ino)


def malformed(path: Path, text: bytes, expected: str) -> CgroupError:
    """The error for a file that does not hold what the kernel documents."""
    return CgroupError(f"{path}: expected {expected}, found {text[:80]!r}")


def parse_counts(path: Path, text: bytes) -> dict[bytes, int]:
    """Parses lines of a name and a count, as in cpu.stat."""
    words = text.split()
    try:
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))
    except ValueError as error:
        raise malformed(path, text, "a name and a count on each line") from error


def positive(text: bytes) -> int:
    """Parses a whole number above 0; ValueError where it is none."""
    number = int(text)
    if number <= 0:
        raise ValueError(text)
    return number


def _read_failure(path: Path, error: OSError) -> CgroupError:
    """The error for a file that cannot be opened or read."""
    # An open file of a removed group answers ENODEV.
    if not path.parent.exists():
        return CgroupGoneError(f"{path.parent}: the cgroup is gone")
    if isinstance(error, FileNotFoundError):
        return CgroupError(f"{path}: missing; is the cpu controller enabled for this group?")
    return CgroupError(f"{path}: cannot be read: {error.strerror}")
