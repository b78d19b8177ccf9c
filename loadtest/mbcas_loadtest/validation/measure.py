"""One point under the real kernel."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path
from threading import Event

import numpy as np

from mbcas_core.units import CPU_PERIOD_SECONDS, CPU_PERIOD_USEC, USEC_PER_SECOND, FloatArray
from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.errors import DemoError, Interrupted
from mbcas_loadtest.node import cgroups
from mbcas_loadtest.validation.group import Counters, Group, open_group, phase_seconds
from mbcas_loadtest.validation.points import CHANGE_SECONDS, Point, Requests

PRELUDE_SECONDS = 1.5
"""Of little work before the start, in which it is seen when the kernel's periods start."""
PRELUDE_STEP_SECONDS = 0.02
PRELUDE_QUIET_SECONDS = 0.25
PRELUDE_UTILISATION = 0.1
EDGE_POLL_SECONDS = 0.0005
SETTLE_SECONDS = 0.002  # After a period's start the kernel has counted the one before.
DRAIN_SECONDS = 30.0
PIPE_BYTES = 1 << 20
NUMBER_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A quota that was written."""

    at_seconds: float
    quota_millicores: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Measured:
    """What the kernel did at a point; times in seconds since the start, the prelude's below 0."""

    requests: Requests
    """As they really were: work is what each cost."""
    done_seconds: FloatArray
    first_seconds: float
    """When the first whole period starts, from 0 to below 0.1."""
    writes: Sequence[Write]
    """The first one before the start."""
    samples: Sequence[Counters]
    """At the start of each whole period, and at the end of the last."""
    foreign_cpus: float
    """CPUs that others were busy on meanwhile, the time that a hypervisor took away included."""


def measure(
    point: Point,
    drawn: Requests,
    *,
    seconds: float,
    hierarchy: cgroups.Hierarchy,
    folder: Path,
    stop: Event,
) -> Measured:
    """Runs the requests under the point's quota.

    Raises:
        DemoError: A process of the load ended early or did not end.
        Interrupted: Somebody asked to stop.
    """
    requests = _with_prelude(point, drawn)
    with (
        open_group(hierarchy, 1000, has_burst=False) as group,
        _burners(point, requests, folder) as burners,
    ):
        for burner in burners:
            group.attach(burner.pid)
        group.set_quota(point.quota_millicores, has_burst=point.has_burst)
        start_seconds = monotonic_seconds() + PRELUDE_SECONDS
        for burner in burners:
            assert burner.stdin is not None
            burner.stdin.write(f"{start_seconds!r}\n".encode())
            burner.stdin.flush()
        edge_seconds = _find_edge(group, until_seconds=start_seconds, stop=stop)
        first_seconds = (edge_seconds - start_seconds) % CPU_PERIOD_SECONDS
        watch = _Watch(point, group, start_seconds=start_seconds, stop=stop)
        watch.run(first_seconds, count=int(seconds / CPU_PERIOD_SECONDS) - 1)
        for burner in burners:
            _await_end(burner, point)
        done, cost = _read_results(folder, len(burners), len(requests.arrival_seconds))
    return Measured(
        requests=Requests(
            arrival_seconds=requests.arrival_seconds, work_usec=cost * USEC_PER_SECOND
        ),
        done_seconds=done,
        first_seconds=first_seconds,
        writes=watch.writes,
        samples=watch.samples,
        foreign_cpus=watch.foreign_cpus,
    )


class _Watch:
    """Reads the counters at each period's start and changes the quota when it is time to."""

    def __init__(self, point: Point, group: Group, *, start_seconds: float, stop: Event) -> None:
        self.samples: list[Counters] = []
        self.foreign_cpus = 0.0
        self.writes = [Write(at_seconds=-PRELUDE_SECONDS, quota_millicores=point.quota_millicores)]
        self._point = point
        self._group = group
        self._start_seconds = start_seconds
        self._stop = stop

    def run(self, first_seconds: float, *, count: int) -> None:
        changes = 1
        busy_seconds = _busy_seconds()
        for index in range(count + 1):
            read_seconds = first_seconds + index * CPU_PERIOD_SECONDS + SETTLE_SECONDS
            due_seconds = changes * CHANGE_SECONDS
            if len(self._point.quota_factors) > 1 and due_seconds < read_seconds:
                self._wait_until(due_seconds)
                self._write(changes)
                changes += 1
            self._wait_until(read_seconds)
            self.samples.append(self._group.read())
        own_usec = self.samples[-1].usage_usec - self.samples[0].usage_usec
        foreign_seconds = _busy_seconds() - busy_seconds - own_usec / USEC_PER_SECOND
        self.foreign_cpus = max(0.0, foreign_seconds / (count * CPU_PERIOD_SECONDS))

    def _write(self, change: int) -> None:
        factors = self._point.quota_factors
        millicores = round(self._point.quota_millicores * factors[change % len(factors)])
        self._group.set_quota(millicores, has_burst=self._point.has_burst)
        at_seconds = monotonic_seconds() - self._start_seconds
        self.writes.append(Write(at_seconds=at_seconds, quota_millicores=millicores))

    def _wait_until(self, seconds: float) -> None:
        left_seconds = self._start_seconds + seconds - monotonic_seconds()
        if self._stop.wait(max(0.0, left_seconds)):
            raise Interrupted


