"""What the core makes of the quotas that a local shim says are in force: dwell, rollback, order."""

from dataclasses import dataclass, field

import numpy as np

from mbcas_core import explain
from mbcas_core.effects import Order, Reason, SendOrders
from mbcas_core.events import (
    COUNTERS,
    ContainerFacts,
    CpuResources,
    Mode,
    NodeAttached,
    NodeFacts,
    OrderResult,
    Outcome,
    Policy,
    Report,
    ReportArrived,
    Samples,
    TickDue,
)
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds

PERIOD_USEC = 100_000
PARAMETERS = Parameters(
    mode=Mode.AUTO,
    policy=Policy.HARD_QUOTA,
    round_period_seconds=5.0,
    startup_grace_seconds=3.0,
    dwell_down_seconds=30.0,
    need_window_seconds=5.0,
)


@dataclass
class LocalNode:
    """One container whose shim writes its quota and tells facts and results together."""

    limit: int = 800
    usage: int = 10
    rounds: Rounds = field(default_factory=lambda: Rounds(PARAMETERS))
    now: float = 100.0
    orders: list[tuple[float, Order]] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))

    def __post_init__(self) -> None:
        self.admitted = CpuResources(request_millicores=self.limit, limit_millicores=self.limit)
        self.rounds.handle(NodeAttached(node="n", time_seconds=self.now))
        facts = NodeFacts(allocatable_millicores=4000, cpu_count=4)
        self.report(full_inventory=True, node_facts=facts, containers=(self.facts(),))

    def facts(self) -> ContainerFacts:
        now = CpuResources(request_millicores=self.limit, limit_millicores=self.limit)
        return ContainerFacts(
            handle=1,
            pod_uid="u",
            namespace="local",
            pod="p",
            container="c",
            container_id="1",
            spec=now,
            allocated=now,
            actual=now,
            admitted=self.admitted,
        )

    def report(self, **content: object) -> None:
        report = Report(**content)  # type: ignore[arg-type] # Spelled out by each caller.
        self.rounds.handle(ReportArrived(node="n", time_seconds=self.now, report=report))

    def sample(self) -> Samples:
        """What the kernel says at the end of a second of this use."""
        throttled = self.usage > self.limit
        self.counters["usage_usec"] += min(self.usage, self.limit) * 1000
        self.counters["nr_periods"] += 10
        self.counters["nr_throttled"] += 10 if throttled else 0
        self.counters["quota_usec"] = self.limit * PERIOD_USEC // 1000
        self.counters["period_usec"] = PERIOD_USEC
        return Samples(
            node_time_seconds=self.now,
            handles=np.array([1], np.int32),
            counters=np.array([[self.counters[name]] for name in COUNTERS]),
            detail_seconds=np.zeros(1, np.uint8),
            slice_millicores=np.zeros(0, np.uint16),
            second_throttled=np.zeros(0, np.uint8),
        )

    def wait_for_an_order(self) -> None:
        for _ in range(300):
            self.second()
            if self.orders:
                return
        raise AssertionError("no order came")

    def second(self) -> list[Order]:
        """Lives through one second; orders of its tick are carried out at once."""
        self.now += 1.0
        self.report(samples=(self.sample(),))
        orders = self.tick()
        for order in orders:
            self.carry_out(order)
        return orders

    def tick(self) -> list[Order]:
        effects = self.rounds.handle(TickDue(time_seconds=self.now))
        orders = [o for e in effects if isinstance(e, SendOrders) for o in e.orders]
        self.orders += [(self.now, order) for order in orders]
        return orders

    def carry_out(self, order: Order, *samples: Samples) -> None:
        self.limit = order.desired.limit_millicores or self.limit
        actual = self.facts().actual
        result = OrderResult(order_id=order.order_id, outcome=Outcome.APPLIED, actual=actual)
        self.report(containers=(self.facts(),), samples=samples, results=(result,))


def test_a_container_that_was_cut_rests_before_it_is_cut_again() -> None:
    node = LocalNode()
    for _ in range(80):
        node.second()
    times = [time for time, _ in node.orders]
    assert len(times) >= 2, "an idle container is cut by half, again and again"
    assert min(np.diff(times)) >= PARAMETERS.dwell_down_seconds


def test_a_container_that_is_throttled_after_a_cut_has_it_taken_back() -> None:
    node = LocalNode()
    node.wait_for_an_order()
    assert node.limit == 400
    node.usage = 420  # Too little above its quota to be missed for long, were it not for the cut.
    for _ in range(4):
        node.second()
    assert node.orders[-1][1].reason == Reason.ROLLED_BACK
    assert node.limit >= 800


def test_a_sample_read_before_an_order_was_carried_out_does_not_undo_it() -> None:
    node = LocalNode()
    for _ in range(300):
        node.now += 1.0
        node.report(samples=(node.sample(),))
        if node.tick():
            break
    order = node.orders[0][1]
    node.now += 1.0
    stale = node.sample()
    node.carry_out(order, stale)
    node.tick()
    (container,) = explain.market_view(node.rounds, "n", include_containers=True).containers
    assert container.ceiling.applied_millicores == order.desired.limit_millicores


def test_a_restart_with_a_smaller_quota_counts_as_no_cut() -> None:
    node = LocalNode(limit=1000, usage=890)
    for _ in range(3):
        node.second()
    node.limit = 900
    facts = node.facts()
    again = ContainerFacts(**{n: getattr(facts, n) for n in facts.__slots__} | {"restart_count": 1})
    node.report(containers=(again,))
    node.usage = 920
    for _ in range(5):
        node.second()
    assert Reason.ROLLED_BACK not in {order.reason for _, order in node.orders}


def test_a_container_at_its_cap_is_not_called_rationed_while_there_is_plenty() -> None:
    node = LocalNode(limit=3000, usage=2900)  # Three quarters of the node, and never more.
    for _ in range(12):
        node.second()
    (container,) = explain.market_view(node.rounds, "n", include_containers=True).containers
    assert (container.ceiling.target_millicores, container.reason) == (3000, Reason.ON_TARGET)
