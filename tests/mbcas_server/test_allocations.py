"""Allocate's bounds: who waits, who is refused, and what happens to the process for large ones."""

import asyncio
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas.v1 import market_pb2 as pb
from mbcas_core.errors import FloorsExceedCapacityError, InvalidInputError
from mbcas_core.market.allocate import LiveMarket
from mbcas_server import allocations
from mbcas_server.allocations import LARGE_MAX, READING_MAX, SMALL_BIDS, Allocations
from mbcas_server.clearing_process import ClearingProcess, clear_request
from mbcas_server.live import LiveMarkets
from mbcas_server.messages import has_more_than
from mbcas_server.metrics import Metrics
from mbcas_server.status import RefusedError
from tests.mbcas_server.fakes import live_market

NODE = "node-a"


class Caller:
    """A call as the server sees it: its message comes when it is sent."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.sent = asyncio.Event()
        self.was_read = False

    async def read(self) -> bytes:
        self.was_read = True
        await self.sent.wait()
        return self.message


class HeldProcess(ClearingProcess):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def clear(self, message: bytes, live: LiveMarket | None) -> bytes:
        del live
        await self.let.wait()
        return message[:1]


def request_message(bids: int = 1, *, node: str = "", floor: int = 0) -> bytes:
    return pb.AllocateRequest(
        node=node,
        capacity_millicores=0 if node else 1000,
        bids=[
            pb.Bid(id=f"{number}", need_millicores=500, floor_millicores=floor, weight=1.0)
            for number in range(bids)
        ],
    ).SerializeToString()


def make_allocations(process: ClearingProcess | None = None) -> Allocations:
    live = LiveMarkets()
    live.update({NODE: live_market(400)}, nodes={NODE})
    return Allocations(live=live, metrics=Metrics(), process=process)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def call(served: Allocations, caller: Caller) -> Any:  # noqa: ANN401 - a call's context is gRPC's.
    return served.serve(caller)  # type: ignore[arg-type] # Reads are all that it needs.


async def test_one_large_request_too_many_is_refused_while_a_small_one_is_answered() -> None:
    process = HeldProcess()
    served = make_allocations(process)
    callers = [Caller(request_message(SMALL_BIDS + 1)) for _ in range(LARGE_MAX + 1)]
    small = Caller(request_message(SMALL_BIDS))
    for caller in [*callers, small]:
        caller.sent.set()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(call(served, caller)) for caller in callers[:-1]]
        await turns()

        with pytest.raises(RefusedError, match="fewer bids") as caught:
            await call(served, callers[-1])
        answer = pb.AllocateResponse.FromString(await call(served, small))
        process.let.set()

    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.reason == "BUSY"
    assert len(answer.allocations) == SMALL_BIDS
    assert all(task.result() for task in waiting)
    assert await call(served, callers[-1]), "there is room again"


async def test_messages_stay_in_the_transport_while_too_many_are_read() -> None:
    served = make_allocations()
    callers = [Caller(request_message()) for _ in range(READING_MAX + 1)]
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(call(served, caller))
        await turns()

        read_at_first = sum(caller.was_read for caller in callers)
        callers[3].sent.set()
        await turns()
        read_then = sum(caller.was_read for caller in callers)
        for caller in callers:
            caller.sent.set()

    assert (read_at_first, read_then) == (READING_MAX, READING_MAX + 1)


async def test_a_request_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocations, "READ_SECONDS", 0.0)

    with pytest.raises(RefusedError) as caught:
        await call(make_allocations(), Caller(b""))

    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_the_process_answers_as_the_server_would() -> None:
    process, live = ClearingProcess(), live_market(400, 900)
    plain, on_node = request_message(300), request_message(3, node=NODE)
    cases = ((plain, None), (on_node, live))

    try:
        answers = [await process.clear(message, market) for message, market in cases]
        with pytest.raises(InvalidInputError) as invalid:
            await process.clear(request_message(2).replace(b"\n\x011", b"\n\x010"), None)
        with pytest.raises(FloorsExceedCapacityError, match="floors need 1500m"):
            await process.clear(request_message(3, floor=500), None)
    finally:
        await process.close()

    requests = [pb.AllocateRequest.FromString(message) for message, _ in cases]
    expected = [
        clear_request(request, market) for request, (_, market) in zip(requests, cases, strict=True)
    ]
    assert answers == expected
    assert [error.field for error in invalid.value.errors] == ["bids[1].id"]


async def test_a_process_that_was_killed_or_left_in_mid_answer_is_replaced() -> None:
    process = ClearingProcess()
    try:
        await process.clear(request_message(), None)
        assert process._process is not None
        process._process.kill()
        await process._process.wait()

        with pytest.raises(RefusedError) as caught:
            await process.clear(request_message(), None)
        async with asyncio.TaskGroup() as group:
            left = group.create_task(process.clear(request_message(1), None))
            await turns()
            left.cancel()
        answer = await process.clear(request_message(2), None)
    finally:
        await process.close()

    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(pb.AllocateResponse.FromString(answer).allocations) == 2


@given(
    entries=st.integers(0, 12),
    noise=st.binary(max_size=12),
    node=st.text(st.sampled_from("\x1aa"), max_size=5),
)
def test_entries_are_counted_as_the_parser_does(entries: int, noise: bytes, node: str) -> None:
    message = pb.AllocateRequest(
        node=node,
        capacity_millicores=26,
        bids=[pb.Bid(id="\x1a", need_millicores=26, weight=1.0)] * entries,
    ).SerializeToString()

    assert has_more_than(8, message, field_number=3) == (entries > 8)
    has_more_than(2, message[:20] + noise + b"\x1a" * 9, field_number=3)
    assert not has_more_than(2, b"\xff" * 40 + b"\x1a" * 9, field_number=3)


def test_a_node_that_is_gone_has_no_market() -> None:
    live = LiveMarkets()
    live.update({"a": live_market(1), "b": live_market(2)}, nodes={"a", "b"})
    live.update({"b": live_market(3)}, nodes={"b"})

    assert live.names() == ["b"]
    assert live.market("b").need_millicores.tolist() == [3]
