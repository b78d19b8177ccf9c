"""The loop that decides, in virtual time."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from mbcas_core.effects import Effect, Notice, Order, PodNotice, SendOrders, Violation
from mbcas_core.events import Event, NodeAttached, ReportArrived, TickDue
from mbcas_server.convert import parse_report
from mbcas_server.core_thread import CoreThread
from mbcas_server.driver import Driver
from mbcas_server.inbox import Inbox
from mbcas_server.leadership import Alone
from mbcas_server.links import Link, Links
from mbcas_server.live import LiveMarkets
from mbcas_server.metrics import Metrics
from mbcas_server.outbox import Outbox
from mbcas_server.watchers import Watchers
from tests.mbcas_server.fakes import (
    FakeCore,
    Inline,
    VirtualClock,
    market_view,
    order,
    report,
    samples,
    settings,
)


class World:
    def __init__(self, *, tick_seconds: float = 1.0, spacing_seconds: float = 10.0) -> None:
        self.clock = VirtualClock()
        self.core = FakeCore()
        self.links = Links(nodes_max=10)
        self.live = LiveMarkets()
        self.metrics = Metrics()
        self.leadership = Alone(epoch=1)
        self.driver = Driver(
            core=CoreThread(self.core, Inline()),
            links=self.links,
            live=self.live,
            watchers=Watchers(watchers_max=1),
            settings=settings(
                tick_period_seconds=tick_seconds,
                tick_spacing_seconds=spacing_seconds,
                heartbeat_seconds=5,
            ),
            clock=self.clock,
            metrics=self.metrics,
            leadership=self.leadership,
        )

    def attach(self, node: str) -> Link:
        first = parse_report(report(node).SerializeToString(), unix_seconds=0.0)
        link = Link(
            node=node,
            instance=first.instance,
            inbox=Inbox(samples_max=4),
            outbox=Outbox(server_epoch=1, orders_max=3),
        )
        self.links.admit(link)
        link.inbox.put(first)
        return link

    def ticks(self) -> list[float]:
        return [event.time_seconds for event in self.core.of_type(TickDue)]


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.driver.run())
        await world.clock.advance(0)
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_ticks_keep_their_deadlines_however_long_each_takes() -> None:
    world = World()

    def respond(event: Event) -> list[Effect]:
        if isinstance(event, TickDue):
            world.clock.now += 0.3  # The tick's own cost.
        return []

    world.core.respond = respond
    async with running(world):
        for _ in range(4):
            await world.clock.advance(1.0 - world.clock.now % 1.0)

    assert world.ticks() == [1001.0, 1002.0, 1003.0, 1004.0]


async def test_ticks_that_were_missed_are_skipped_and_counted() -> None:
    world = World()
    async with running(world):
        await world.clock.advance(3.5)
        await world.clock.advance(0.5)

    assert world.ticks() == [1003.5, 1004.0]
    assert world.metrics.ticks_missed._value.get() == 2


async def test_a_report_brings_the_next_tick_forward_where_ticks_are_cheap() -> None:
    world = World(spacing_seconds=0.25)
    async with running(world):
        await world.clock.advance(0.3)
        world.attach("node-a")
        await world.clock.advance(0.0)
        await world.clock.advance(0.02)

    assert world.ticks() == [pytest.approx(1000.32)]


async def test_a_report_does_not_bring_an_expensive_tick_forward() -> None:
    world = World(spacing_seconds=0.25)
    world.driver._tick_cost_seconds = 0.1
    async with running(world):
        await world.clock.advance(0.3)
        world.attach("node-a")
        await world.clock.advance(0.3)
        await world.clock.advance(0.5)

    assert world.ticks() == [pytest.approx(1001.1)]


async def test_an_event_that_the_core_fails_on_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()

    def respond(event: Event) -> list[Effect]:
        if isinstance(event, ReportArrived) and event.node == "bad":
            raise ZeroDivisionError
        return []

    world.core.respond = respond
    for node in ("bad", "good"):
        world.attach(node)

    await world.driver.tick()

    assert [event.node for event in world.core.of_type(ReportArrived)] == ["bad", "good"]
    assert len(world.ticks()) == 1
    assert world.metrics.event_failures.labels(event="ReportArrived")._value.get() == 1
    assert "ZeroDivisionError" in caplog.text


async def test_nodes_are_taken_in_by_name_whatever_the_order_of_arrival() -> None:
    world = World()
    for node in ("c", "a", "b"):
        world.attach(node)

    await world.driver.tick()

    assert [event.node for event in world.core.of_type(NodeAttached)] == ["a", "b", "c"]


async def test_live_markets_are_those_of_the_nodes_that_the_core_still_knows() -> None:
    world = World()
    world.core.views = {"a": market_view("a"), "b": market_view("b")}
    await world.driver.tick()
    both = world.live.names()
    del world.core.views["a"]

    await world.driver.tick()

    assert both == ["a", "b"]
    assert world.live.names() == ["b"]


async def test_reports_are_taken_in_and_reads_wait_while_the_core_works() -> None:
    world = World()
    world.driver.core = thread = CoreThread(world.core)
    working, go_on = threading.Event(), threading.Event()

    def respond(event: Event) -> list[Effect]:
        if isinstance(event, TickDue):
            working.set()
            assert go_on.wait(10)
        return []

    world.core.respond = respond
    async with asyncio.TaskGroup() as group:
        tick = group.create_task(world.driver.tick())
        await asyncio.to_thread(working.wait, 10)
        question = group.create_task(thread.read(lambda core: core.tick_count))
        world.attach("node-a")
        await asyncio.sleep(0)

        meanwhile = tick.done(), question.done()
        go_on.set()
    thread.close()

    assert meanwhile == (False, False)
    assert question.result() == 1
    assert world.links.take_due() == ["node-a"]


async def test_streams_get_their_heartbeats_at_different_times() -> None:
    world = World()
    links = [world.attach(f"node-{number}") for number in range(10)]
    counts = []

    for _ in range(11):
        async with asyncio.TaskGroup() as group:
            tick = group.create_task(world.driver.tick())
            while not tick.done():
                await world.clock.advance(0.01)
        taken = [link.outbox.take(now_seconds=world.clock.now) for link in links]
        counts.append(sum(item is not None for item in taken))
        for link in links:
            link.outbox.take(now_seconds=world.clock.now)
        world.clock.now += 1.0 - world.clock.now % 1.0

    assert counts[0] == 10
    assert max(counts[1:]) < 7
    assert sum(counts[1:6]) == sum(counts[6:]) == 10


async def test_heartbeats_come_after_ticks_and_not_more_often_than_set() -> None:
    world = World()
    link = world.attach("node-a")
    await world.driver.tick()
    first = link.outbox.take(now_seconds=world.clock.now)
    world.clock.now += 1
    await world.driver.tick()
    between = link.outbox.take(now_seconds=world.clock.now)
    world.clock.now += 4
    await world.driver.tick()
    second = link.outbox.take(now_seconds=world.clock.now)

    assert first is not None
    assert second is not None
    assert between is None
    assert (first[1].heartbeat.tick, second[1].heartbeat.tick) == (1, 3)


async def test_orders_for_a_shim_that_takes_none_are_bounded_and_expire() -> None:
    world = World()
    link = world.attach("node-a")
    world.core.respond = lambda event: (
        [SendOrders(node="node-a", orders=(order(1), order(2)))]
        if isinstance(event, TickDue)
        else []
    )
    await world.driver.tick()
    world.clock.now += 4
    await world.driver.tick()
    kept_after_overflow = link.outbox.orders_dropped
    world.clock.now += 6.5

    taken = link.outbox.take(now_seconds=world.clock.now)

    assert kept_after_overflow == 1
    assert taken is not None
    assert [item.order_id for item in taken[1].orders.orders] == [1]
    assert link.outbox.orders_dropped == 3


class Objects:
    """Remembers what is left to them."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, int]] = []
        self.notices: list[PodNotice] = []

    def send(self, link: Link, orders: tuple[Order, ...]) -> None:
        self.orders += [(link.node, each.order_id) for each in orders]

    def tell(self, notice: PodNotice) -> None:
        self.notices.append(notice)


