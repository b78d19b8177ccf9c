import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import pytest
from google.protobuf.duration_pb2 import Duration

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.counters import Counters
from mbcas_shim.order_queue import MAX_QUEUED, OrderQueue
from mbcas_shim.orders import Order, result
from tests.mbcas_shim.fakes import VirtualClock, settle


class SlowEnforcer:
    """Carries out what it is given, when the test lets it."""

    kind = pb.ENFORCEMENT_CGROUP

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun: list[list[int]] = []
        self.at_once = self.most_at_once = 0
        self.done: list[int] = []

    async def apply(self, orders: Sequence[Order]) -> list[pb.OrderResult]:
        self.begun.append([order.order_id for order in orders])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        self.done += [order.order_id for order in orders]
        return [result(order.order_id, pb.OUTCOME_APPLIED) for order in orders]

    async def restore(self, is_needed: Callable[[], bool]) -> int:
        del is_needed
        return 0

    async def zero_bursts(self) -> int:
        return 0

    async def leave(self) -> int:
        return 0


class Results:
    """Stands for the outbox, of which the queue knows only this."""

    def __init__(self) -> None:
        self.by_id: dict[int, pb.OrderResult] = {}

    def add_results(self, results: Iterable[pb.OrderResult]) -> None:
        self.by_id.update((item.order_id, item) for item in results)


class Bench:
    def __init__(self, *, at_once: int = 1) -> None:
        self.clock = VirtualClock()
        self.enforcer = SlowEnforcer()
        self.results = Results()
        self.queue = OrderQueue(
            clock=self.clock,
            enforcer=self.enforcer,
            outbox=self.results,
            counters=Counters(self.clock),
            at_once=at_once,
        )

    def put(self, *orders: pb.Order) -> None:
        self.queue.put(pb.Orders(orders=orders))


@contextlib.asynccontextmanager
async def running(built: Bench) -> AsyncIterator[Bench]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(built.queue.run())
        yield built
        task.cancel()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(Bench()) as built:
        yield built


@pytest.fixture
async def wide_bench() -> AsyncIterator[Bench]:
    """Carries out the orders of two pods at once."""
    async with running(Bench(at_once=2)) as built:
        yield built


def order(
    order_id: int, pod: str = "local/api", lane: pb.Lane.ValueType = pb.LANE_NORMAL
) -> pb.Order:
    return pb.Order(
        order_id=order_id,
        pod_uid=pod,
        container="api",
        desired=pb.CpuResources(limit_millicores=100),
        expires_after=Duration(seconds=2),
        lane=lane,
    )


async def test_orders_of_one_pod_are_carried_out_together_and_answered(bench: Bench) -> None:
    bench.put(order(1), order(2, "local/b"), order(3))
    await settle()

    assert bench.enforcer.begun == [[1, 3], [2]]
    assert set(bench.results.by_id) == {1, 2, 3}


async def test_emergencies_go_first_and_releases_last(bench: Bench) -> None:
    bench.put(order(1, "r", pb.LANE_RELEASE), order(2, "n"), order(3, "e", pb.LANE_EMERGENCY))
    await settle()

    assert bench.enforcer.begun == [[3], [2], [1]]


async def test_an_order_that_waited_too_long_is_not_begun(bench: Bench) -> None:
    bench.enforcer.gate.clear()
    bench.put(order(1))
    await settle()
    bench.put(order(2))
    await bench.clock.advance(2.1)

    bench.enforcer.gate.set()
    await settle()

    assert bench.enforcer.done == [1]
    assert bench.results.by_id[2].outcome == pb.OUTCOME_EXPIRED


async def test_voiding_drops_what_waits_and_awaits_what_has_begun(bench: Bench) -> None:
    bench.enforcer.gate.clear()
    bench.put(order(1), order(2, "local/b"))
    await settle()
    async with asyncio.TaskGroup() as group:
        voiding = group.create_task(bench.queue.void())
        await settle()
        is_waiting = not voiding.done()
        bench.enforcer.gate.set()

    assert is_waiting
    await settle()
    assert bench.enforcer.done == [1]
    assert 2 not in bench.results.by_id


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"desired": pb.CpuResources(limit_millicores=-1)}, "desired.limit_millicores"),
        ({"desired": pb.CpuResources(limit_millicores=1 << 40)}, "desired.limit_millicores"),
        ({"desired": pb.CpuResources(request_millicores=2, limit_millicores=1)}, "desired"),
        ({"burst_usec": -1}, "burst_usec"),
    ],
)
async def test_an_order_that_contradicts_itself_is_refused_with_its_field(
    change: dict[str, object], field: str, bench: Bench
) -> None:
    bad = pb.Order(order_id=1, pod_uid="p", container="c", **change)  # type: ignore[arg-type]  # Fields of an order.

    bench.put(bad, order(2))
    await settle()

    refused = bench.results.by_id[1]
    assert (refused.outcome, refused.field) == (pb.OUTCOME_REFUSED, field)
    assert bench.results.by_id[2].outcome == pb.OUTCOME_APPLIED


async def test_more_orders_than_fit_are_refused_and_the_rest_carried_out(bench: Bench) -> None:
    bench.put(*(order(number, f"p{number}") for number in range(1, MAX_QUEUED + 2)))
    await settle()

    assert bench.results.by_id[MAX_QUEUED + 1].cause == "QueueFull"
    assert bench.results.by_id[1].outcome == pb.OUTCOME_APPLIED


async def test_a_pod_beyond_its_rate_is_told_when_to_come_back(bench: Bench) -> None:
    bench.queue.pod_orders_per_second = 0.5

    bench.put(order(1))
    await bench.clock.advance(0.5)
    bench.put(order(2))
    await bench.clock.advance(1.6)
    bench.put(order(3))
    await settle()

    assert bench.enforcer.done == [1, 3]
    assert bench.results.by_id[2].cause == "PodRate"
    assert bench.results.by_id[2].retry_after.ToMilliseconds() == 1500


async def test_as_many_pods_at_once_as_allowed_and_no_more(wide_bench: Bench) -> None:
    wide_bench.enforcer.gate.clear()
    wide_bench.put(*(order(number, f"p{number}") for number in range(1, 6)))
    await settle()
    begun = len(wide_bench.enforcer.begun)
    wide_bench.enforcer.gate.set()
    await settle()

    assert begun == wide_bench.enforcer.most_at_once == 2
    assert set(wide_bench.results.by_id) == {1, 2, 3, 4, 5}


async def test_a_pod_has_one_change_at_a_time(wide_bench: Bench) -> None:
    wide_bench.enforcer.gate.clear()
    wide_bench.put(order(1, "p"))
    await settle()
    wide_bench.put(order(2, "p", pb.LANE_EMERGENCY), order(3, "q"))
    await settle()
    begun = list(wide_bench.enforcer.begun)
    wide_bench.enforcer.gate.set()
    await settle()

    assert begun == [[1], [3]]
    assert sorted(wide_bench.enforcer.done) == [1, 2, 3]


async def test_voiding_awaits_all_that_have_begun(wide_bench: Bench) -> None:
    wide_bench.enforcer.gate.clear()
    wide_bench.put(order(1, "p"), order(2, "q"), order(3, "r"))
    await settle()
    async with asyncio.TaskGroup() as group:
        voiding = group.create_task(wide_bench.queue.void())
        await settle()
        is_waiting = not voiding.done()
        wide_bench.enforcer.gate.set()

    assert is_waiting
    assert sorted(wide_bench.enforcer.done) == [1, 2]
