"""The real server and the real shim as child processes."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import yaml
from prometheus_client.parser import text_string_to_metric_families

from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.errors import DemoError, Interrupted
from mbcas_loadtest.node.container import Container

NODE_NAME = "demo"
GRPC_PORT, HTTP_PORT = 7443, 7480  # Where `mbcasctl` looks when it is not told.
ANY_PORTS = (0, 0)
READY_WITHIN_SECONDS = 30.0
STOP_WITHIN_SECONDS = 10.0
POLL_SECONDS = 0.1
LOG_CHARACTERS = 8000

_READY = re.compile(r" ready listen_address=(\S+) http_address=(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process had used at one moment."""

    cpu_seconds: float
    rss_bytes: int
    """The most it ever had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the server listens."""

    grpc: str
    http: str


class Daemon:
    """One child process, with its log in a file."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self._log_path = folder / f"{name}.log"
        command = [sys.executable, "-m", "mbcas_loadtest.node.tether", "SIGTERM"]
        command += [sys.executable, "-m", module, *arguments]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MBCAS_")}
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own modules, no shell.
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C in the terminal is for the demo, which ends the rest.
                env=environment,
            )

    def check(self) -> None:
        """Raises DemoError where it has ended by itself."""
        status = self._process.poll()
        if status is not None:
            raise DemoError(f"the {self.name} ended with status {status}:\n{self.log()}")

    def has_ended_well(self) -> bool:
        """Tells whether it has done what it was asked for; raises DemoError where it failed."""
        if self._process.poll() not in {None, 0}:
            self.check()
        return self._process.poll() == 0

    def usage(self) -> Usage:
        """Reads what it has used; zeros where it is gone."""
        folder = Path(f"/proc/{self._process.pid}")
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            status = (folder / "status").read_text()
        except OSError:
            return Usage(cpu_seconds=0.0, rss_bytes=0)
        ticks = int(fields[11]) + int(fields[12])  # Fields 14 and 15: user and system time.
        peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "x 0")
        return Usage(
            cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"), rss_bytes=int(peak.split()[1]) * 1024
        )

    def stop(self) -> None:
        """Asks it to end, then makes it. May be called again."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def log(self) -> str:
        """Returns the end of what it wrote."""
        return self._log_path.read_text(errors="replace")[-LOG_CHARACTERS:].strip()


def check_programs(folder: Path, stop: Event) -> None:
    """Sees that both programs can run at all, before minutes go into a phase without them.

    Raises:
        DemoError: One of them cannot.
        Interrupted: `stop` was set.
    """
    with contextlib.ExitStack() as cleanup:
        programs = [
            Daemon(name, module, ["--help"], folder)
            for name, module in (("server", "mbcas_server"), ("shim", "mbcas_shim"))
        ]
        for program in programs:
            cleanup.callback(program.stop)
        while not all(program.has_ended_well() for program in programs):
            if stop.wait(POLL_SECONDS):
                raise Interrupted


def start_server(flags: Sequence[str], folder: Path, stop: Event) -> tuple[Daemon, Addresses]:
    """Starts the server and waits until it is ready.

    It gets the default addresses where they are free, so that `mbcasctl` finds the demo, else any.
    """
    wanted = (GRPC_PORT, HTTP_PORT) if _is_free(GRPC_PORT) and _is_free(HTTP_PORT) else ANY_PORTS
    try:
        return _start_server(wanted, flags, folder, stop)
    except DemoError:
        if wanted == ANY_PORTS:
            raise
        # Somebody else may have taken the ports since we looked.
        return _start_server(ANY_PORTS, flags, folder, stop)


def start_shim(
    addresses: Addresses, containers_path: Path, arguments: Sequence[str], folder: Path
) -> Daemon:
    """Starts the shim of the demo's node."""
    flags = ["--server-address", addresses.grpc, "--node-name", NODE_NAME]
    flags += ["--containers-file", str(containers_path), *arguments]
    return Daemon("shim", "mbcas_shim", flags, folder)


def read_page(addresses: Addresses, path: str) -> str | None:
    """Returns a page of the server, or None where it does not answer."""
    with contextlib.suppress(OSError, urllib.error.URLError):
        url = f"http://{addresses.http}{path}"
        with urllib.request.urlopen(url, timeout=2) as answer:
            page: bytes = answer.read()
            return page.decode()
    return None


def count_metric(page: str, name: str, **labels: str) -> int:
    """Adds up the samples of a counter that carry the given labels."""
    return round(
        sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
    )


def write_containers(
    path: Path,
    containers: Sequence[Container],
    *,
    node_name: str,
    node_millicores: int,
    policy: str,
) -> None:
    """Writes the file by which the shim knows its node and containers, in one step.

    The policy stands there too: a shim that starts while the server is gone must know from the file
    whether its fail-safe may leave more than what was admitted.
    """
    content = {
        "node": {"allocatable": f"{node_millicores}m", "unmanaged": "0m"},
        "containers": [
            {
                "name": container.name,
                "cgroup": f"{node_name}/{container.name}",
                "request": f"{container.declared.millicores}m",
                "limit": f"{container.declared.millicores}m",
                "priority": container.declared.workload.priority_class,
                "policy": policy,
            }
            for container in containers
        ],
    }
    draft = path.with_suffix(".draft")
    draft.write_text(yaml.safe_dump(content, sort_keys=False))
    draft.replace(path)


def _start_server(
    ports: tuple[int, int], flags: Sequence[str], folder: Path, stop: Event
) -> tuple[Daemon, Addresses]:
    grpc, http = (f"127.0.0.1:{port}" for port in ports)
    arguments = ["--listen-address", grpc, "--http-address", http, *flags]
    server = Daemon("server", "mbcas_server", arguments, folder)
    try:
        return server, _await_ready(server, stop)
    except BaseException:
        server.stop()
        raise


def _await_ready(server: Daemon, stop: Event) -> Addresses:
    deadline = monotonic_seconds() + READY_WITHIN_SECONDS
    while (match := _READY.search(server.log())) is None:
        server.check()
        if stop.wait(POLL_SECONDS):
            raise Interrupted
        if monotonic_seconds() > deadline:
            raise DemoError(
                f"the server was not ready within {READY_WITHIN_SECONDS:g} s:\n{server.log()}"
            )
    return Addresses(grpc=match[1], http=match[2])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
