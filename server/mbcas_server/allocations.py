"""Answers `Allocate`: at once where that is cheap, and never so that others wait for long.

A scheduler's request of 50 bids takes half a millisecond and is answered in the event loop, from
the live market that the node's last round left. Requests with many bids go to a process of their
own, one at a time; a few may wait for that, and the next one is refused. A message is read only
when there is room for it: however many callers come, what they send stays in the transport until
then.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from mbcas.v1 import market_pb2 as pb
from mbcas_core.errors import FieldError, InvalidInputError
from mbcas_core.market.allocate import MAX_BIDS
from mbcas_core.units import MAX_MILLICORES
from mbcas_server.clearing_process import ClearingProcess, clear_request
from mbcas_server.live import LiveMarkets
from mbcas_server.messages import has_more_than, parse
from mbcas_server.metrics import Metrics
from mbcas_server.status import Context, RefusedError

CAPACITY_MAX_MILLICORES = 100 * MAX_MILLICORES
NODE_NAME_MAX = 253
BIDS_FIELD = pb.AllocateRequest.DESCRIPTOR.fields_by_name["bids"].number
SMALL_BIDS = 100
"""A request with at most so many is answered at once, in a millisecond."""
READING_MAX = 64
"""Requests that are read or held at one time: of the largest size, 256 MiB. Others wait."""
READ_SECONDS = 10.0
LARGE_MAX = 4
"""Large requests at one time, the one that is being cleared included."""


class Allocations:
    """Serves `Allocate`."""

    def __init__(
        self, *, live: LiveMarkets, metrics: Metrics, process: ClearingProcess | None = None
    ) -> None:
        self._live = live
        self._metrics = metrics
        self._process = process or ClearingProcess()
        self._reading = asyncio.Semaphore(READING_MAX)
        self._large = 0

    async def serve(self, context: Context) -> bytes:
        """Reads one request and answers it.

        Raises:
            InvalidInputError: The request is unusable.
            UnknownNodeError: It names a node that no shim spoke for.
            FloorsExceedCapacityError: The floors do not fit.
            RefusedError: It took too long to come, or too many large ones wait.
        """
        async with self._reading:
            message = await _read(context)
            request = _parse(message)
            live = self._live.market(request.node) if request.node else None
            if len(request.bids) <= SMALL_BIDS:
                return clear_request(request, live)
            del request  # It would wait with the message, and is larger.
            with self._place():
                return await self._process.clear(message, live)

    async def close(self) -> None:
        """Ends the process for large requests."""
        await self._process.close()

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._large >= LARGE_MAX:
            self._metrics.allocations_refused.inc()
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._large} requests of more than {SMALL_BIDS} bids are here already: ask "
                "again later, or with fewer bids",
                reason="BUSY",
            )
        self._large += 1
        try:
            yield
        finally:
            self._large -= 1


async def _read(context: Context) -> bytes:
    try:
        async with asyncio.timeout(READ_SECONDS):
            message = await context.read()
    except TimeoutError as error:
        raise RefusedError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"the request did not come within {READ_SECONDS:g} s",
        ) from error
    if not isinstance(message, bytes):
        raise InvalidInputError([FieldError("request", "is missing: send one AllocateRequest")])
    return message


def _parse(message: bytes) -> pb.AllocateRequest:
    """Parses a request; refuses in it what the market's own check does not see."""
    if has_more_than(MAX_BIDS, message, field_number=BIDS_FIELD):
        reason = f"has more than {MAX_BIDS} entries: ask for fewer at a time"
        raise InvalidInputError([FieldError("bids", reason)])
    request = parse(pb.AllocateRequest, message)
    errors = []
    capacity = request.capacity_millicores
    if request.node and capacity:
        errors.append(
            FieldError("capacity_millicores", "must not be set beside node, which has its own")
        )
    if not request.node and not 1 <= capacity <= CAPACITY_MAX_MILLICORES:
        errors.append(
            FieldError(
                "capacity_millicores",
                f"is {capacity}, must be from 1 to {CAPACITY_MAX_MILLICORES} without a node",
            )
        )
    if len(request.node) > NODE_NAME_MAX:
        errors.append(
            FieldError(
                "node",
                f"has {len(request.node)} characters, must have at most {NODE_NAME_MAX}",
            )
        )
    if errors:
        raise InvalidInputError(errors)
    return request