async def test_on_kubernetes_orders_and_notices_of_pods_take_the_way_over_its_objects() -> None:
    world = World()
    objects = world.driver.kube_objects = Objects()
    link = world.attach("node-a")
    notice = PodNotice(
        namespace="default", pod="web", pod_uid="uid-1", container="app", event="E", message="M"
    )
    world.core.respond = lambda event: (
        [SendOrders(node="node-a", orders=(order(7),)), notice]
        if isinstance(event, TickDue)
        else []
    )

    await world.driver.tick()

    assert objects.orders == [("node-a", 7)]
    assert objects.notices == [notice]
    assert not link.outbox._orders


async def test_orders_for_a_node_without_a_shim_are_counted() -> None:
    world = World()
    world.core.respond = lambda _event: [SendOrders(node="gone", orders=(order(1),))]

    await world.driver.tick()

    assert world.metrics.orders_dropped._value.get() == 1


async def test_a_violated_rule_is_counted_each_time_and_logged_without_a_flood(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.core.respond = lambda _event: [
        Violation(rule="1", node="node-a", detail="billed=1600 supply=1500"),
        Notice(node="node-a", event="container appeared", detail="pod=web"),
    ]

    with caplog.at_level(logging.INFO):
        for _ in range(50):
            await world.driver.tick()

    lines = [record for record in caplog.records if "rule violated" in record.getMessage()]
    assert world.metrics.invariant_violations.labels(rule="1")._value.get() == 50
    assert len(lines) == 10
    assert "rule=1 node=node-a billed=1600 supply=1500" in lines[0].getMessage()


async def test_what_was_left_out_of_the_log_is_said_later(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.core.respond = lambda _event: [Violation(rule="1", node="node-a", detail="x=1")]
    for _ in range(15):
        await world.driver.tick()

    world.clock.now += 61
    await world.driver.tick()

    assert "rule violated left_out=5" in caplog.text


async def test_a_report_s_wait_is_measured_from_its_arrival() -> None:
    world = World()
    link = world.attach("node-a")
    link.arrived_seconds = world.clock.now
    second = report("node-a", sequence=2, samples=samples((1,)))
    link.inbox.put(parse_report(second.SerializeToString(), unix_seconds=0.0))
    world.clock.now += 0.75

    await world.driver.tick()

    assert world.metrics.report_wait_seconds._sum.get() == pytest.approx(0.75)
