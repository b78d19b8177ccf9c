"""Samples of many nodes at once are taken in as reports of one node each."""

from collections.abc import Iterator

import numpy as np

from mbcas_core.effects import Effect, SendOrders
from mbcas_core.events import (
    COUNTERS,
    ContainerFacts,
    CpuResources,
    Event,
    Mode,
    NodeAttached,
    NodeFacts,
    Policy,
    Report,
    ReportArrived,
    Samples,
    SamplesArrived,
    TickDue,
)
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds

NODES = ("a", "b", "c")
PARAMETERS = Parameters(mode=Mode.AUTO, policy=Policy.HARD_QUOTA, startup_grace_seconds=0.0)
UNKNOWN = 77


def inventory(node: str) -> list[Event]:
    spec = CpuResources(request_millicores=300, limit_millicores=400)
    facts = [
        ContainerFacts(
            handle=handle,
            pod_uid=f"{node}-{handle}",
            namespace="shop",
            pod=f"pod-{handle}",
            container="app",
            container_id="run",
            spec=spec,
            age_seconds=100.0,
        )
        for handle in (1, 2)
    ]
    report = Report(
        full_inventory=True,
        node_facts=NodeFacts(allocatable_millicores=1000, cpu_count=2),
        containers=tuple(facts),
    )
    return [
        NodeAttached(node=node, time_seconds=0.0),
        ReportArrived(node=node, time_seconds=0.0, report=report),
    ]


def sample(second: int, node: int) -> Samples:
    """One node's; the second node names a handle that nobody has."""
    handles = np.array([1, UNKNOWN if node == 1 else 2], np.int32)
    usage = np.array([380_000, 20_000]) * second
    counters = np.zeros((len(COUNTERS), 2), np.int64)
    counters[COUNTERS.index("usage_usec")] = usage
    counters[COUNTERS.index("nr_periods")] = 10 * second
    counters[COUNTERS.index("nr_throttled")] = [second * (node + 1), 0]
    counters[COUNTERS.index("quota_usec")] = 40_000
    counters[COUNTERS.index("period_usec")] = 100_000
    return Samples(
        node_time_seconds=float(second),
        handles=handles,
        counters=counters,
        detail_seconds=np.array([1, 1], np.uint8),
        slice_millicores=np.repeat([380, 20], 10).astype(np.uint16),
        second_throttled=np.array([node + 1, 0], np.uint8),
    )


def one_by_one(second: int) -> Iterator[Event]:
    for node, name in enumerate(NODES):
        report = Report(samples=(sample(second, node),))
        yield ReportArrived(node=name, time_seconds=second + 0.1, report=report)


def at_once(second: int) -> Iterator[Event]:
    own = [sample(second, node) for node in range(len(NODES))]
    together = Samples(
        node_time_seconds=float(second),
        handles=np.concatenate([each.handles for each in own]),
        counters=np.concatenate([each.counters for each in own], axis=1),
        detail_seconds=np.concatenate([each.detail_seconds for each in own]),
        slice_millicores=np.concatenate([each.slice_millicores for each in own]),
        second_throttled=np.concatenate([each.second_throttled for each in own]),
    )
    yield SamplesArrived(
        nodes=(*NODES, "nobody"),
        node=np.repeat(np.arange(3), 2),
        time_seconds=second + 0.1,
        samples=together,
    )


def test_samples_of_many_nodes_lead_to_the_decisions_of_one_report_each() -> None:
    answers: list[list[Effect]] = []
    for tell in (one_by_one, at_once):
        rounds = Rounds(PARAMETERS)
        told = [event for node in NODES for event in inventory(node)]
        for second in range(1, 41):
            told += [*tell(second), TickDue(time_seconds=second + 0.2)]
        answers.append([effect for event in told for effect in rounds.handle(event)])
        assert rounds.counters["handles_unknown"] == 40

    assert answers[0] == answers[1]
    assert any(isinstance(effect, SendOrders) for effect in answers[0])
