"""Billed is the most of what was sent, admitted, applied or left in doubt."""

import numpy as np
import pytest

from mbcas_core import ledger
from mbcas_core.events import CpuResources, OrderResult, Outcome
from mbcas_core.ledger import LedgerTable

ROW = np.array([0])


def cpu(request: int | None, limit: int | None) -> CpuResources:
    return CpuResources(request_millicores=request, limit_millicores=limit)


def held(request: int, limit: int) -> LedgerTable:
    """A row whose three numbers agree."""
    table = LedgerTable()
    table.grow(1)
    adopt(table, cpu(request, limit))
    return table


def adopt(table: LedgerTable, spec: CpuResources, *, now_seconds: float | None = None) -> None:
    ledger.adopt(
        table,
        0,
        spec=spec,
        allocated=CpuResources(),
        actual=CpuResources(),
        now_seconds=now_seconds,
    )


def send(table: LedgerTable, request: int, limit: int, *, now_seconds: float = 100.0) -> None:
    ledger.send(
        table,
        ROW,
        order_ids=np.array([1]),
        request=np.array([request]),
        limit=np.array([limit]),
        now_seconds=now_seconds,
    )


def settle(
    table: LedgerTable,
    outcome: Outcome,
    *,
    actual: CpuResources | None = None,
    now_seconds: float = 101.0,
    retry_after_seconds: float | None = None,
) -> None:
    result = OrderResult(
        order_id=1, outcome=outcome, actual=actual, retry_after_seconds=retry_after_seconds
    )
    ledger.settle(table, 0, result, now_seconds=now_seconds, backoff_seconds=10.0)


def observe(table: LedgerTable, limit: float, *, now_seconds: float) -> None:
    ledger.observe_limit(table, ROW, np.array([limit]), now_seconds=now_seconds)


def billed(table: LedgerTable) -> tuple[int, int]:
    return int(ledger.billed_request(table, ROW)[0]), int(ledger.billed_limit(table, ROW)[0])


def test_a_raise_is_billed_from_the_moment_it_is_sent() -> None:
    table = held(300, 500)

    send(table, 400, 900)

    assert billed(table) == (400, 900)
    assert ledger.in_flight(table, ROW).tolist() == [True]


def test_a_cut_is_billed_at_what_is_there_until_the_kernel_shows_it() -> None:
    table = held(300, 500)

    send(table, 300, 200)
    assert billed(table) == (300, 500)
    settle(table, Outcome.APPLIED)
    assert billed(table) == (300, 500)
    observe(table, 200.0, now_seconds=103.0)

    assert billed(table) == (300, 200)
    assert table.lag[0] == 3.0
    assert (table.cut_time[0], table.cut_from[0], table.changed_time[0]) == (103.0, 500, 103.0)


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.STALE, Outcome.EXPIRED])
def test_an_order_that_was_not_carried_out_is_billed_no_longer(outcome: Outcome) -> None:
    table = held(300, 500)
    send(table, 400, 900)

    settle(table, outcome)

    assert billed(table) == (300, 500)
    assert not ledger.in_flight(table, ROW)[0]


def test_an_order_that_failed_stays_billed_until_an_inventory_says_what_is_there() -> None:
    table = held(300, 500)
    send(table, 400, 900)
    settle(table, Outcome.FAILED)
    assert billed(table) == (400, 900)

    send(table, 300, 600)
    settle(table, Outcome.REFUSED)
    assert billed(table) == (400, 900)

    adopt(table, cpu(300, 500), now_seconds=110.0)
    assert billed(table) == (300, 500)


def test_a_voided_order_stays_billed_until_a_later_one_is_applied() -> None:
    table = held(300, 500)
    send(table, 400, 900)
    ledger.void(table, ROW)
    assert billed(table) == (400, 900)

    send(table, 300, 600)
    assert billed(table) == (400, 900)
    settle(table, Outcome.APPLIED, actual=cpu(300, 600))

    assert billed(table) == (300, 600)


def test_an_inventory_leaves_an_order_in_flight_as_it_is() -> None:
    table = held(300, 500)
    send(table, 400, 900)

    adopt(table, cpu(300, 500), now_seconds=101.0)

    assert billed(table) == (400, 900)
    assert ledger.in_flight(table, ROW)[0]
    settle(table, Outcome.APPLIED, actual=cpu(400, 900))
    assert int(table.allocated_limit[0]) == int(table.applied_limit[0]) == 900


def test_refusals_rest_longer_each_time_until_one_is_applied() -> None:
    table = held(300, 500)
    rests = []
    for _ in range(9):
        send(table, 400, 900)
        settle(table, Outcome.REFUSED, now_seconds=1000.0)
        rests.append(float(table.rest_until[0]) - 1000.0)

    assert rests == [10, 20, 40, 80, 160, 320, 600, 600, 600]

    send(table, 400, 900)
    settle(table, Outcome.APPLIED)
    send(table, 300, 500)
    settle(table, Outcome.REFUSED, now_seconds=1000.0, retry_after_seconds=25.0)
    assert table.rest_until[0] == 1025.0


def test_nobody_can_ask_for_a_rest_without_end() -> None:
    table = held(300, 500)
    send(table, 400, 900)

    settle(table, Outcome.REFUSED, now_seconds=1000.0, retry_after_seconds=float("inf"))

    assert table.rest_until[0] == 1600.0


def test_a_ceiling_below_the_kernels_least_arrives_as_that() -> None:
    table = held(0, 500)
    send(table, 0, 5)

    observe(table, 10.0, now_seconds=104.0)

    assert not table.awaited[0]


def test_the_lag_lasts_until_the_kernel_has_it_though_the_spec_said_so_before() -> None:
    table = held(300, 500)
    send(table, 300, 900)
    settle(table, Outcome.APPLIED)

    adopt(table, cpu(300, 900), now_seconds=101.0)
    observe(table, 500.0, now_seconds=102.0)
    observe(table, 900.0, now_seconds=103.0)

    assert table.lag[0] == 3.0


def test_what_somebody_else_has_changed_since_is_awaited_no_more() -> None:
    table = held(300, 500)
    send(table, 300, 900)
    settle(table, Outcome.APPLIED)

    adopt(table, cpu(300, 700), now_seconds=101.0)
    observe(table, 900.0, now_seconds=103.0)

    assert np.isnan(table.lag[0])


def test_a_quota_that_is_not_there_changes_nothing() -> None:
    table = held(300, 500)

    observe(table, float("nan"), now_seconds=104.0)

    assert billed(table) == (300, 500)
    assert table.changed_time[0] == -np.inf


@pytest.mark.parametrize(
    ("spec", "foreign"),
    [
        (cpu(300, 500), False),  # As before the order,
        (cpu(400, 900), False),  # as the order asks,
        (cpu(300, 900), False),
        (cpu(300, 700), True),  # and neither.
        (cpu(None, 500), True),
    ],
)
def test_a_spec_is_foreign_where_it_is_neither_old_nor_ordered(
    *, spec: CpuResources, foreign: bool
) -> None:
    table = held(300, 500)
    send(table, 400, 900)

    assert ledger.is_foreign(table, 0, spec) == foreign
