"""Shims and the server, over real sockets."""

import asyncio
import functools
import time
from collections import Counter
from contextlib import AsyncExitStack
from itertools import pairwise

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped] # See status.py.

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.effects import Effect, RequestInventory, SendOrders
from mbcas_core.events import Event, NodeAttached, NodeDetached, ReportArrived, TickDue
from tests.mbcas_server.fakes import (
    FakeCore,
    Shim,
    container,
    eventually,
    order,
    report,
    samples,
    server,
)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    info = error_details_pb2.ErrorInfo()
    assert details_of(error).details[0].Unpack(info)
    assert info.domain == "mbcas.io"
    return str(info.reason)


def violations_of(error: grpc.aio.AioRpcError) -> dict[str, str]:
    request = error_details_pb2.BadRequest()
    assert details_of(error).details[0].Unpack(request)
    return {item.field: item.description for item in request.field_violations}


def details_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    (found,) = [
        value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"
    ]
    return status_pb2.Status.FromString(found)


async def until_inventory_is_requested(shim: Shim) -> None:
    while not (await shim.read_until("heartbeat")).heartbeat.inventory_requested:
        pass


async def test_settings_are_the_first_directive_and_heartbeats_follow() -> None:
    async with server(hot_interval_seconds=0.5) as world:
        shim = Shim(world.channel)

        await shim.send(report())
        first = await shim.read()
        second = await shim.read_until("heartbeat")

        assert first.sequence == 1
        assert first.settings.hot_interval.nanos == 500_000_000
        assert first.settings.failsafe_spread.seconds == 0
        assert second.sequence == 2
        assert second.heartbeat.tick >= 1
        assert second.server_epoch == first.server_epoch > 0


async def test_shims_that_patch_pods_are_told_a_spacing_with_slack() -> None:
    facts = pb.NodeFacts(
        allocatable_millicores=1600,
        cpu_count=2,
        cgroup_version=2,
        enforcement=pb.ENFORCEMENT_RESIZE,
    )
    async with server(emergency_spacing_seconds=3.0) as world:
        shim = Shim(world.channel)

        await shim.send(report(node_facts=facts))
        first = await shim.read()

    assert 1 / first.settings.pod_orders_per_second == pytest.approx(2.0)


async def test_a_report_reaches_the_core_after_its_node_is_attached() -> None:
    async with server() as world:
        shim = Shim(world.channel)

        await shim.send(report())
        await eventually(lambda: world.core.of_type(ReportArrived))

        told = [event for event in world.core.events if not isinstance(event, TickDue)]
        assert [type(event) for event in told] == [NodeAttached, ReportArrived]
        (arrived,) = world.core.of_type(ReportArrived)
        assert arrived.report.full_inventory
        assert arrived.report.containers[0].spec.limit_millicores == 400


async def test_a_stream_that_ends_detaches_its_node_after_its_last_words() -> None:
    async with server(tick_period_seconds=0.1, tick_spacing_seconds=0.1) as world:
        shim = Shim(world.channel)
        await shim.send(report())
        await eventually(lambda: world.core.of_type(ReportArrived))

        result = pb.OrderResult(order_id=9, outcome=pb.OUTCOME_APPLIED)
        await shim.send(report(sequence=2, order_results=[result]))
        await shim.call.done_writing()
        await eventually(lambda: world.core.of_type(NodeDetached))

        told = [event for event in world.core.events if not isinstance(event, TickDue)]
        assert isinstance(told[-1], NodeDetached)
        assert isinstance(told[-2], ReportArrived)
        assert told[-2].report.results[0].order_id == 9


async def test_orders_reach_the_shim_and_their_results_are_counted_with_their_reason() -> None:
    core = FakeCore()

    def respond(event: Event) -> list[Effect]:
        first = isinstance(event, ReportArrived) and event.report.full_inventory
        return [SendOrders(node="node-a", orders=(order(5),))] if first else []

    core.respond = respond
    async with server(core) as world:
        shim = Shim(world.channel)
        await shim.send(report())
        got = (await shim.read_until("orders")).orders.orders[0]

        result = pb.OrderResult(order_id=got.order_id, outcome=pb.OUTCOME_REFUSED)
        await shim.send(report(sequence=2, order_results=[result]))
        count = world.running.metrics.resizes.labels(result="refused", reason="raised")
        await eventually(lambda: count._value.get() == 1)

        assert got.order_id == 5
        assert got.desired.limit_millicores == 500
        assert not got.desired.HasField("request_millicores")
        assert not got.HasField("burst_usec")
        assert got.expires_after.seconds == 10


async def test_a_newer_shim_of_the_boot_takes_the_node_over() -> None:
    async with server() as world:
        old, new = Shim(world.channel), Shim(world.channel)
        await old.send(report(start=1000))
        await old.read()

        await new.send(report(start=2000))
        await new.read()
        error = await old.ending()

        assert (error.code(), reason_of(error)) == (grpc.StatusCode.ABORTED, "SUPERSEDED")


