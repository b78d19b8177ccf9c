"""Asks MBCAS about many nodes at once, and takes no answer for an answer.

The cost is one Allocate call for each candidate, so many at a time, all within one deadline. What
goes wrong with a node leaves that node unknown; it never fails the question.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from prometheus_client import Counter as CounterMetric

from mbcas.v1 import market_pb2 as pb
from mbcas.v1.market_pb2_grpc import MarketStub
from mbcas_extender.score import Answer, Crowded, Offer

AT_ONCE_MAX = 32
TOKEN_MAX_BYTES = 64 << 10
LOG_EVERY_SECONDS = 60.0
DEADLINE_SECONDS = 0.25
CALLS_MAX = 500

ANSWERED, CROWDED, SKIPPED, SLOW = "answered", "crowded", "skipped", "slow"
CAUSES = {
    grpc.StatusCode.NOT_FOUND: "unknown-node",
    grpc.StatusCode.FAILED_PRECONDITION: CROWDED,
    grpc.StatusCode.DEADLINE_EXCEEDED: SLOW,
    grpc.StatusCode.UNAVAILABLE: "unreachable",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "busy",
    grpc.StatusCode.INVALID_ARGUMENT: "bid-refused",
    grpc.StatusCode.UNAUTHENTICATED: "token-refused",
    grpc.StatusCode.PERMISSION_DENIED: "token-refused",
}
OTHER = "failed"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where MBCAS is, how to speak to it, and how long to wait."""

    server: str
    token_file: Path | None = None
    """Read anew for each question: Kubernetes renews tokens in place."""
    tls_ca: bytes | None = None
    """Authorities that signed the server's certificate; None for plain text."""
    deadline_seconds: float = DEADLINE_SECONDS
    """For all calls of one question together."""
    calls_max: int = CALLS_MAX
    """Candidates beyond these stay unknown."""


class Market(AbstractAsyncContextManager["Market"]):
    """A channel to MBCAS; made inside the event loop that it is used in."""

    def __init__(
        self, connection: Connection, *, answers: CounterMetric, now_seconds: Callable[[], float]
    ) -> None:
        self._connection = connection
        self._answers = answers
        self._now_seconds = now_seconds
        self._said_at: dict[str, float] = {}
        if connection.tls_ca is None:
            self._channel = grpc.aio.insecure_channel(connection.server)
        else:
            credentials = grpc.ssl_channel_credentials(connection.tls_ca)
            self._channel = grpc.aio.secure_channel(connection.server, credentials)
        self._stub = MarketStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def ask(self, bid: pb.Bid, nodes: Sequence[str]) -> dict[str, Answer]:
        """Returns an answer for every node, None where there is none in time."""
        answers: dict[str, Answer] = dict.fromkeys(nodes)
        asked = list(answers)[: self._connection.calls_max]
        ends: Counter[str] = Counter({SKIPPED: len(answers) - len(asked)})
        detail: dict[str, str] = {}
        queue = iter(asked)
        metadata = self._metadata()

        async def work() -> None:
            # All workers share one iterator: each takes the next node that nobody has taken.
            for node in queue:
                request = pb.AllocateRequest(node=node, bids=[bid])
                try:
                    answer = await self._stub.Allocate(request, metadata=metadata)
                except grpc.aio.AioRpcError as error:
                    cause = CAUSES.get(error.code(), OTHER)
                    words = error.details() or error.code().name
                    answers[node] = Crowded(reason=words) if cause == CROWDED else None
                    detail.setdefault(cause, f"{node}: {words}")
                else:
                    cause = ANSWERED
                    answers[node] = _read(answer)
                ends[cause] += 1

        try:
            async with (
                asyncio.timeout(self._connection.deadline_seconds),
                asyncio.TaskGroup() as group,
            ):
                for number in range(min(AT_ONCE_MAX, len(asked))):
                    group.create_task(work(), name=f"allocate-{number}")
        except TimeoutError:
            ends[SLOW] += len(answers) - ends.total()
        self._tell(ends, detail)
        return answers

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        path = self._connection.token_file
        if path is None:
            return ()
        try:
            with path.open("rb") as file:
                lines = file.read(TOKEN_MAX_BYTES).decode("ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            # Without one, MBCAS refuses each call, and that is told like any other refusal.
            self._say("token-unreadable", 1, f"{path}: {error}")
            return ()
        return (("authorization", f"Bearer {lines[0].strip() if lines else ''}"),)

    def _tell(self, ends: Counter[str], detail: dict[str, str]) -> None:
        for cause, count in ends.items():
            if not count:
                continue
            self._answers.labels(result=cause).inc(count)
            if cause not in {ANSWERED, CROWDED}:
                self._say(cause, count, detail.get(cause, ""))

    def _say(self, cause: str, count: int, detail: str) -> None:
        """Writes a line, but one a minute for each cause: an outage must not flood the log."""
        now = self._now_seconds()
        if now - self._said_at.get(cause, -LOG_EVERY_SECONDS) < LOG_EVERY_SECONDS:
            return
        self._said_at[cause] = now
        logger.warning("nodes stay neutral cause=%s nodes=%d first=%r", cause, count, detail)


def _read(answer: pb.AllocateResponse) -> Offer | None:
    """Reads what comes back for one bid; None where it is no answer to that."""
    if len(answer.allocations) != 1:
        return None
    return Offer(
        allocation_millicores=answer.allocations[0].allocation_millicores,
        rationed=answer.allocations[0].rationed,
        shortage_before=answer.price_before.shortage,
        shortage=answer.price.shortage,
    )
