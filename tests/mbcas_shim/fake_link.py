"""A server of NodeLink for tests: real gRPC, nothing behind it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import (  # type: ignore[import-untyped]  # The package has no stubs.
    code_pb2,
    error_details_pb2,
    status_pb2,
)
from grpc_status import rpc_status

from mbcas.v1 import node_link_pb2 as pb
from mbcas.v1 import node_link_pb2_grpc as rpc

HANG_SECONDS = 20.0  # Only a bound for a test that would never end.

SETTINGS = pb.Settings(
    hot_interval=Duration(seconds=1),
    busy_interval=Duration(seconds=2),
    calm_interval=Duration(seconds=5),
    hot_usage_ratio=0.9,
    calm_usage_ratio=0.7,
    calm_after=Duration(seconds=10),
    failsafe_after=Duration(seconds=300),
)

Context = grpc.aio.ServicerContext[pb.NodeReport, pb.NodeDirective]


class FakeLink(rpc.NodeLinkServicer):
    """Keeps what it is told in a queue and says what a test puts into another."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[pb.NodeReport] = asyncio.Queue()
        self.outgoing: asyncio.Queue[pb.NodeDirective | str] = asyncio.Queue()
        self.metadata: list[dict[str, str | bytes]] = []
        self.server_epoch = 1
        self.is_silent = False

    async def Connect(  # type: ignore[override]  # noqa: N802  # The stub knows only generators.
        self, request_iterator: object, context: Context
    ) -> None:
        del request_iterator
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.outgoing = asyncio.Queue()
        said: pb.NodeDirective | str = ""
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(context))
            if not self.is_silent:
                await context.write(self._numbered(pb.NodeDirective(settings=SETTINGS), 1))
            for sequence in range(2, 1000):
                said = await self.outgoing.get()
                if isinstance(said, str):
                    break
                await context.write(self._numbered(said, sequence))
            reader.cancel()
        await context.abort_with_status(rpc_status.to_status(_aborted(said)))

    async def next_report(self) -> pb.NodeReport:
        return await asyncio.wait_for(self.reports.get(), HANG_SECONDS)

    async def say(self, directive: pb.NodeDirective) -> None:
        await self.outgoing.put(directive)

    async def end_stream(self, reason: str) -> None:
        await self.outgoing.put(reason)

    async def _read(self, context: Context) -> None:
        while True:
            report: object = await context.read()
            if not isinstance(report, pb.NodeReport):
                await self.outgoing.put("")
                return
            await self.reports.put(report)

    def _numbered(self, directive: pb.NodeDirective, sequence: int) -> pb.NodeDirective:
        directive.sequence = sequence
        directive.server_epoch = directive.server_epoch or self.server_epoch
        return directive


@contextlib.asynccontextmanager
async def served(link: FakeLink, folder: Path) -> AsyncIterator[str]:
    """Serves on a socket in a folder; yields its address."""
    address = f"unix:{folder}/link.sock"
    server = grpc.aio.server()
    rpc.add_NodeLinkServicer_to_server(link, server)
    server.add_insecure_port(address)
    await server.start()
    try:
        yield address
    finally:
        await server.stop(grace=None)


def _aborted(reason: pb.NodeDirective | str) -> status_pb2.Status:
    detail = Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=str(reason), domain="mbcas.io"))
    return status_pb2.Status(code=code_pb2.ABORTED, message=str(reason), details=[detail])
