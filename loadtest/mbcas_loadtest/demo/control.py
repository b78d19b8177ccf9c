"""MBCAS as the demo runs it: the server, the shim, and what is asked of them from outside."""

from collections.abc import Sequence
from pathlib import Path
from threading import Event

from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.demo.daemons import (
    POLL_SECONDS,
    Addresses,
    Daemon,
    Usage,
    count_metric,
    read_page,
    start_server,
    start_shim,
    write_containers,
)
from mbcas_loadtest.demo.market_watch import MarketWatch
from mbcas_loadtest.demo.record import DaemonCost
from mbcas_loadtest.errors import DemoError, Interrupted
from mbcas_loadtest.node.container import Container
from mbcas_loadtest.node.machine import Machine

KNOWN_WITHIN_SECONDS = 30.0
RESIZES, APPLIED = "mbcas_resizes_total", "applied"
VIOLATIONS = "mbcas_invariant_violations_total"


class Control:
    """Server and shim of one phase: start both, show the containers, read, stop."""

    def __init__(
        self, machine: Machine, *, node_millicores: int, policy: str, folder: Path
    ) -> None:
        self._market: MarketWatch | None = None
        self._addresses: Addresses | None = None
        self._machine = machine
        self._node_millicores = node_millicores
        self._policy = policy
        self._containers_path = folder / "containers.yaml"
        self._folder = folder
        self._server: Daemon | None = None
        self._shim: Daemon | None = None
        self._appeared_seconds = 0.0
        self._counting_since_seconds = 0.0
        self._resizes_before = 0
        self._usage_before: dict[str, Usage] = {}

    @property
    def addresses(self) -> Addresses:
        """Where the server listens, once it is started."""
        assert self._addresses is not None, "started"
        return self._addresses

    @property
    def market(self) -> MarketWatch:
        """What the server says of the market, once it is started."""
        assert self._market is not None, "started"
        return self._market

    def start_server(self, flags: Sequence[str], stop: Event) -> None:
        """Starts the server and waits until it answers."""
        self._server, self._addresses = start_server(flags, self._folder, stop)
        self._market = MarketWatch(self._addresses.grpc)

    def start_shim(self, stop: Event) -> None:
        """Starts the shim of a node without containers, and waits until the server knows it.

        Raises:
            DemoError: It ended, or the server does not hear of it in time.
            Interrupted: `stop` was set.
        """
        self._write_containers([])
        arguments = self._machine.shim_arguments
        self._shim = start_shim(self.addresses, self._containers_path, arguments, self._folder)
        self.market.start()
        deadline = monotonic_seconds() + KNOWN_WITHIN_SECONDS
        while self.market.latest is None:
            self.check()
            if stop.wait(POLL_SECONDS):
                raise Interrupted
            if monotonic_seconds() > deadline:
                raise DemoError(f"the server does not hear of the shim:\n{self._shim.log()}")

    def show_containers(self, containers: Sequence[Container]) -> None:
        """Lets the containers appear to the shim: from now on MBCAS can know them."""
        self._write_containers(containers)
        self._appeared_seconds = monotonic_seconds()

    def start_counting(self) -> None:
        """Ends the warm-up."""
        self._counting_since_seconds = monotonic_seconds()
        self._resizes_before = self._count(RESIZES, result=APPLIED)
        self._usage_before = {daemon.name: daemon.usage() for daemon in self._daemons()}

    def check(self) -> None:
        """Raises DemoError where a daemon has ended by itself."""
        for daemon in self._daemons():
            try:
                daemon.check()
            except DemoError:
                # Burst credit is the shim's to take back; without it nobody else would.
                self._machine.zero_bursts()
                raise

    def resizes(self) -> int:
        """Returns how many resizes were applied since the warm-up."""
        return self._count(RESIZES, result=APPLIED) - self._resizes_before

    def invariant_violations(self) -> int:
        """Returns how often a rule was broken since the server started."""
        return self._count(VIOLATIONS)

    def cost(self, name: str) -> DaemonCost:
        """Returns what a daemon cost since the warm-up."""
        daemon = next(daemon for daemon in self._daemons() if daemon.name == name)
        usage, before = daemon.usage(), self._usage_before[name]
        seconds = monotonic_seconds() - self._counting_since_seconds
        return DaemonCost(
            cpu_cores=(usage.cpu_seconds - before.cpu_seconds) / max(seconds, 1e-9),
            rss_bytes=usage.rss_bytes,
        )

    def first_allocation_seconds(self, names: Sequence[str]) -> float | None:
        """Returns how long the last container waited for a target; None if it still does."""
        seen = self.market.first_target_seconds
        if not set(names) <= seen.keys():
            return None
        return max(seen[name] for name in names) - self._appeared_seconds

    def stop(self) -> None:
        """Ends the shim, which gives back what was admitted, then the server. May be repeated."""
        if self._market is not None:
            self._market.stop()
        for daemon in (self._shim, self._server):
            if daemon is not None:
                daemon.stop()

    def _write_containers(self, containers: Sequence[Container]) -> None:
        write_containers(
            self._containers_path,
            containers,
            node_name=self._machine.node_name,
            node_millicores=self._node_millicores,
            policy=self._policy,
        )

    def _daemons(self) -> list[Daemon]:
        return [daemon for daemon in (self._server, self._shim) if daemon is not None]

    def _count(self, metric: str, **labels: str) -> int:
        page = read_page(self.addresses, "/metrics")
        if page is None:
            raise DemoError(f"the server does not answer on http://{self.addresses.http}/metrics")
        return count_metric(page, metric, **labels)
