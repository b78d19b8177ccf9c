"""Answers `Allocate`: at once where that is cheap, and never so that others wait for long.

A scheduler's request of 50 bids takes half a millisecond and is answered in the event loop, from
the live market that the node's last round left. The largest legal request, 10,000 bids with ids of
256 bytes, takes a tenth of a second and memory of its own. So large requests are cleared in a
second thread, one at a time; a few may wait for that, and the next one is refused. A message is
read only when there is room for it: however many callers come, what they send stays in the
transport until then.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager

import grpc

from mbcas.v1 import market_pb2 as pb
from mbcas_core.errors import FieldError, InvalidInputError
from mbcas_core.market.allocate import MAX_BIDS, Bid, allocate, allocate_on_node
from mbcas_core.units import MAX_MILLICORES
from mbcas_server.answers import allocate_response
from mbcas_server.live import LiveMarkets
from mbcas_server.messages import parse
from mbcas_server.metrics import Metrics
from mbcas_server.status import Context, RefusedError

CAPACITY_MAX_MILLICORES = 100 * MAX_MILLICORES
NODE_NAME_MAX = 253
SMALL_BYTES = 8_192
"""A request up to this is answered at once: at most 2 ms in the worst case, ids of one byte."""
READING_MAX = 64
"""Requests that are read or held at one time: of the largest size, 256 MiB. Others wait."""
READ_SECONDS = 10.0
LARGE_MAX = 4
"""Large requests at one time, the one that is being cleared included."""


class Allocations:
    """Serves `Allocate`."""

    def __init__(
        self, *, live: LiveMarkets, metrics: Metrics, executor: Executor | None = None
    ) -> None:
        self._live = live
        self._metrics = metrics
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="allocate")
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
            if len(message) <= SMALL_BYTES:
                return _answer(message, self._live)
            async with self._place():
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._executor, _answer, message, self._live)

    def close(self) -> None:
        """Waits for the request that is being cleared."""
        self._executor.shutdown(cancel_futures=True)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._large >= LARGE_MAX:
            self._metrics.allocations_refused.inc()
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._large} requests of more than {SMALL_BYTES} bytes are here already: ask "
                "again later, or with fewer bids or shorter ids",
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


def _answer(message: bytes, live: LiveMarkets) -> bytes:
    request = parse(pb.AllocateRequest, message)
    _check(request)
    bids = [
        Bid(
            id=bid.id,
            need_millicores=bid.need_millicores,
            floor_millicores=bid.floor_millicores,
            cap_millicores=bid.cap_millicores,
            weight=bid.weight,
        )
        for bid in request.bids
    ]
    if request.node:
        answer = allocate_on_node(bids, live.market(request.node))
    else:
        answer = allocate(bids, capacity_millicores=request.capacity_millicores)
    return allocate_response(answer).SerializeToString()


def _check(request: pb.AllocateRequest) -> None:
    """Refuses what the market's own check does not see."""
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
    if len(request.bids) > MAX_BIDS:
        errors.append(
            FieldError("bids", f"has {len(request.bids)} entries, must have at most {MAX_BIDS}")
        )
    if errors:
        raise InvalidInputError(errors)
