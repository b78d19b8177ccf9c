"""Wires the server together; the only place that does."""

import asyncio
import gc
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from mbcas_core.rounds import Rounds
from mbcas_server.allocations import Allocations
from mbcas_server.clock import Clock, SystemClock
from mbcas_server.core import Core, RoundsCore
from mbcas_server.core_thread import SWITCH_SECONDS, CoreThread
from mbcas_server.driver import Driver
from mbcas_server.heap import THRESHOLDS
from mbcas_server.links import Links
from mbcas_server.live import LiveMarkets
from mbcas_server.market_metrics import MarketMetrics
from mbcas_server.market_service import MarketService
from mbcas_server.metrics import Metrics
from mbcas_server.node_link import NodeLinks
from mbcas_server.rpc import RpcServer, make_server
from mbcas_server.settings import Settings
from mbcas_server.status import RefusedError
from mbcas_server.watchers import Watchers
from mbcas_server.web import Web

HANG_PERIODS = 5  # Without a completed tick for so many periods the driver counts as hung,
HANG_MIN_SECONDS = 10.0  # but not sooner than this.
HEALTH_CHECK_SECONDS = 1.0

logger = logging.getLogger(__name__)


class CannotStartError(Exception):
    """The server cannot start; the message names the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A server that runs."""

    listen_address: str
    """Where gRPC listens, with the actual port."""
    http_address: str
    """The same for HTTP; empty where it does not."""
    driver: Driver
    metrics: Metrics


async def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        CannotStartError: An address or a file of the settings cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*THRESHOLDS)
    logger.info("settings %s", settings.describe())
    core = RoundsCore(Rounds(settings.parameters()))
    async with serving(settings, core, SystemClock()) as server:
        logger.info(
            "ready listen_address=%s http_address=%s", server.listen_address, server.http_address
        )
        await stop.wait()
        logger.info("stopping")
    logger.info("stopped")


@asynccontextmanager
async def serving(settings: Settings, core: Core, clock: Clock) -> AsyncIterator[Serving]:
    """Starts everything, and at the end stops it in order: no new calls, streams, driver, web.

    Raises:
        CannotStartError: An address or a file of the settings cannot be used.
    """
    metrics = Metrics()
    links = Links(nodes_max=settings.max_nodes)
    watchers = Watchers(watchers_max=settings.watchers_max)
    live = LiveMarkets()
    thread = CoreThread(core)
    allocations = Allocations(live=live, metrics=metrics)
    driver = Driver(
        core=thread,
        links=links,
        live=live,
        watchers=watchers,
        settings=settings,
        clock=clock,
        metrics=metrics,
    )
    rpc = make_server(
        settings=settings,
        token=None if settings.token_file is None else _read_token(settings.token_file),
        allocations=allocations,
        market=MarketService(
            core=thread, watchers=watchers, settings=settings, clock=clock, metrics=metrics
        ),
        node_links=NodeLinks(
            links=links,
            settings=settings,
            clock=clock,
            metrics=metrics,
            server_epoch=settings.server_epoch or int(clock.unix_seconds()),
        ),
    )
    health = _Health(driver, rpc, clock)
    market_metrics = MarketMetrics(thread, clock, containers_max=settings.metrics_containers_max)
    web = _make_web(settings, metrics, market_metrics, health) if settings.http_address else None
    listen_address = _listen(rpc, settings)
    await rpc.set_serving(serving=True)
    await rpc.server.start()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(driver.run(), name="driver"),
            group.create_task(health.run(), name="health"),
        ]
        if web is not None:
            web.start()
        try:
            yield Serving(
                listen_address=listen_address,
                http_address=_with_port(settings.http_address, web.port) if web else "",
                driver=driver,
                metrics=metrics,
            )
        finally:
            await _stop(rpc, links, watchers, settings)
            for task in tasks:
                task.cancel()
            if web is not None:
                await web.stop()
            thread.close()
            await allocations.close()


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
    """Tells whether ticks are completed, and tells the health service so."""

    def __init__(self, driver: Driver, rpc: RpcServer, clock: Clock) -> None:
        self._driver = driver
        self._rpc = rpc
        self._clock = clock
        self._hang_seconds = max(
            HANG_MIN_SECONDS, HANG_PERIODS * driver.settings.tick_period_seconds
        )

    def is_healthy(self) -> bool:
        return self._clock.now_seconds() - self._driver.last_tick_seconds < self._hang_seconds

    async def run(self) -> None:
        was_healthy = True
        while True:
            healthy = self.is_healthy()
            if healthy is not was_healthy:
                await self._rpc.set_serving(serving=healthy)
                logger.log(
                    logging.INFO if healthy else logging.ERROR,
                    "driver %s last_tick_age_seconds=%.1f",
                    "is back" if healthy else "hangs",
                    self._clock.now_seconds() - self._driver.last_tick_seconds,
                )
            was_healthy = healthy
            await self._clock.sleep_until(self._clock.now_seconds() + HEALTH_CHECK_SECONDS)


def _make_web(
    settings: Settings, metrics: Metrics, market_metrics: MarketMetrics, health: _Health
) -> Web:
    host, _, port = settings.http_address.rpartition(":")
    try:
        return Web(
            (host.strip("[]"), int(port)),
            registry=metrics.registry,
            gather=market_metrics.gather,
            is_healthy=health.is_healthy,
        )
    except (OSError, ValueError, OverflowError) as error:
        raise CannotStartError(
            f"http_address: cannot listen on {settings.http_address!r}: {error}"
        ) from error


def _listen(rpc: RpcServer, settings: Settings) -> str:
    """Binds the address of gRPC and returns it with the actual port."""
    address = settings.listen_address
    try:
        if settings.tls_cert is not None and settings.tls_key is not None:
            port = rpc.server.add_secure_port(address, _credentials(settings))
        else:
            port = rpc.server.add_insecure_port(address)
    except RuntimeError as error:
        raise CannotStartError(
            f"listen_address: cannot listen on {address!r}: {error}; is another server there?"
        ) from error
    return address if address.startswith("unix:") else _with_port(address, port)


def _credentials(settings: Settings) -> grpc.ServerCredentials:
    assert settings.tls_cert is not None, "checked by the settings"
    assert settings.tls_key is not None, "checked by the settings"
    try:
        # gRPC would only say that it cannot listen.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
        path = settings.tls_client_ca
        authorities = None if path is None else path.read_bytes()
        return grpc.ssl_server_credentials(
            [(settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())],
            root_certificates=authorities,
            require_client_auth=authorities is not None,
        )
    except OSError as error:
        raise CannotStartError(
            f"tls_cert, tls_key or tls_client_ca: cannot be used: {error}"
        ) from error


def _read_token(path: Path) -> str:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStartError(f"token_file: cannot read {path}: {error}") from error
    token = lines[0].strip() if lines else ""
    if not token:
        raise CannotStartError(f"token_file: the first line of {path} is empty")
    return token


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"
