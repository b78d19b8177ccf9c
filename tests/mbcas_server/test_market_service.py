"""The service Market, over real sockets."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from mbcas.v1 import market_pb2 as pb
from mbcas.v1 import node_link_pb2 as link
from mbcas.v1.market_pb2_grpc import MarketStub
from mbcas_core import effects, events
from mbcas_core.events import ReportArrived
from mbcas_server.answers import Answers
from tests.mbcas_server.fakes import (
    FakeCore,
    Shim,
    VirtualClock,
    container_view,
    decision_view,
    eventually,
    market_view,
    report,
    samples,
    server,
)
from tests.mbcas_server.test_node_link import violations_of


def core_with(*nodes: str, rationed: tuple[str, ...] = ()) -> FakeCore:
    core = FakeCore()
    for node in nodes:
        price = 2.0 if node in rationed else 0.0
        core.views[node] = market_view(node, shadow_price=price, containers=[container_view()])
    return core


def bid(number: int = 0, **fields: Any) -> pb.Bid:  # noqa: ANN401 - fields of the message.
    given: dict[str, Any] = {"id": f"bid-{number}", "need_millicores": 500, "weight": 100.0}
    return pb.Bid(**(given | fields))


async def refusal(call: Any) -> grpc.aio.AioRpcError:  # noqa: ANN401 - any call of the stub.
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert isinstance(caught.value, grpc.aio.AioRpcError)
    return caught.value


async def ending_of(watch: Any) -> grpc.aio.AioRpcError:  # noqa: ANN401 - a call of the stub.
    try:
        while await watch.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the stream ended without an error")


async def test_get_market_answers_with_the_core_s_numbers_and_times_of_day() -> None:
    async with server(core_with("node-a")) as world:
        stub = MarketStub(world.channel)

        market = await stub.GetMarket(pb.GetMarketRequest(node="node-a"))

        assert market.reservation.supply_millicores == 1500
        assert market.report_time.seconds > 1_600_000_000
        assert not market.HasField("round_time")
        row = market.containers[0]
        assert row.reason == pb.REASON_RATIONED
        assert row.reservation.applied_millicores == 400
        assert not row.reservation.HasField("allocated_millicores")


@pytest.mark.parametrize(
    ("request_message", "field"),
    [
        (pb.AllocateRequest(node="node-a", capacity_millicores=5), "capacity_millicores"),
        (pb.AllocateRequest(), "capacity_millicores"),
        (pb.AllocateRequest(capacity_millicores=-1), "capacity_millicores"),
        (
            pb.AllocateRequest(capacity_millicores=100, bids=[bid(i) for i in range(10_001)]),
            "bids",
        ),
        (pb.AllocateRequest(node="n" * 300), "node"),
    ],
)
async def test_allocate_names_the_field_that_it_refuses(
    request_message: pb.AllocateRequest, field: str
) -> None:
    async with server(core_with("node-a")) as world:
        error = await refusal(MarketStub(world.channel).Allocate(request_message))

        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert field in violations_of(error)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (bid(weight=float("nan")), "bids[0].weight"),
        (bid(weight=float("inf")), "bids[0].weight"),
        (bid(weight=0.0), "bids[0].weight"),
        (bid(need_millicores=-1), "bids[0].need_millicores"),
        (bid(floor_millicores=50, cap_millicores=40), "bids[0].cap_millicores"),
        (bid(id=""), "bids[0].id"),
    ],
)
async def test_a_bad_bid_is_refused_by_the_market_s_own_check(given: pb.Bid, field: str) -> None:
    async with server(core_with()) as world:
        request = pb.AllocateRequest(capacity_millicores=1000, bids=[given])

        error = await refusal(MarketStub(world.channel).Allocate(request))

        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert field in violations_of(error)


async def test_allocate_clears_the_given_bids() -> None:
    async with server(core_with()) as world:
        request = pb.AllocateRequest(
            capacity_millicores=1000,
            bids=[bid(0, need_millicores=900), bid(1, need_millicores=900)],
        )

        answer = await MarketStub(world.channel).Allocate(request)

        assert [item.allocation_millicores for item in answer.allocations] == [500, 500]
        assert all(item.rationed for item in answer.allocations)
        assert not answer.HasField("price_before")


async def test_floors_above_the_capacity_are_a_failed_precondition() -> None:
    async with server(core_with()) as world:
        request = pb.AllocateRequest(capacity_millicores=10, bids=[bid(floor_millicores=400)])

        error = await refusal(MarketStub(world.channel).Allocate(request))

        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_an_unknown_node_or_pod_is_not_found() -> None:
    async with server(core_with("node-a")) as world:
        stub = MarketStub(world.channel)

        errors = [
            await refusal(stub.GetMarket(pb.GetMarketRequest(node="node-z"))),
            await refusal(stub.Allocate(pb.AllocateRequest(node="node-z"))),
            await refusal(stub.ExplainPod(pb.ExplainPodRequest(name="none"))),
        ]

        assert {error.code() for error in errors} == {grpc.StatusCode.NOT_FOUND}


@pytest.mark.parametrize("rpc", ["Allocate", "ListMarkets", "GetMarket", "ExplainPod"])
async def test_bytes_that_are_no_request_are_an_invalid_argument(rpc: str) -> None:
    async with server() as world:
        call: Any = world.channel.unary_unary(f"/mbcas.v1.Market/{rpc}")

        error = await refusal(call(b"\xff\xff\xff"))

        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_pod_is_explained_in_the_default_namespace_where_none_is_given() -> None:
    core = core_with("node-a")
    core.pods[("default", "web")] = [decision_view(container_view())]
    async with server(core) as world:
        answer = await MarketStub(world.channel).ExplainPod(pb.ExplainPodRequest(name="web"))

        assert answer.decisions[0].headroom.level == 1.2
        assert answer.decisions[0].order.last_result == "in flight"
        assert not answer.decisions[0].reservation.HasField("pod_level")


async def test_a_watcher_sees_all_markets_then_those_that_change() -> None:
    async with server(core_with("node-a", "node-b")) as world:
        watch = MarketStub(world.channel).WatchMarkets(pb.WatchMarketsRequest())
        first = await watch.read()
        shim = Shim(world.channel)

        await shim.send(report("node-b"))
        second = await watch.read()

        assert isinstance(first, pb.WatchMarketsResponse)
        assert isinstance(second, pb.WatchMarketsResponse)
        assert [market.node for market in first.markets] == ["node-a", "node-b"]
        assert [market.node for market in second.markets] == ["node-b"]


async def test_a_watcher_of_rationed_markets_sees_one_once_more_when_it_is_no_longer() -> None:
    core = core_with("a", "b", "c", rationed=("a", "b"))
    wanted = pb.MarketFilter(rationed=True, nodes=["b", "c"])
    async with server(core) as world:
        watch = MarketStub(world.channel).WatchMarkets(pb.WatchMarketsRequest(filter=wanted))
        seen: list[list[tuple[str, bool]]] = []
        first = await watch.read()
        for price in (0.0, 0.0, 3.0):
            core.views |= {node: market_view(node, shadow_price=price) for node in ("a", "b")}
            core.changed_at |= dict.fromkeys(("a", "b", "c"), core.tick_count + 1)
            later = core.tick_count + 2
            await eventually(partial(passed, core, later))
            if price or not seen:
                response = await watch.read()
                assert isinstance(response, pb.WatchMarketsResponse)
                seen.append([(item.node, _is_rationed(item)) for item in response.markets])

    assert isinstance(first, pb.WatchMarketsResponse)
    assert [market.node for market in first.markets] == ["b"]
    assert seen == [[("b", False)], [("b", True)]]


def passed(core: FakeCore, tick: int) -> bool:
    return core.tick_count > tick


def _is_rationed(market: pb.NodeMarket) -> bool:
    return market.reservation.price.shadow_price > 0


async def test_a_watcher_is_told_of_nodes_that_are_gone() -> None:
    core = core_with("node-a", "node-b")
    async with server(core) as world:
        watch = MarketStub(world.channel).WatchMarkets(pb.WatchMarketsRequest())
        await watch.read()
        await eventually(lambda: world.running.driver._known_nodes)

        del core.views["node-a"]
        second = await watch.read()

        assert isinstance(second, pb.WatchMarketsResponse)
        assert second.removed_nodes == ["node-a"]


async def test_a_stuck_watcher_is_dropped_and_told_so_and_delays_nobody() -> None:
    rows = [container_view(f"{'c' * 200}{number}") for number in range(2000)]
    core = FakeCore()
    core.views["node-a"] = market_view("node-a", containers=rows)
    async with server(core, write_stall_seconds=0.3) as world:
        shim = Shim(world.channel)
        async with grpc.aio.insecure_channel(world.address) as channel:
            watch = MarketStub(channel).WatchMarkets(pb.WatchMarketsRequest())
            await shim.send(report("node-a"))
            dropped = world.running.metrics.watchers_dropped

            sequence = 1
            while dropped._value.get() == 0:
                sequence += 1
                await shim.send(report("node-a", sequence=sequence, samples=samples((1,))))
                await asyncio.sleep(0.01)
            await eventually(lambda: len(world.running.driver.watchers) == 0)
            error = await ending_of(watch)

        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "read faster" in (error.details() or "")
        assert world.core.of_type(ReportArrived)


async def test_one_watcher_too_many_is_refused() -> None:
    async with server(core_with("a"), watchers_max=1) as world:
        stub = MarketStub(world.channel)
        first = stub.WatchMarkets(pb.WatchMarketsRequest())
        await first.read()

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.WatchMarkets(pb.WatchMarketsRequest()).read()

        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_token_is_asked_for_where_one_is_set(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    async with server(core_with("a"), token_file=path) as world:
        stub = MarketStub(world.channel)
        request = pb.ListMarketsRequest()

        none = await refusal(stub.ListMarkets(request))
        wrong = await refusal(
            stub.ListMarkets(request, metadata=(("authorization", "Bearer other"),))
        )
        right = await stub.ListMarkets(request, metadata=(("authorization", "Bearer s3cret"),))
        shim = await Shim(world.channel, authorization="Bearer no").ending()

        assert {none.code(), wrong.code(), shim.code()} == {grpc.StatusCode.UNAUTHENTICATED}
        assert len(right.markets) == 1


async def test_an_error_of_the_core_that_nobody_foresaw_is_internal_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(FakeCore):
        def node_names(self) -> list[str]:
            raise ZeroDivisionError

    async with server(Broken()) as world:
        error = await refusal(MarketStub(world.channel).ListMarkets(pb.ListMarketsRequest()))

    assert error.code() == grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError" in caplog.text
    assert "ZeroDivisionError" not in (error.details() or "")


async def test_health_says_serving_and_reflection_names_the_services() -> None:
    async with server() as world:
        stub: Any = health_pb2_grpc.HealthStub(world.channel)
        request = health_pb2.HealthCheckRequest(service="mbcas.v1.NodeLink")

        answer = await stub.Check(request)

        def services() -> list[str]:
            with grpc.insecure_channel(world.address) as channel:
                return list(ProtoReflectionDescriptorDatabase(channel).get_services())

        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert "mbcas.v1.Market" in await asyncio.to_thread(services)


def test_every_enum_of_the_wire_agrees_with_the_core() -> None:
    # The two are converted by number.
    pairs: list[tuple[Any, Any, str]] = [
        (pb.Mode, events.Mode, "MODE_"),
        (pb.Policy, events.Policy, "POLICY_"),
        (pb.PriorityClass, events.PriorityClass, "PRIORITY_CLASS_"),
        (pb.Reason, effects.Reason, "REASON_"),
        (link.Lane, effects.Lane, "LANE_"),
        (link.Outcome, events.Outcome, "OUTCOME_"),
        (link.Enforcement, events.Enforcement, "ENFORCEMENT_"),
    ]
    for wire, core, prefix in pairs:
        named = {name: number for name, number in wire.items() if number}
        assert named == {prefix + item.name: item.value for item in core}


def test_every_field_of_a_decision_is_filled_from_the_view_of_the_same_name() -> None:
    message = Answers(VirtualClock()).decision(decision_view(container_view()))

    def unset(part: Message) -> set[str]:
        absent = {f.name for f in part.DESCRIPTOR.fields} - {f.name for f, _ in part.ListFields()}
        return {f"{part.DESCRIPTOR.name}.{name}" for name in absent}

    parts: list[Message] = [message, message.signals, message.headroom, message.reservation]
    missing = set().union(*(unset(part) for part in [*parts, message.order]))
    # Absent or 0 in the view of the test.
    assert missing == {
        "GoodDecision.pod_level",
        "Headroom.burst_millicores",
        "Headroom.emergency_millicores",
        "OrderDecision.granted_reservation_millicores",
    }
