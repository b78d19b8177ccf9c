"""Whatever is sent to `Allocate`: the answer is right, or says which field is wrong.

The rules of the API are written down once more below, as plainly as possible; Hypothesis draws
requests around every bound, and bytes that are none.
"""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped] # As in status.
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mbcas.v1 import market_pb2 as pb
from tests.mbcas_core.market.plain import PlainMarket, clear_plainly
from tests.mbcas_server.fakes import FakeCore, eventually, live_market, market_view, server

NODE = "node-a"
LIVE = live_market(400, 900, 30, 700)
EXACT_MILLICORES = 10**6  # Above, the plain twin may give a unit to another bid.
INT64 = st.integers(-(2**63), 2**63 - 1)
MILLICORES = st.one_of(st.integers(0, 2_000), st.integers(0, 10**9), INT64)
WEIGHTS = st.one_of(
    st.integers(10, 8_000).map(float),
    st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True),
    st.sampled_from([0.0, -0.0, 1e-9, 0.99e-9, 1e12, 1.01e12, 5e-324, math.inf, math.nan]),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IDS = st.one_of(
    TEXT,
    st.sampled_from(["", "a", "\0", "\x1a", "é" * 128, "é" * 129, "x" * 256, "x" * 257, "👩‍👩‍👧"]),
)
BIDS = st.builds(
    pb.Bid,
    id=IDS,
    need_millicores=MILLICORES,
    floor_millicores=MILLICORES,
    cap_millicores=st.one_of(st.just(0), MILLICORES),
    weight=WEIGHTS,
)
LEGAL_BIDS = st.builds(
    pb.Bid,
    need_millicores=st.integers(0, 1_500),
    floor_millicores=st.integers(0, 300),
    cap_millicores=st.one_of(st.just(0), st.integers(300, 3_000)),
    weight=st.integers(10, 8_000).map(float),
)
REQUESTS = st.builds(
    pb.AllocateRequest,
    node=st.one_of(st.just(""), st.just(NODE), st.sampled_from(["gone", "n" * 254]), TEXT),
    capacity_millicores=st.one_of(st.just(0), st.integers(1, 5_000), INT64),
    bids=st.lists(BIDS, max_size=6),
)
Call = Callable[..., bytes]


def capped(*, floor: int, cap: int) -> pb.AllocateRequest:
    bid = pb.Bid(id="a", need_millicores=9, floor_millicores=floor, cap_millicores=cap, weight=1)
    return pb.AllocateRequest(capacity_millicores=1000, bids=[bid])


@st.composite
def legal_requests(draw: st.DrawFn) -> pb.AllocateRequest:
    bids = draw(st.lists(LEGAL_BIDS, max_size=8))
    for number, bid in enumerate(bids):
        bid.id = f"bid-{number}"
    node = draw(st.sampled_from(["", NODE]))
    capacity = 0 if node else draw(st.integers(1, 6_000))
    return pb.AllocateRequest(node=node, capacity_millicores=capacity, bids=bids)


