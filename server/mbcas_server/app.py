"""Wires the server together; the only place that does, but for what is on Kubernetes alone."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass

import grpc

from mbcas_core.rounds import Rounds
from mbcas_server.allocations import Allocations
from mbcas_server.auth import Authenticator, NoAuthentication, SharedToken, TokenFileError
from mbcas_server.checkpoint import Checkpoint
from mbcas_server.clock import Clock, SystemClock
from mbcas_server.core import Core, RoundsCore
from mbcas_server.core_thread import SWITCH_SECONDS, CoreThread
from mbcas_server.driver import Driver, KubeObjects
from mbcas_server.heap import THRESHOLDS
from mbcas_server.leadership import Alone, Leadership
from mbcas_server.links import Links
from mbcas_server.live import LiveMarkets
from mbcas_server.market_metrics import MarketMetrics
from mbcas_server.market_service import MarketService
from mbcas_server.metrics import Metrics
from mbcas_server.node_link import NodeLinks
from mbcas_server.operator_service import OperatorService
from mbcas_server.recorder import RecordingCore
from mbcas_server.rpc import Guard, RpcServer, make_server
from mbcas_server.settings import Settings
from mbcas_server.shell import Shell
from mbcas_server.status import RefusedError
from mbcas_server.surroundings import Alone as NothingAround
from mbcas_server.surroundings import Surroundings
from mbcas_server.tls import TlsFiles, TlsFilesError, reloading_credentials
from mbcas_server.watchers import Watchers
from mbcas_server.web import Web

HANG_PERIODS = 5  # Without a completed tick for so many periods the driver counts as hung,
HANG_MIN_SECONDS = 10.0  # but not sooner than this.
HEALTH_CHECK_SECONDS = 1.0

logger = logging.getLogger(__name__)


class CannotStartError(Exception):
    """The server cannot start; the message names the setting."""


class DisplacedError(Exception):
    """Another server decides: this one has ended, and may begin anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A server that runs."""

    listen_address: str
    """Where gRPC listens, with the actual port."""
    http_address: str
    """The same for HTTP; empty where it does not."""
    driver: Driver
    metrics: Metrics
    leadership: Leadership
    displaced: asyncio.Event
    """Set once another server decides; this one must then end."""


async def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        CannotStartError: An address or a file of the settings cannot be used.
        DisplacedError: Another server took over.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*THRESHOLDS)
    logger.info("settings %s", settings.describe())
    with _make_core(settings) as core:
        async with serving(settings, core, SystemClock()) as server:
            logger.info(
                "ready listen_address=%s http_address=%s",
                server.listen_address,
                server.http_address,
            )
            await _either(stop, server.displaced)
            logger.info("stopping")
    logger.info("stopped")
    if server.displaced.is_set():
        raise DisplacedError("another server has taken the Lease")


@contextmanager
def _make_core(settings: Settings) -> Iterator[Core]:
    rounds = Rounds(settings.parameters())
    if settings.record_path is None:
        yield RoundsCore(rounds)
        return
    try:
        core = RecordingCore(rounds, settings.record_path, max_bytes=settings.record_max_bytes)
    except OSError as error:
        raise CannotStartError(f"record_path: {settings.record_path}: {error.strerror}") from error
    with closing(core):
        yield core


async def _either(*events: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(event.wait(), name="event") for event in events]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surface:
    """Who decides, who may call, and what the cluster adds: on Kubernetes, or alone."""

    leadership: Leadership
    authenticator: Authenticator
    surroundings: Surroundings
    kube_objects: KubeObjects | None
    checkpoint: Checkpoint | None


@asynccontextmanager
async def serving(settings: Settings, core: Core, clock: Clock) -> AsyncIterator[Serving]:
    """Starts everything, and at the end stops it in order: no new calls, streams, driver, web.

    Raises:
        CannotStartError: An address or a file of the settings cannot be used.
    """
    metrics = Metrics()
    links = Links(nodes_max=settings.max_nodes)
    core_thread = CoreThread(core)
    displaced = asyncio.Event()
    shell = Shell(settings=settings, core=core_thread, clock=clock, metrics=metrics, links=links)
    async with _surface(shell, displaced) as surface:
        live, watchers = LiveMarkets(), Watchers(watchers_max=settings.watchers_max)
        allocations = Allocations(live=live, metrics=metrics)
        driver = Driver(
            core=core_thread,
            links=links,
            live=live,
            watchers=watchers,
            settings=settings,
            clock=clock,
            metrics=metrics,
            leadership=surface.leadership,
            kube_objects=surface.kube_objects,
        )
        rpc = _make_rpc(shell, surface, driver, watchers, allocations)
        health = _Health(driver, rpc, surface.leadership, clock)
        web = _make_web(shell, health) if settings.http_address else None
        listen_address = _listen(rpc, settings, metrics)
        await health.tell()
        await rpc.server.start()
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(health.run(), name="health")
            tasks = [group.create_task(driver.run(), name="driver")]
            if surface.checkpoint is not None:
                tasks.append(group.create_task(surface.checkpoint.run(), name="checkpoint"))
            if web is not None:
                web.start()
            try:
                yield Serving(
                    listen_address=listen_address,
                    http_address=_with_port(settings.http_address, web.port) if web else "",
                    driver=driver,
                    metrics=metrics,
                    leadership=surface.leadership,
                    displaced=displaced,
                )
            finally:
                telling.cancel()
                await _stop(rpc, links, watchers, settings)
                for task in tasks:
                    task.cancel()
                if surface.checkpoint is not None:
                    await surface.checkpoint.write()
                if web is not None:
                    await web.stop()
                core_thread.close()
                await allocations.close()


def _make_rpc(
    shell: Shell,
    surface: _Surface,
    driver: Driver,
    watchers: Watchers,
    allocations: Allocations,
) -> RpcServer:
    settings, clock, metrics = shell.settings, shell.clock, shell.metrics
    return make_server(
        settings=settings,
        guard=Guard(surface.authenticator, surface.leadership, metrics, clock),
        allocations=allocations,
        market=MarketService(
            core=shell.core, watchers=watchers, settings=settings, clock=clock, metrics=metrics
        ),
        node_links=NodeLinks(
            links=shell.links,
            settings=settings,
            clock=clock,
            metrics=metrics,
            leadership=surface.leadership,
            surroundings=surface.surroundings,
        ),
        operator=OperatorService(
            core=shell.core, driver=driver, leadership=surface.leadership, clock=clock
        ),
    )


@asynccontextmanager
async def _surface(shell: Shell, displaced: asyncio.Event) -> AsyncIterator[_Surface]:
    settings, clock = shell.settings, shell.clock
    if not settings.kubernetes:
        shell.metrics.leading.set(1)
        leadership = Alone(settings.server_epoch or int(clock.unix_seconds()))
        checkpoint = _checkpoint(shell, leadership)
        if checkpoint is not None:
            await checkpoint.read()
        yield _Surface(
            leadership=leadership,
            authenticator=_authenticator(settings),
            surroundings=NothingAround(),
            kube_objects=None,
            checkpoint=checkpoint,
        )
        return
    # Its client takes most of a second to import.
    from mbcas_server.kube.client import CannotConnectError  # noqa: PLC0415
    from mbcas_server.kube.wiring import NoNamespaceError, on_kubernetes  # noqa: PLC0415

    async def prepare() -> None:
        if surface.checkpoint is not None:
            await surface.checkpoint.read()

    try:
        async with on_kubernetes(shell, prepare=prepare, displaced=displaced.set) as cluster:
            surface = _Surface(
                leadership=cluster.leadership,
                authenticator=cluster.authenticator,
                surroundings=cluster.objects.surroundings,
                kube_objects=cluster.objects,
                checkpoint=_checkpoint(shell, cluster.leadership),
            )
            yield surface
    except (CannotConnectError, NoNamespaceError) as error:
        raise CannotStartError(str(error)) from error


def _checkpoint(shell: Shell, leadership: Leadership) -> Checkpoint | None:
    settings = shell.settings
    if settings.checkpoint_path is None:
        return None
    return Checkpoint(
        path=settings.checkpoint_path,
        period_seconds=settings.checkpoint_period_seconds,
        core=shell.core,
        leadership=leadership,
        clock=shell.clock,
        metrics=shell.metrics,
    )


def _authenticator(settings: Settings) -> Authenticator:
    if settings.token_file is None:
        return NoAuthentication()
    try:
        return SharedToken(settings.token_file)
    except TokenFileError as error:
        raise CannotStartError(str(error)) from error


async def _stop(rpc: RpcServer, links: Links, watchers: Watchers, settings: Settings) -> None:
    await rpc.set_serving(serving=False)
    ending = RefusedError(
        grpc.StatusCode.UNAVAILABLE, "the server shuts down: connect again", reason="SHUTDOWN"
    )
    async with asyncio.TaskGroup() as group:
        # It refuses new calls from here on, and waits for those that run.
        group.create_task(rpc.server.stop(settings.stop_grace_seconds), name="stop")
        links.end_all(ending)
        watchers.end_all(ending)


class _Health:
    """Tells whether ticks are completed and this server decides, the health service too."""

    def __init__(
        self, driver: Driver, rpc: RpcServer, leadership: Leadership, clock: Clock
    ) -> None:
        self._driver = driver
        self._rpc = rpc
        self._leadership = leadership
        self._clock = clock
        self._hang_seconds = max(
            HANG_MIN_SECONDS, HANG_PERIODS * driver.settings.tick_period_seconds
        )

    def is_healthy(self) -> bool:
        return self._clock.now_seconds() - self._driver.last_tick_seconds < self._hang_seconds

    def is_ready(self) -> bool:
        return self.is_healthy() and self._leadership.leads

    async def tell(self) -> None:
        await self._rpc.set_serving(serving=self.is_ready())

    async def run(self) -> None:
        was_healthy = True
        while True:
            healthy = self.is_healthy()
            if healthy is not was_healthy:
                logger.log(
                    logging.INFO if healthy else logging.ERROR,
                    "driver %s last_tick_age_seconds=%.1f",
                    "is back" if healthy else "hangs",
                    self._clock.now_seconds() - self._driver.last_tick_seconds,
                )
            was_healthy = healthy
            await self.tell()
            await self._clock.sleep_until(self._clock.now_seconds() + HEALTH_CHECK_SECONDS)


def _make_web(shell: Shell, health: _Health) -> Web:
    settings = shell.settings
    market_metrics = MarketMetrics(
        shell.core, shell.clock, containers_max=settings.metrics_containers_max
    )
    host, _, port = settings.http_address.rpartition(":")
    try:
        return Web(
            (host.strip("[]"), int(port)),
            registry=shell.metrics.registry,
            gather=market_metrics.gather,
            is_healthy=health.is_healthy,
            is_ready=health.is_ready,
        )
    except (OSError, ValueError, OverflowError) as error:
        raise CannotStartError(
            f"http_address: cannot listen on {settings.http_address!r}: {error}"
        ) from error


def _listen(rpc: RpcServer, settings: Settings, metrics: Metrics) -> str:
    """Binds the address of gRPC and returns it with the actual port."""
    address = settings.listen_address
    try:
        if settings.tls_cert is not None and settings.tls_key is not None:
            files = TlsFiles(
                certificate=settings.tls_cert,
                key=settings.tls_key,
                client_authorities=settings.tls_client_ca,
            )
            port = rpc.server.add_secure_port(address, reloading_credentials(files, metrics))
        else:
            port = rpc.server.add_insecure_port(address)
    except TlsFilesError as error:
        raise CannotStartError(str(error)) from error
    except RuntimeError as error:
        raise CannotStartError(
            f"listen_address: cannot listen on {address!r}: {error}; is another server there?"
        ) from error
    return address if address.startswith("unix:") else _with_port(address, port)


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"