async def test_an_older_shim_of_the_boot_is_turned_away_even_when_the_newer_is_gone() -> None:
    async with server() as world:
        new, old = Shim(world.channel), Shim(world.channel)
        await new.send(report(start=2000))
        await eventually(lambda: world.core.of_type(NodeAttached))
        await new.call.done_writing()
        await eventually(lambda: world.core.of_type(NodeDetached))

        await old.send(report(start=1000))
        error = await old.ending()

        assert (error.code(), reason_of(error)) == (grpc.StatusCode.ABORTED, "SUPERSEDED")


async def test_an_unseen_boot_beats_the_one_before_which_then_cannot_come_back() -> None:
    async with server() as world:
        before, after, again = (Shim(world.channel) for _ in range(3))
        await before.send(report(boot="one", start=9000))
        await before.read()

        await after.send(report(boot="two", start=10))
        await after.read()
        ended = await before.ending()
        await again.send(report(boot="one", start=9001))
        refused = await again.ending()

        assert reason_of(ended) == reason_of(refused) == "SUPERSEDED"


async def test_the_same_shim_connecting_again_replaces_its_own_stream() -> None:
    async with server() as world:
        first, second = Shim(world.channel), Shim(world.channel)
        await first.send(report())
        await eventually(lambda: world.core.of_type(NodeAttached))

        await second.send(report())
        await second.read()
        error = await first.ending()
        await eventually(lambda: len(world.core.of_type(NodeAttached)) == 2)

        assert (error.code(), reason_of(error)) == (grpc.StatusCode.ABORTED, "RECONNECTED")
        assert not world.core.of_type(NodeDetached)


async def test_one_node_more_than_the_server_may_hold_is_refused() -> None:
    async with server(max_nodes=1) as world:
        one, two = Shim(world.channel), Shim(world.channel)
        await one.send(report("node-a"))
        await one.read()

        await two.send(report("node-b"))
        error = await two.ending()

        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "max_nodes" in (error.details() or "")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (b"\xff\xff\xff", "report"),
        (report(node=""), "node_name"),
        (report(node="n" * 254), "node_name"),
        (report(boot=""), "instance.boot_id"),
        (report(full_inventory=False), "full_inventory"),
        (report(sequence=2, full_inventory=True), "sequence"),
        (report(sequence=-1, full_inventory=True), "sequence"),
        (report(node_facts=None), "node_facts"),
        (report(samples=pb.Samples(handles=b"123")), "samples.handles"),
        (report(containers=[container(0)]), "containers[0].handle"),
        (report(containers=[container(1), container(1)]), "containers[1].handle"),
    ],
)
async def test_a_first_report_with_a_bad_field_is_refused_by_name(
    message: pb.NodeReport | bytes, field: str
) -> None:
    async with server() as world:
        shim = Shim(world.channel)

        await shim.send(message)
        error = await shim.ending()

        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert field in violations_of(error)


async def test_a_later_report_that_is_malformed_is_counted_and_the_stream_goes_on() -> None:
    async with server() as world:
        shim = Shim(world.channel)
        await shim.send(report())

        await shim.send(b"\xff\xff\xff")
        await until_inventory_is_requested(shim)
        await shim.send(report(sequence=3, full_inventory=True, containers=[container(4)]))

        await eventually(
            lambda: [
                event
                for event in world.core.of_type(ReportArrived)
                if [facts.handle for facts in event.report.containers] == [4]
            ]
        )
        refused = world.running.metrics.reports.labels(result="malformed")
        assert refused._value.get() == 1


async def test_bad_samples_lose_nothing_but_themselves() -> None:
    async with server() as world:
        shim = Shim(world.channel)
        await shim.send(report())

        bad = samples((1,))
        bad.usage_usec = b"short"
        await shim.send(report(sequence=2, containers=[container(2)], samples=bad))
        await eventually(
            lambda: any(
                facts.handle == 2
                for event in world.core.of_type(ReportArrived)
                for facts in event.report.containers
            )
        )

        assert world.running.metrics.reports.labels(result="bad_samples")._value.get() == 1


async def test_a_gap_in_the_sequence_asks_for_an_inventory_without_waiting_for_a_heartbeat() -> (
    None
):
    async with server(heartbeat_seconds=60) as world:
        shim = Shim(world.channel)
        await shim.send(report())
        await shim.read()

        await shim.send(report(sequence=5))
        await until_inventory_is_requested(shim)


async def test_the_core_can_ask_for_an_inventory() -> None:
    core = FakeCore()

    def respond(event: Event) -> list[Effect]:
        if isinstance(event, ReportArrived) and not event.report.full_inventory:
            return [RequestInventory(node="node-a", reason="unknown handle")]
        return []

    core.respond = respond
    async with server(core, heartbeat_seconds=60) as world:
        shim = Shim(world.channel)
        await shim.send(report())
        await eventually(lambda: world.core.of_type(ReportArrived))
        await shim.send(report(sequence=2, samples=samples((1,))))

        await until_inventory_is_requested(shim)


