"""The demo's node as a model: the plant stepped in real time behind a tree of files."""

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mbcas_core.units import CPU_PERIOD_SECONDS, CPU_PERIOD_USEC, FloatArray
from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.errors import DemoError
from mbcas_loadtest.model.queue import FifoQueue
from mbcas_loadtest.model.tree import Group, Settings, make_root
from mbcas_loadtest.node.cgroups import V2, Counters, Reader
from mbcas_loadtest.node.container import Container
from mbcas_loadtest.node.machine import MODEL
from mbcas_loadtest.plant.recursion import PlantInput, PlantState, idle_state, step


class ModelMachine:
    """Five containers as rows of one plant; a thread runs a period every 100 ms."""

    def __init__(
        self,
        containers: Sequence[Container],
        *,
        node_name: str,
        cpus: float,
        burst: bool,
        folder: Path,
    ) -> None:
        self.environment = MODEL
        self.node_name = node_name
        self._root = folder / "cgroup"
        self.shim_arguments: Sequence[str] = ("--cgroup-root", str(self._root))
        self._containers = containers
        self._names = [container.name for container in containers]
        self._cpus = cpus
        self._burst = burst
        self._groups: list[Group] = []
        self._readers: dict[str, Reader] = {}
        self._queues = [FifoQueue(c.arrivals) if c.arrivals else None for c in containers]
        self._done: dict[str, list[FloatArray]] = {name: [] for name in self._names}
        self._state = idle_state((len(containers),))
        self._period = 0
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        self._root.mkdir(parents=True)
        make_root(self._root)
        for container in self._containers:
            path = self._root / self.node_name / container.name
            group = Group(path, container.declared.millicores, burst=self._burst)
            self._groups.append(group)
            self._readers[container.name] = Reader(V2, [path])
        self._write_counters()

    def start(self) -> float:
        start_seconds = monotonic_seconds()
        self._thread = threading.Thread(
            target=self._run, args=(start_seconds,), name="plant", daemon=True
        )
        self._thread.start()
        return start_seconds

    def read(self, name: str) -> Counters:
        return self._readers[name].read()

    def done_seconds(self, name: str) -> FloatArray:
        done: FloatArray = np.concatenate([np.empty(0), *self._done[name]])
        return done

    def known_seconds(self) -> float:
        return self._period * CPU_PERIOD_SECONDS

    def check(self) -> None:
        if self._failure is not None:
            raise DemoError(f"the model stopped: {self._failure}") from self._failure

    def zero_bursts(self) -> None:
        for group in self._groups:
            (group.path / "cpu.max.burst").write_text("0\n")

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for reader in self._readers.values():
            reader.close()
        for group in self._groups:
            group.close()
        self._readers, self._groups = {}, []
        if self._root.exists():
            shutil.rmtree(self._root)

    def _run(self, start_seconds: float) -> None:
        """Runs each period when it is over, at once after the others where the thread was late."""
        try:
            while not self._stop.is_set():
                due_seconds = start_seconds + (self._period + 1) * CPU_PERIOD_SECONDS
                if self._stop.wait(max(0.0, due_seconds - monotonic_seconds())):
                    return
                self._run_period(self._period * CPU_PERIOD_SECONDS)
                self._period += 1
        except (OSError, ValueError) as error:
            self._failure = error  # `check` raises it in the main thread.

    def _run_period(self, start_seconds: float) -> None:
        read = [group.settings() for group in self._groups]
        given = self._input(start_seconds, [r[0] for r in read], [r[1] for r in read])
        after = step(self._state, given, cpus=self._cpus)
        served = after.usage_usec - self._state.usage_usec
        self._state = after
        for index, queue in enumerate(self._queues):
            if queue is not None:
                done = queue.serve(start_seconds, float(served[index]))
                self._done[self._names[index]].append(done)
        self._write_counters()

    def _input(
        self, start_seconds: float, settings: list[Settings], written: list[bool]
    ) -> PlantInput:
        stop_seconds = start_seconds + CPU_PERIOD_SECONDS
        arrivals = [
            CPU_PERIOD_USEC - float(self._state.backlog_usec[index])  # Greedy: always one period.
            if queue is None
            else queue.arriving_usec(start_seconds, stop_seconds)
            for index, queue in enumerate(self._queues)
        ]
        return PlantInput(
            arrivals_usec=np.array(arrivals),
            quota_usec=np.array([s.quota_usec for s in settings]),
            burst_usec=np.array([s.burst_usec for s in settings]),
            quota_written=np.array(written),
            threads=np.ones(len(settings)),
            weight=np.array([s.weight for s in settings]),
        )

    def _write_counters(self) -> None:
        for index, group in enumerate(self._groups):
            group.write_counters(_counters(self._state, index))


def _counters(state: PlantState, index: int) -> dict[str, int]:
    usage_usec = int(state.usage_usec[index])
    return {
        "usage_usec": usage_usec,
        "user_usec": usage_usec,
        "system_usec": 0,
        "nr_periods": int(state.nr_periods[index]),
        "nr_throttled": int(state.nr_throttled[index]),
        "throttled_usec": int(state.throttled_usec[index]),
        "nr_bursts": int(state.nr_bursts[index]),
        "burst_usec": 0,
    }
