"""What an inbox keeps, merges and drops."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.events import OrderResult, Outcome, Report
from mbcas_server.convert import ParsedReport, parse_report
from mbcas_server.inbox import Inbox, Taken
from tests.mbcas_server.fakes import container, report, samples


def parsed(message: pb.NodeReport) -> ParsedReport:
    return parse_report(message.SerializeToString(), unix_seconds=0.0)


def filled(*messages: pb.NodeReport, samples_max: int = 4) -> Inbox:
    inbox = Inbox(samples_max=samples_max)
    for message in messages:
        inbox.put(parsed(message))
    return inbox


def drained(inbox: Inbox) -> Report:
    found = inbox.drain()
    assert found is not None
    return found


def test_an_empty_inbox_has_nothing_to_say() -> None:
    inbox = filled(report())
    inbox.drain()

    assert inbox.drain() is None


def test_newer_samples_replace_the_oldest() -> None:
    inbox = filled(
        report(), *(report(sequence=i, samples=samples((1,))) for i in range(2, 6)), samples_max=2
    )

    times = [batch.node_time_seconds for batch in drained(inbox).samples]

    assert times == [4.0, 5.0]
    assert inbox.samples_dropped == 3


def test_a_duplicate_changes_nothing() -> None:
    inbox = filled(report(), report(sequence=2))

    assert inbox.put(parsed(report(sequence=2, containers=[container(9)]))) is Taken.DUPLICATE
    assert [facts.handle for facts in drained(inbox).containers] == [1]


def test_facts_are_merged_by_handle_and_results_by_order() -> None:
    def result(order_id: int, outcome: pb.Outcome.ValueType) -> pb.OrderResult:
        return pb.OrderResult(order_id=order_id, outcome=outcome)

    inbox = filled(
        report(),
        report(sequence=2, order_results=[result(1, pb.OUTCOME_FAILED)]),
        report(
            sequence=3,
            containers=[container(1, pod="renamed")],
            order_results=[result(1, pb.OUTCOME_APPLIED)],
        ),
    )

    found = drained(inbox)

    assert [facts.pod for facts in found.containers] == ["renamed"]
    assert [item.outcome.name for item in found.results] == ["APPLIED"]


def test_samples_of_a_handle_do_not_outlive_its_meaning() -> None:
    # Handle 1 is removed and given to another container between two ticks.
    inbox = filled(
        report(containers=[container(1), container(2)], samples=samples((1, 2), seconds=2)),
        report(sequence=2, removed_handles=[1], containers=[container(1, pod_uid="other")]),
    )

    found = drained(inbox)

    assert found.removed_handles == (1,)
    assert [batch.handles.tolist() for batch in found.samples] == [[2]]
    # The detail that is left is the other container's.
    assert found.samples[0].slice_millicores.tolist() == list(range(20, 40))


def test_samples_of_an_earlier_run_of_a_container_are_dropped() -> None:
    inbox = filled(
        report(), report(sequence=2, containers=[container(1, container_id="run-again")])
    )

    assert [batch.handles.size for batch in drained(inbox).samples] == [0]


def test_a_change_of_other_facts_keeps_the_samples() -> None:
    inbox = filled(report(), report(sequence=2, containers=[container(1, restart_count=3)]))

    assert [batch.handles.tolist() for batch in drained(inbox).samples] == [[1]]


def test_after_a_gap_only_results_count_until_an_inventory_comes() -> None:
    inbox = filled(report())
    inbox.drain()
    result = pb.OrderResult(order_id=7, outcome=pb.OUTCOME_APPLIED)

    gap = inbox.put(parsed(report(sequence=5, samples=samples((1,)), containers=[container(3)])))
    inbox.put(parsed(report(sequence=6, samples=samples((1,)), order_results=[result])))
    between = drained(inbox)
    after = inbox.put(parsed(report(sequence=7, full_inventory=True, samples=samples((1,)))))

    assert (gap, after) == (Taken.AWAITING_INVENTORY, Taken.TAKEN)
    assert (between.samples, between.containers) == ((), ())
    assert [item.order_id for item in between.results] == [7]
    assert drained(inbox).full_inventory
    assert not inbox.inventory_wanted


def test_an_inventory_replaces_what_was_said_before() -> None:
    inbox = filled(
        report(),
        report(sequence=2, removed_handles=[1]),
        report(sequence=3, full_inventory=True, containers=[container(8)]),
    )

    found = drained(inbox)

    assert found.full_inventory
    assert found.removed_handles == ()
    assert [facts.handle for facts in found.containers] == [8]


def test_the_core_s_wish_for_an_inventory_drops_nothing() -> None:
    inbox = filled(report())
    inbox.ask_inventory("core")

    assert inbox.put(parsed(report(sequence=2, samples=samples((1,))))) is Taken.TAKEN
    assert inbox.inventory_wanted == "core"


@dataclass(frozen=True)
class Step:
    """What a shim does next, before it reports."""

    advance: int = 1
    full: bool = True
    started: dict[int, int] = field(default_factory=dict)
    removed: tuple[int, ...] = ()
    sampled: frozenset[int] = frozenset()
    drain: bool = True


steps = st.builds(
    Step,
    advance=st.sampled_from([1, 1, 1, 1, 0, 2]),
    full=st.sampled_from([False] * 5 + [True]),
    started=st.dictionaries(st.integers(1, 4), st.integers(1, 3), max_size=3),
    removed=st.lists(st.integers(1, 4), max_size=2, unique=True).map(tuple),
    sampled=st.frozensets(st.integers(1, 4)),
    drain=st.booleans(),
)


@given(st.lists(steps, max_size=25))
def test_no_sample_is_ever_given_to_a_container_it_was_not_taken_of(history: list[Step]) -> None:
    """Each sample's usage names the run it was taken of; the reader applies reports in order."""
    inbox = Inbox(samples_max=3)
    shim: dict[int, str] = {}
    core: dict[int, str] = {}
    sequence = 0
    for step in [Step(), *history]:
        sequence += step.advance
        removed = () if step.full else step.removed
        started = {handle: f"run-{handle}-{run}" for handle, run in step.started.items()}
        kept = {} if step.full else {h: run for h, run in shim.items() if h not in removed}
        shim = kept | started
        sampled = sorted(step.sampled & shim.keys())
        message = report(
            sequence=sequence,
            full_inventory=step.full,
            removed_handles=removed,
            containers=[
                container(handle, pod_uid=f"uid-{handle}", container_id=run)
                for handle, run in sorted(started.items())
            ],
            samples=samples(sampled),
        )
        usage = [usage_of(shim[handle]) for handle in sampled]
        message.samples.usage_usec = np.array(usage, "<i8").tobytes()

        inbox.put(parsed(message))
        if step.drain and (found := inbox.drain()) is not None:
            check(found, core)


