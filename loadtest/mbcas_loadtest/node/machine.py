"""Where a phase runs: real processes in real cgroups here, the model in `mbcas_loadtest.model`."""

import contextlib
import os
import selectors
import subprocess
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mbcas_core.units import FloatArray
from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.errors import DemoError
from mbcas_loadtest.node.cgroups import V1, Counters, Node, Reader
from mbcas_loadtest.node.container import Container
from mbcas_loadtest.node.kinds import Environment
from mbcas_loadtest.node.scenario import Arrivals

MODEL: Environment = "model"
READY_WITHIN_SECONDS = 20.0  # Python starts in 50 ms; a busy machine takes longer.
START_LEAD_SECONDS = 0.2  # So that every process knows the start before it comes.


class Machine(Protocol):
    """A node with containers. `open`, `start`, any number of reads, `close`."""

    environment: Environment
    node_name: str
    """Of the folder of the containers' cgroups."""
    shim_arguments: Sequence[str]
    """What the shim must be told to find them."""

    def open(self) -> None:
        """Makes the containers, with what was declared in force."""

    def start(self) -> float:
        """Lets the work begin and returns the moment it does, on the monotonic clock."""

    def read(self, name: str) -> Counters:
        """Returns a container's counters now."""

    def done_seconds(self, name: str) -> FloatArray:
        """Returns when its requests were done, since the start, in the order of arrival."""

    def known_seconds(self) -> float:
        """Returns up to when, since the start, `done_seconds` knows everything."""

    def check(self) -> None:
        """Raises DemoError where a workload has ended by itself."""

    def zero_bursts(self) -> None:
        """Takes away all burst credit."""

    def close(self) -> None:
        """Ends the work and removes the containers. May be called at any time, and again."""


class CgroupMachine:
    """Real processes in real cgroups."""

    def __init__(
        self,
        containers: Sequence[Container],
        *,
        node: Node,
        node_millicores: int,
        burst: bool,
        folder: Path,
    ) -> None:
        self.environment: Environment = "cgroup-v1" if node.version == V1 else "cgroup-v2"
        self.node_name = node.name
        self.shim_arguments: Sequence[str] = ("--cgroup-root", str(node.mount))
        self._containers = containers
        self._node = node
        self._node_millicores = node_millicores
        self._burst = burst
        self._folder = folder
        self._start_seconds = 0.0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._readers: dict[str, Reader] = {}
        self._done = {container.name: array("d") for container in containers}

    def open(self) -> None:
        self._node.create(self._node_millicores)
        for container in self._containers:
            self._node.add(container.name, container.declared.millicores, burst=self._burst)
            self._readers[container.name] = self._node.reader(container.name)

    def start(self) -> float:
        for container in self._containers:
            self._processes[container.name] = self._spawn(container)
        for name, process in self._processes.items():
            self._await_ready(name, process)
            self._node.attach(name, process.pid)
        self._start_seconds = monotonic_seconds() + START_LEAD_SECONDS
        for process in self._processes.values():
            assert process.stdin is not None, "opened as a pipe"
            process.stdin.write(f"{self._start_seconds!r}\n".encode())
            process.stdin.flush()
        return self._start_seconds

    def read(self, name: str) -> Counters:
        return self._readers[name].read()

    def done_seconds(self, name: str) -> FloatArray:
        done = self._done[name]
        path = self._results_path(name)
        if path.exists():
            with path.open("rb") as file:
                file.seek(len(done) * done.itemsize)
                rest = file.read()
            done.frombytes(rest[: len(rest) // done.itemsize * done.itemsize])
        return np.array(done, dtype=np.float64)

    def known_seconds(self) -> float:
        return monotonic_seconds() - self._start_seconds

    def check(self) -> None:
        for name, process in self._processes.items():
            status = process.poll()
            if status is not None:
                error = self._error_path(name).read_text(errors="replace").strip()[-500:]
                raise DemoError(f"workload {name} ended with status {status}: {error or 'no word'}")

    def zero_bursts(self) -> None:
        self._node.zero_bursts()

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers = {}
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        self._processes = {}
        self._node.remove()

    def _spawn(self, container: Container) -> subprocess.Popen[bytes]:
        module = "mbcas_loadtest.node.workload"
        name = container.name
        command = [sys.executable, "-m", module, "burn"]
        if container.arrivals is not None:
            path = self._folder / f"{name}.arrivals"
            path.write_bytes(_pairs(container.arrivals))
            self._results_path(name).unlink(missing_ok=True)
            command = [sys.executable, "-m", module, "serve", str(path)]
            command.append(str(self._results_path(name)))
        with self._error_path(name).open("wb") as error_file:
            return subprocess.Popen(  # noqa: S603 - our own module, no shell.
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=error_file,
                process_group=0,  # Ctrl-C in the terminal is for the demo, which ends the rest.
            )

    def _await_ready(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None, "opened as a pipe"
        with selectors.DefaultSelector() as selector:  # select() fails from descriptor 1024 on.
            selector.register(process.stdout, selectors.EVENT_READ)
            is_readable = bool(selector.select(READY_WITHIN_SECONDS))
        if not is_readable or not os.read(process.stdout.fileno(), 64):
            error = self._error_path(name).read_text(errors="replace").strip()[-500:]
            raise DemoError(f"workload {name} did not start: {error or 'no word from it'}")

    def _results_path(self, name: str) -> Path:
        return self._folder / f"{name}.done"

    def _error_path(self, name: str) -> Path:
        return self._folder / f"{name}.error"


def _pairs(arrivals: Arrivals) -> bytes:
    return np.stack([arrivals.arrival_seconds, arrivals.work_seconds], axis=1).tobytes()