async def test_a_shim_whose_node_object_is_not_known_yet_is_told_to_come_again() -> None:
    facts = pb.NodeFacts(cpu_count=2, cgroup_version=2, enforcement=pb.ENFORCEMENT_RESIZE)
    async with server() as world:
        shim = Shim(world.channel)

        await shim.send(report(node_facts=facts))
        error = await shim.ending()

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(error) == "NODE_UNKNOWN"


async def test_a_shim_that_never_reports_is_turned_away() -> None:
    async with server(first_report_seconds=0.1) as world:
        error = await Shim(world.channel).ending()

        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_the_node_name_must_stay_the_same() -> None:
    async with server() as world:
        shim = Shim(world.channel)
        await shim.send(report("node-a"))
        await eventually(lambda: world.core.of_type(NodeAttached))

        await shim.send(report("node-b", sequence=2))
        count = world.running.metrics.reports.labels(result="malformed")
        await eventually(lambda: count._value.get() == 1)

        assert world.core.node_names() == ["node-a"]


async def test_a_message_above_the_limit_ends_its_own_stream_only() -> None:
    async with server(message_max_bytes=1 << 16) as world:
        huge, other = Shim(world.channel), Shim(world.channel)
        await other.send(report("node-b"))

        await huge.send(b"x" * (1 << 17))
        error = await huge.ending()
        await eventually(lambda: world.core.of_type(ReportArrived))

        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def has_sample(core: FakeCore, node_time_seconds: float) -> bool:
    return any(
        event.node == "good" and batch.node_time_seconds == node_time_seconds
        for event in core.of_type(ReportArrived)
        for batch in event.report.samples
    )


async def test_a_flood_a_slow_and_a_silent_shim_delay_nobody() -> None:
    core = FakeCore()

    def respond(event: Event) -> list[Effect]:
        # Each tick has more for the slow shim than its stream can hold.
        if isinstance(event, TickDue):
            return [SendOrders(node="slow", orders=tuple(order(i) for i in range(1, 900)))]
        return []

    core.respond = respond
    async with server(core, reports_per_second_max=10, inbox_samples_max=2) as world:
        flooding, slow, silent = (Shim(world.channel) for _ in range(3))
        async with grpc.aio.insecure_channel(
            world.address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            good = Shim(channel)
            await slow.send(report("slow"))
            await silent.send(report("silent"))
            await flooding.send(report("flood"))
            await good.send(report("good"))

            async def flood() -> None:
                message = report("flood", sequence=2, samples=samples(range(1, 31)))
                for sequence in range(2, 100_000):
                    message.sequence = sequence
                    await flooding.call.write(message.SerializeToString())

            async with asyncio.TaskGroup() as group:
                flooder = group.create_task(flood())
                waits = []
                for sequence in range(2, 12):
                    begin = time.perf_counter()
                    node_time_seconds = float(sequence)
                    await good.send(report("good", sequence=sequence, samples=samples((1,))))
                    await eventually(functools.partial(has_sample, core, node_time_seconds))
                    waits.append(time.perf_counter() - begin)
                flooder.cancel()

        assert max(waits) < 2.0, "far above the tick period of 0.1 s, far below any stall"
        taken = [event for event in core.of_type(ReportArrived) if event.node == "flood"]
        assert max(len(event.report.samples) for event in taken) <= 2
        assert len(core.of_type(ReportArrived)) < 500


async def test_shutdown_ends_streams_with_unavailable() -> None:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(server())
        async with grpc.aio.insecure_channel(world.address) as channel:
            shim = Shim(channel)
            await shim.send(report())
            await shim.read()

            await stack.aclose()
            error = await shim.ending()

    assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "SHUTDOWN")


async def test_streams_whose_first_directive_is_on_its_way_end_with_their_status_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found: Counter[tuple[grpc.StatusCode, str]] = Counter()
    for _ in range(5):
        found.update((error.code(), reason_of(error)) for error in await ends_at_once())

    assert found == {(grpc.StatusCode.UNAVAILABLE, "SHUTDOWN"): 50}
    assert [item for item in caplog.records if item.levelname == "ERROR"] == []


async def ends_at_once() -> list[grpc.aio.AioRpcError]:
    """Stops a server as soon as ten streams are there; returns how these end."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(server())
        async with grpc.aio.insecure_channel(world.address) as channel:
            shims = [Shim(channel) for _ in range(10)]
            for number, shim in enumerate(shims):
                await shim.send(report(f"node-{number}"))
            connected = world.running.metrics.connected_nodes._value
            await eventually(lambda: connected.get() == len(shims))
            await stack.aclose()
            return [await shim.ending() for shim in shims]


async def test_directives_are_numbered_without_gaps() -> None:
    core = FakeCore()
    core.respond = lambda event: (
        [SendOrders(node="node-a", orders=(order(),))] if isinstance(event, TickDue) else []
    )
    async with server(core) as world:
        shim = Shim(world.channel)
        await shim.send(report())

        numbers = [(await shim.read()).sequence for _ in range(10)]

        assert all(after == before + 1 for before, after in pairwise(numbers))