def usage_of(run: str) -> int:
    _, handle, number = run.split("-")
    return 100 * int(handle) + int(number)


def check(found: Report, core: dict[int, str]) -> None:
    if found.full_inventory:
        core.clear()
    for handle in found.removed_handles:
        core.pop(handle, None)
    for facts in found.containers:
        core[facts.handle] = facts.container_id
    for batch in found.samples:
        for handle, usage in zip(batch.handles.tolist(), batch.counters[0].tolist(), strict=True):
            if handle in core:
                assert usage == usage_of(core[handle])


def test_what_became_of_orders_that_never_left_is_told_like_what_shims_say() -> None:
    inbox = filled(report())
    inbox.drain()

    inbox.put_results((OrderResult(order_id=4, outcome=Outcome.REFUSED),))

    assert [result.order_id for result in drained(inbox).results] == [4]


def test_a_changed_capacity_is_told_once_with_what_else_the_shim_said_of_its_node() -> None:
    inbox = filled(report())
    inbox.drain()

    renewed = [inbox.renew_allocatable(1500), inbox.renew_allocatable(1500)]
    facts = drained(inbox).node_facts

    assert renewed == [True, False]
    assert facts is not None
    assert (facts.allocatable_millicores, facts.cpu_count) == (1500, 2)


def test_an_inbox_knows_the_namespaces_since_the_last_inventory() -> None:
    inbox = filled(report(), report(sequence=2, containers=[container(2, namespace="shop")]))
    before = set(inbox.namespaces)

    inbox.put(parsed(report(sequence=3, full_inventory=True, containers=[container(1)])))

    assert before == {"default", "shop"}
    assert inbox.namespaces == {"default"}