@pytest.fixture(scope="module")
def allocate() -> Iterator[Call]:
    """One server for all requests, in a loop of its own: Hypothesis and asyncio do not mix."""
    core = FakeCore()
    core.views[NODE] = market_view(NODE)
    core.live[NODE] = LIVE
    started: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with server(core) as world:
            stop = asyncio.Event()
            await eventually(world.running.driver.live.names)
            started.set_result((world.address, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    address, loop, stop = started.result(30)
    with grpc.insecure_channel(address) as channel:
        yield channel.unary_unary("/mbcas.v1.Market/Allocate")
    loop.call_soon_threadsafe(stop.set)
    thread.join()


Refusal = tuple[grpc.StatusCode, list[str]]


def ask(allocate: Call, message: bytes) -> pb.AllocateResponse | Refusal:
    """Returns the answer, or the code and the fields that are named."""
    try:
        return pb.AllocateResponse.FromString(allocate(message, timeout=20))
    except grpc.RpcError as error:
        call: Any = error  # It is a grpc.Call too, which its type does not say.
        return call.code(), list(violations_of(call))


def violations_of(error: grpc.Call) -> dict[str, str]:
    request = error_details_pb2.BadRequest()
    found = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    for detail in status_pb2.Status.FromString(found).details if found else ():
        detail.Unpack(request)
    violations = {item.field: item.description for item in request.field_violations}
    assert all(violations.values()), "each says what is wrong"
    return violations


def expected_refusal(request: pb.AllocateRequest) -> Refusal | None:
    """The rules, in the words of the API."""
    allowed = range(1) if request.node else range(1, 10**9 + 1)
    wrong = [] if request.capacity_millicores in allowed else ["capacity_millicores"]
    wrong += ["node"] if len(request.node) > 253 else []
    if wrong:
        return grpc.StatusCode.INVALID_ARGUMENT, wrong
    if request.node not in {"", NODE}:
        return grpc.StatusCode.NOT_FOUND, []
    earlier: set[str] = set()
    for index, bid in enumerate(request.bids):
        wrong += [f"bids[{index}].{field}" for field in wrong_fields(bid, earlier)]
        earlier.add(bid.id)
    if wrong:
        return grpc.StatusCode.INVALID_ARGUMENT, wrong[:10]
    market, _ = plain_market(request)
    counted = [min(*pair) for pair in zip(market.floors, market.needs, strict=True)]
    if sum(counted) > market.capacity:
        return grpc.StatusCode.FAILED_PRECONDITION, []
    return None


def wrong_fields(bid: pb.Bid, earlier: set[str]) -> list[str]:
    numbers = ("need_millicores", "floor_millicores", "cap_millicores")
    wrong = [name for name in numbers if not 0 <= getattr(bid, name) <= 10**9]
    if not bid.id or len(bid.id.encode()) > 256 or bid.id in earlier:
        wrong.insert(0, "id")
    if 0 < bid.cap_millicores < bid.floor_millicores:
        wrong.append("cap_millicores")
    if not 1e-9 <= bid.weight <= 1e12:
        wrong.append("weight")
    return wrong


def plain_market(request: pb.AllocateRequest) -> tuple[PlainMarket, list[int]]:
    """The market of the bids, then the live ones, for the plain twin; and the needs as given."""
    live = LIVE if request.node else None
    default = live.default_cap_millicores if live else request.capacity_millicores * 3 // 4
    floors = [bid.floor_millicores for bid in request.bids]
    caps = [bid.cap_millicores or max(default, bid.floor_millicores) for bid in request.bids]
    needs = [min(bid.need_millicores, cap) for bid, cap in zip(request.bids, caps, strict=True)]
    weights = [bid.weight for bid in request.bids]
    capacity = request.capacity_millicores
    if live:
        needs += live.need_millicores.tolist()
        floors += live.floor_millicores.tolist()
        weights += live.weight.tolist()
        counted = sum(min(*pair) for pair in zip(floors, needs, strict=True))
        available = live.available_millicores
        capacity = max(available - live.reserve_millicores, min(available, counted))
    quantum = live.quantum_millicores if live else 1
    return PlainMarket(needs, floors, weights, capacity, quantum), needs


def check(request: pb.AllocateRequest, answer: pb.AllocateResponse | Refusal) -> None:
    """The answer is the refusal that the rules ask for, or a right allocation."""
    expected = expected_refusal(request)
    if not isinstance(answer, pb.AllocateResponse):
        assert answer == expected
        return
    assert expected is None
    market, needs = plain_market(request)
    got = [item.allocation_millicores for item in answer.allocations]
    assert [item.id for item in answer.allocations] == [bid.id for bid in request.bids]
    for bid, need, given_millicores in zip(request.bids, needs, got, strict=False):
        assert min(bid.floor_millicores, need) <= given_millicores <= need
    rationed = [item.rationed for item in answer.allocations]
    assert rationed == [given < need for given, need in zip(got, needs, strict=False)]
    assert answer.unallocated_millicores == max(0, market.capacity - sum(needs))
    assert answer.HasField("price_before") == bool(request.node)
    assert math.isfinite(answer.price.shadow_price)
    assert (answer.price.shadow_price > 0) == (sum(needs) > market.capacity)
    assert 0 <= answer.price.shadow_price_normalized <= 1
    assert 0 <= answer.price.shortage <= 1
    if max(needs, default=0) <= EXACT_MILLICORES:
        by_hand = clear_plainly(market).allocations[: len(got)]
        # Among weights that are far apart, rounding may give a unit to another bid.
        usual = all(10 <= bid.weight <= 8_000 for bid in request.bids)
        off_most = 0 if usual else market.quantum
        assert all(abs(a - b) <= off_most for a, b in zip(got, by_hand, strict=True))
    if not request.node:
        assert sum(got) == min(market.capacity, sum(needs))


@given(request=st.one_of(REQUESTS, legal_requests()))
@settings(max_examples=200)
@example(request=pb.AllocateRequest())
@example(request=pb.AllocateRequest(node=NODE))
@example(request=pb.AllocateRequest(node="gone", bids=[pb.Bid()]))
@example(request=pb.AllocateRequest(capacity_millicores=10**9, bids=[pb.Bid(id="a", weight=1e12)]))
@example(request=pb.AllocateRequest(capacity_millicores=1, bids=[pb.Bid()] * 30))
@example(request=capped(floor=300, cap=299))
@example(request=capped(floor=300, cap=300))
def test_every_request_is_answered_right_or_refused_by_field(
    allocate: Call, request: pb.AllocateRequest
) -> None:
    check(request, ask(allocate, request.SerializeToString()))


@given(
    whole=legal_requests(),
    noise=st.binary(max_size=30),
    place=st.floats(0, 1),
    length=st.integers(0, 10),
)
@settings(max_examples=120)
@example(whole=pb.AllocateRequest(), noise=b"\xff" * 30, place=0, length=0)
@example(whole=pb.AllocateRequest(), noise=b"\x0a\x02\xff\xff", place=0, length=0)  # No UTF-8.
@example(whole=pb.AllocateRequest(), noise=b"\x1b" * 30, place=0, length=0)
def test_bytes_that_are_no_request_are_an_invalid_argument_and_others_a_request(
    allocate: Call, whole: pb.AllocateRequest, noise: bytes, place: float, length: int
) -> None:
    message = whole.SerializeToString()
    at = round(place * len(message))
    message = message[:at] + noise + message[at + length :]

    answer = ask(allocate, message)

    try:
        request = pb.AllocateRequest.FromString(message)
    except DecodeError:
        assert answer == (grpc.StatusCode.INVALID_ARGUMENT, ["request"])
    else:
        check(request, answer)


@pytest.mark.parametrize("count", [10_001, 400_000])
def test_too_many_bids_are_refused_however_small_they_are(allocate: Call, count: int) -> None:
    capacity = pb.AllocateRequest(capacity_millicores=1000).SerializeToString()
    empty_bid = b"\x1a\x00"

    answer = ask(allocate, capacity + count * empty_bid)

    assert answer == (grpc.StatusCode.INVALID_ARGUMENT, ["bids"])


@pytest.mark.parametrize("id_bytes", [5, 256])
def test_the_largest_legal_request_is_answered(allocate: Call, id_bytes: int) -> None:
    bids = [
        pb.Bid(id=f"{number:0{id_bytes}}", need_millicores=number, weight=1.0 + number % 7)
        for number in range(10_000)
    ]
    request = pb.AllocateRequest(capacity_millicores=10**7, bids=bids)

    check(request, ask(allocate, request.SerializeToString()))


@pytest.mark.parametrize("count", [101, 10_000])
def test_a_large_request_is_refused_by_field_like_a_small_one(allocate: Call, count: int) -> None:
    bids = [pb.Bid(id=f"bid-{number}", need_millicores=10, weight=1.0) for number in range(count)]
    bids[-1].weight = math.nan
    request = pb.AllocateRequest(node=NODE, bids=bids)

    check(request, ask(allocate, request.SerializeToString()))
    bids[-1].weight, bids[-1].floor_millicores = 1.0, 10**9
    bids[-1].need_millicores = 10**9
    check(
        pb.AllocateRequest(node=NODE, bids=bids),
        ask(allocate, pb.AllocateRequest(node=NODE, bids=bids).SerializeToString()),
    )


def test_a_message_over_the_limit_is_told_so(allocate: Call) -> None:
    code, _ = refused(ask(allocate, bytes(5 << 20)))

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def refused(answer: pb.AllocateResponse | Refusal) -> Refusal:
    assert not isinstance(answer, pb.AllocateResponse)
    return answer