def _busy_seconds() -> float:
    """Returns the time that all CPUs together were not idle, since the boot (proc_stat(5))."""
    user, nice, system, _idle, _waiting, irq, softirq, steal = (
        int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _with_prelude(point: Point, drawn: Requests) -> Requests:
    arrival = np.arange(-PRELUDE_SECONDS, -PRELUDE_QUIET_SECONDS, PRELUDE_STEP_SECONDS)
    quota_usec = point.quota_millicores * CPU_PERIOD_USEC / 1000
    work = PRELUDE_UTILISATION * quota_usec * PRELUDE_STEP_SECONDS / CPU_PERIOD_SECONDS
    return Requests(
        arrival_seconds=np.concatenate([arrival, drawn.arrival_seconds]),
        work_usec=np.concatenate([np.full(len(arrival), work), drawn.work_usec]),
    )


def _find_edge(group: Group, *, until_seconds: float, stop: Event) -> float:
    """Watches the prelude for moments at which the kernel counts a period; returns one start."""
    edges: list[float] = []
    count = group.read().nr_periods
    while monotonic_seconds() < until_seconds - PRELUDE_QUIET_SECONDS:
        if stop.wait(EDGE_POLL_SECONDS):
            raise Interrupted
        seen = group.read().nr_periods
        if seen != count:
            edges.append(monotonic_seconds())
            count = seen
    if not edges:
        raise DemoError("the kernel counts no periods of a group that works under a quota")
    return phase_seconds(edges)


@contextmanager
def _burners(
    point: Point, requests: Requests, folder: Path
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Starts the servers and waits until they are ready; ends them however the block ends."""
    path = folder / "requests"
    pairs = np.column_stack([requests.arrival_seconds, requests.work_usec / USEC_PER_SECOND])
    path.write_bytes(pairs.astype(np.float64).tobytes())
    burners: list[subprocess.Popen[bytes]] = []
    with _queue(len(pairs)) as queue:
        try:
            for index in range(point.threads):
                burners.append(_start(path, folder / f"results-{index}", queue))  # noqa: PERF401 - those that started are ended if one fails.
            for burner in burners:
                assert burner.stdout is not None
                if burner.stdout.readline() != b"ready\n":
                    raise DemoError("a process of the load did not start")
            yield burners
        finally:
            for burner in burners:
                burner.kill()
                burner.communicate()


def _start(requests: Path, results: Path, queue: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this interpreter with arguments from here.
        [
            sys.executable,
            "-m",
            "mbcas_loadtest.validation.burner",
            str(requests),
            str(results),
            str(queue),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[queue],
    )


@contextmanager
def _queue(count: int) -> Iterator[int]:
    """A pipe that holds the numbers of all requests and then ends."""
    reader, writer = os.pipe()
    try:
        try:
            fcntl(writer, F_SETPIPE_SZ, PIPE_BYTES)
            os.set_blocking(writer, False)
            numbers = np.arange(count, dtype=np.uint32).tobytes()
            if os.write(writer, numbers) != len(numbers):
                raise DemoError(f"{count} requests do not fit into a pipe; take fewer --seconds")
        finally:
            os.close(writer)
        yield reader
    finally:
        os.close(reader)


def _await_end(burner: subprocess.Popen[bytes], point: Point) -> None:
    try:
        code = burner.wait(DRAIN_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"{point.name}: its work did not end in time") from error
    if code:
        raise DemoError(f"{point.name}: a process of the load ended with status {code}")


def _read_results(folder: Path, burners: int, count: int) -> tuple[FloatArray, FloatArray]:
    """Returns when each request was done and what it cost, in seconds."""
    done, cost = np.full(count, np.nan), np.full(count, np.nan)
    for index in range(burners):
        triples = np.frombuffer((folder / f"results-{index}").read_bytes()).reshape(-1, 3)
        numbers = triples[:, 0].astype(np.int64)
        done[numbers], cost[numbers] = triples[:, 1], triples[:, 2]
    if np.isnan(done).any():
        raise DemoError("a process of the load lost requests")
    return done, cost
