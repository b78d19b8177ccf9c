"""The stream to the server: opened, kept, and opened again."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.rpc import (  # type: ignore[import-untyped]  # The package has no stubs.
    error_details_pb2,
    status_pb2,
)

from mbcas.v1 import node_link_pb2 as pb
from mbcas.v1 import node_link_pb2_grpc as rpc
from mbcas_shim.clock import Clock
from mbcas_shim.directives import Directives
from mbcas_shim.errors import ConfigurationError, ShimError, SupersededError
from mbcas_shim.outbox import Outbox
from mbcas_shim.settings import read_token
from mbcas_shim.tls import channel_credentials, explain_handshake

FIRST_DIRECTIVE_SECONDS = 10.0  # The settings come at once; a server that is up needs no longer.
_BACKOFF_FIRST_SECONDS = 0.25
_BACKOFF_MAX_SECONDS = 10.0
_ERROR_DOMAIN = "mbcas.io"
_STATUS_DETAILS_KEY = "grpc-status-details-bin"
_CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Back-off is ours: a channel of its own for each attempt must not remember the last one's.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)

_log = logging.getLogger(__name__)

Call = grpc.aio.StreamStreamCall[pb.NodeReport, pb.NodeDirective]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the server is and who we are."""

    server_address: str
    node_name: str
    instance: pb.ShimInstance
    token_file: Path | None = None
    server_ca: Path | None = None
    """With it the connection is encrypted."""
    server_name: str | None = None


class StreamSilentError(ShimError):
    """The server took the stream and said nothing."""


class Uplink:
    """Keeps one stream open, until a newer shim of this node takes over."""

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Clock,
        uniform: Callable[[], float],
        outbox: Outbox,
        directives: Directives,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._uniform = uniform
        self._outbox = outbox
        self._directives = directives
        self._has_server_spoken = False
        self._sequence = 0
        self._last_directive_sequence = 0

    async def run(self) -> None:
        """Connects again and again, with back-off.

        Raises:
            SupersededError: A newer shim has this node.
        """
        waits = backoff_seconds(self._uniform)
        while True:
            end = await self._connect()
            if self._has_server_spoken:
                waits = backoff_seconds(self._uniform)
            wait_seconds = next(waits)
            self._directives.stream_ended(f"{end}; next attempt in {wait_seconds:.1f} s")
            await self._clock.sleep_until(self._clock.now_seconds() + wait_seconds)

    async def _connect(self) -> str:
        """Keeps one stream; returns in words why it ended."""
        self._sequence = self._last_directive_sequence = 0
        self._has_server_spoken = False
        await self._directives.begin_stream()
        try:
            metadata = self._metadata()
            opened = self._open_channel()
        except ConfigurationError as error:
            return str(error)
        async with opened as channel:
            call: Call = rpc.NodeLinkStub(channel).Connect(metadata=metadata)
            end = f"no directive within {FIRST_DIRECTIVE_SECONDS:.0f} s"
            try:
                end = await self._talk(call)
            except* StreamSilentError:
                pass
            finally:
                call.cancel()
        return await self._explained(end)

    def _open_channel(self) -> grpc.aio.Channel:
        """Prepares a channel, whose connection is made by the first call."""
        connection = self._connection
        if connection.server_ca is None:
            return grpc.aio.insecure_channel(connection.server_address, options=_CHANNEL_OPTIONS)
        options: tuple[tuple[str, int | str], ...] = _CHANNEL_OPTIONS
        if connection.server_name is not None:
            options += (("grpc.ssl_target_name_override", connection.server_name),)
        credentials = channel_credentials(connection.server_ca)
        return grpc.aio.secure_channel(connection.server_address, credentials, options=options)

    async def _explained(self, end: str) -> str:
        """Adds what is wrong with the certificate, where a stream did not even begin."""
        connection = self._connection
        if connection.server_ca is None or self._has_server_spoken:
            return end
        advice = await explain_handshake(
            connection.server_address, connection.server_ca, connection.server_name
        )
        return advice or end

    async def _talk(self, call: Call) -> str:
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self._send(call), name="uplink-send")
            watchdog = group.create_task(self._expect_first_directive(), name="uplink-watchdog")
            end = await self._receive(call)
            sender.cancel()
            watchdog.cancel()
        return end

    async def _send(self, call: Call) -> None:
        while True:
            await self._outbox.wait()
            report = self._outbox.take(now_seconds=self._clock.now_seconds())
            self._sequence += 1
            report.node_name = self._connection.node_name
            report.instance.CopyFrom(self._connection.instance)
            report.sequence = self._sequence
            report.last_directive_sequence = self._last_directive_sequence
            try:
                await call.write(report)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # The stream is over; the receiver learns why.

    async def _expect_first_directive(self) -> None:
        deadline = self._clock.now_seconds() + FIRST_DIRECTIVE_SECONDS
        await self._clock.sleep_until(deadline)
        if not self._has_server_spoken:
            raise StreamSilentError

    async def _receive(self, call: Call) -> str:
        try:
            while True:
                directive = await call.read()
                if not isinstance(directive, pb.NodeDirective):
                    return "the server ended the stream"
                if not self._has_server_spoken:
                    self._has_server_spoken = True
                    _log.info("connected server=%s", self._connection.server_address)
                if self._directives.take_in(directive):
                    self._last_directive_sequence = directive.sequence
        except grpc.aio.AioRpcError as error:
            if _reason(error) == "SUPERSEDED":
                raise SupersededError(
                    f"a newer shim serves node {self._connection.node_name}: this one ends"
                ) from error
            return f"{error.code().name}: {error.details()}"

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        path = self._connection.token_file
        return () if path is None else (("authorization", f"Bearer {read_token(path)}"),)


def backoff_seconds(uniform: Callable[[], float]) -> Iterator[float]:
    """Doubles from a quarter of a second to ten seconds, each shortened by up to a half."""
    wait = _BACKOFF_FIRST_SECONDS
    while True:
        yield wait * (1 - uniform() / 2)
        wait = min(wait * 2, _BACKOFF_MAX_SECONDS)


def _reason(error: grpc.aio.AioRpcError) -> str:
    """The reason that the server attached to the status, if it is one of ours."""
    if error.code() != grpc.StatusCode.ABORTED:
        return ""
    for key, value in error.trailing_metadata():
        if key != _STATUS_DETAILS_KEY or not isinstance(value, bytes):
            continue
        info = error_details_pb2.ErrorInfo()
        for detail in status_pb2.Status.FromString(value).details:
            if detail.Unpack(info) and info.domain == _ERROR_DOMAIN:
                return str(info.reason)
    return ""
