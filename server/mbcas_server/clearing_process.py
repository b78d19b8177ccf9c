"""Large requests of `Allocate`, cleared in a process of their own.

The largest legal one takes a tenth of a second of Python. In a thread of the server that would slow
everything else down: with a stream of them, a tick of 1,000 nodes took 1.6 s instead of 0.08 s. So
there is a second process, of low priority, that is started by the first large request, clears one
at a time, and ends with the server. What it is sent is the request and, with a node, its live
market; what it answers is the response, or why there is none.
"""

import asyncio
import json
import logging
import os
import pickle
import signal
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

import grpc

from mbcas.v1 import market_pb2 as pb
from mbcas_core.errors import FieldError, FloorsExceedCapacityError, InvalidInputError
from mbcas_core.market.allocate import LiveMarket, allocate, allocate_on_node
from mbcas_server.answers import allocate_response
from mbcas_server.messages import parse
from mbcas_server.status import RefusedError

NICE = 10
ANSWER_SECONDS = 10.0  # A hundred times what the largest takes; on a busy machine it may starve.
STREAM_BYTES = 4 << 20
LENGTH = struct.Struct("<Q")
ANSWERED, INVALID, FLOORS = b"a", b"i", b"f"

logger = logging.getLogger(__name__)
Read = Callable[[int], bytes]


def clear_request(request: pb.AllocateRequest, live: LiveMarket | None) -> bytes:
    """Clears a request, on a node where its live market is given.

    Raises:
        InvalidInputError: A bid is unusable.
        FloorsExceedCapacityError: The floors do not fit.
    """
    bids = list(request.bids)
    if live is not None:
        answer = allocate_on_node(bids, live)
    else:
        answer = allocate(bids, capacity_millicores=request.capacity_millicores)
    return allocate_response(answer).SerializeToString()


class ClearingProcess:
    """The process, as the server sees it."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._turn = asyncio.Semaphore(1)

    async def clear(self, message: bytes, live: LiveMarket | None) -> bytes:
        """Does what `clear_request` does, when it is this request's turn.

        Raises:
            InvalidInputError: A bid is unusable.
            FloorsExceedCapacityError: The floors do not fit.
            RefusedError: The process ended or hung; the next request starts another.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    reply = await self._ask(pickle.dumps((message, live)))
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                logger.warning("clearing process failed error=%r", error)
                await self.close()
                raise RefusedError(
                    grpc.StatusCode.UNAVAILABLE,
                    "the process that clears large requests failed: ask again, or with fewer bids",
                ) from error
            except BaseException:
                await self.close()  # Its answer would be taken for the next one's.
                raise
        return _read_reply(reply)

    async def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, job: bytes) -> bytes:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", __name__, stdin=PIPE, stdout=PIPE, limit=STREAM_BYTES
            )
        to_process, from_process = self._process.stdin, self._process.stdout
        assert to_process is not None, "asked for"
        assert from_process is not None, "asked for"
        to_process.write(LENGTH.pack(len(job)))
        to_process.write(job)
        await to_process.drain()
        (length,) = LENGTH.unpack(await from_process.readexactly(LENGTH.size))
        return await from_process.readexactly(length)


def _read_reply(reply: bytes) -> bytes:
    kind, content = reply[:1], reply[1:]
    if kind == INVALID:
        raise InvalidInputError([FieldError(field, why) for field, why in json.loads(content)])
    if kind == FLOORS:
        floor_millicores, capacity_millicores = json.loads(content)
        raise FloorsExceedCapacityError(
            floor_millicores=floor_millicores, capacity_millicores=capacity_millicores
        )
    return content


def _reply(job: bytes) -> bytes:
    message, live = pickle.loads(job)  # noqa: S301 - nobody but the server writes to this pipe.
    try:
        return ANSWERED + clear_request(parse(pb.AllocateRequest, message), live)
    except InvalidInputError as error:
        return INVALID + json.dumps([(item.field, item.reason) for item in error.errors]).encode()
    except FloorsExceedCapacityError as error:
        return FLOORS + json.dumps([error.floor_millicores, error.capacity_millicores]).encode()


def serve(jobs: BinaryIO, replies: BinaryIO) -> None:
    """Answers jobs until there are no more."""
    while length := jobs.read(LENGTH.size):
        reply = _reply(jobs.read(*LENGTH.unpack(length)))
        replies.write(LENGTH.pack(len(reply)))
        replies.write(reply)
        replies.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this one.
    os.nice(NICE)
    serve(sys.stdin.buffer, sys.stdout.buffer)
