from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mbcas_core.market.audit_orders import audit_orders
from mbcas_core.market.clearing import sum_by
from mbcas_core.market.findings import Finding
from mbcas_core.market.orders import Grants, OrderRows, clear_orders, find_billed_ceilings
from mbcas_core.units import BoolArray, IntArray

CPU = st.one_of(st.integers(0, 60), st.integers(0, 3000))


@dataclass(frozen=True)
class Books:
    """What is billed and wished for on some nodes, and how much may be billed."""

    rows: OrderRows
    reservation_limit: IntArray
    ceiling_limit: IntArray
    quantum: int = 10

    def clear(self) -> Grants:
        """Clears them, and audits what comes of it."""
        grants = clear_orders(
            self.rows,
            reservation_limit_millicores=self.reservation_limit,
            ceiling_limit_millicores=self.ceiling_limit,
            quantum_millicores=self.quantum,
        )
        assert self.audit(grants) == []
        return grants

    def audit(self, grants: Grants) -> list[Finding]:
        return audit_orders(
            self.rows,
            grants,
            reservation_limit_millicores=self.reservation_limit,
            ceiling_limit_millicores=self.ceiling_limit,
        )

    def sums(self, values: IntArray) -> IntArray:
        return sum_by(self.rows.node[self.rows.pod], values, self.reservation_limit.size)


def rows_of(
    *,
    reservation: tuple[list[int], list[int], list[int]],
    ceiling: tuple[list[int], list[int], list[int]],
    hard_quota: bool = False,
    has_limit: bool = True,
) -> OrderRows:
    """Builds rows that are a pod each on one node; a good is (billed, floor, target)."""
    count = len(reservation[0])
    ones = np.ones(count)
    return OrderRows(
        pod=np.arange(count, dtype=np.int64),
        weight=ones,
        has_limit=np.full(count, has_limit),
        hard_quota=np.full(count, hard_quota),
        reservation_floor_millicores=np.array(reservation[1]),
        ceiling_floor_millicores=np.array(ceiling[1]),
        reservation_target_millicores=np.array(reservation[2]),
        ceiling_target_millicores=np.array(ceiling[2]),
        reservation_billed_millicores=np.array(reservation[0]),
        ceiling_billed_millicores=np.array(ceiling[0]),
        node=np.zeros(count, dtype=np.int64),
        pod_weight=ones,
    )


@st.composite
def books(draw: st.DrawFn) -> Books:
    """Draws nodes whose targets fit their limits or not, with cuts outstanding."""
    pods_of_node = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    pods = sum(pods_of_node)
    rows_of_pod = draw(st.lists(st.integers(1, 3), min_size=pods, max_size=pods))
    n = sum(rows_of_pod)

    def column(count: int = n) -> IntArray:
        return np.array(draw(st.lists(CPU, min_size=count, max_size=count)), dtype=np.int64)

    def flags() -> BoolArray:
        return np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=np.bool_)

    reservation_billed, reservation_target = column(), column()
    rows = OrderRows(
        pod=np.repeat(np.arange(pods, dtype=np.int64), rows_of_pod),
        weight=column().astype(np.float64) + 1.0,
        has_limit=flags(),
        hard_quota=flags(),
        reservation_floor_millicores=column(),
        ceiling_floor_millicores=column(),
        reservation_target_millicores=reservation_target,
        ceiling_target_millicores=reservation_target + column(),
        reservation_billed_millicores=reservation_billed,
        ceiling_billed_millicores=reservation_billed + column(),
        node=np.repeat(np.arange(len(pods_of_node), dtype=np.int64), pods_of_node),
        pod_weight=column(pods).astype(np.float64) + 10.0,
    )
    limit = column(len(pods_of_node)) * 4
    overcommit = draw(st.sampled_from([1, 3]))
    return Books(rows, limit, limit * overcommit, draw(st.sampled_from([1, 10])))


def test_the_worked_example_clears_as_the_module_says() -> None:
    rows = rows_of(
        reservation=([200, 100], [260, 100], [400, 150]),
        ceiling=([400, 150], [0, 0], [400, 150]),
    )

    grants = Books(rows, np.array([400]), np.array([1200])).clear()

    assert grants.reservation_slack_millicores.tolist() == [100]
    assert grants.reservation_millicores.tolist() == [80, 20]
    assert grants.ceiling_millicores.tolist() == [0, 0]


@given(books())
def test_no_raise_bills_a_node_above_its_limit(book: Books) -> None:
    rows, grants = book.rows, book.clear()

    after = book.sums(rows.reservation_billed_millicores + grants.reservation_millicores)
    raised = book.sums(grants.reservation_millicores) > 0
    assert (after <= book.reservation_limit)[raised].all()
    after = book.sums(find_billed_ceilings(rows) + grants.ceiling_millicores)
    raised = book.sums(grants.ceiling_millicores) > 0
    assert (after <= book.ceiling_limit)[raised].all()


@given(books())
def test_no_raise_passes_its_target(book: Books) -> None:
    rows, grants = book.rows, book.clear()

    wish = rows.reservation_target_millicores - rows.reservation_billed_millicores
    assert (grants.reservation_millicores >= 0).all()
    assert (grants.reservation_millicores <= np.maximum(wish, 0)).all()
    reserved = rows.reservation_billed_millicores + grants.reservation_millicores
    target = np.maximum(rows.ceiling_target_millicores, reserved)
    free = rows.has_limit & ~rows.hard_quota
    wish = np.maximum(target - rows.ceiling_billed_millicores, 0)
    assert (grants.ceiling_millicores <= wish)[free].all()


@given(books())
def test_a_raised_reservation_stays_under_its_ceiling(book: Books) -> None:
    rows, grants = book.rows, book.clear()

    reserved = rows.reservation_billed_millicores + grants.reservation_millicores
    ceiling = find_billed_ceilings(rows) + grants.ceiling_millicores
    assert (reserved <= ceiling).all()


@given(books())
def test_what_is_owed_is_granted_before_anything_else(book: Books) -> None:
    rows = replace(book.rows, ceiling_billed_millicores=np.full(book.rows.pod.size, 10_000))
    rows = replace(rows, has_limit=np.ones_like(rows.has_limit))
    roomy = replace(book, rows=rows, ceiling_limit=np.full(book.ceiling_limit.size, 10**7))

    grants = roomy.clear()

    owed = np.minimum(rows.reservation_floor_millicores, rows.reservation_target_millicores)
    owed = np.maximum(owed - rows.reservation_billed_millicores, 0)
    fits = roomy.sums(owed) <= grants.reservation_slack_millicores
    node = rows.node[rows.pod]
    assert (grants.reservation_millicores >= owed)[fits[node]].all()
    spent = roomy.sums(grants.reservation_millicores)
    assert (spent == grants.reservation_slack_millicores)[~fits].all()


@given(books())
def test_slack_is_left_only_where_nobody_wishes_for_more(book: Books) -> None:
    rows = replace(book.rows, has_limit=np.ones_like(book.rows.has_limit))
    rows = replace(rows, hard_quota=np.zeros_like(rows.hard_quota))
    roomy = replace(book, rows=rows, ceiling_limit=np.full(book.ceiling_limit.size, 10**7))

    grants = roomy.clear()

    wish = rows.reservation_target_millicores - rows.reservation_billed_millicores
    asked = roomy.sums(np.maximum(wish, 0))
    spent = roomy.sums(grants.reservation_millicores)
    assert (spent == np.minimum(asked, grants.reservation_slack_millicores)).all()


def test_a_hard_quota_moves_both_numbers_by_what_the_reservations_leave() -> None:
    rows = rows_of(reservation=([500], [500], [900]), ceiling=([500], [0], [900]), hard_quota=True)

    grants = Books(rows, np.array([700]), np.array([2100])).clear()

    assert grants.reservation_millicores.tolist() == [200]
    assert grants.ceiling_millicores.tolist() == [200]


def test_a_hard_quota_waits_where_the_ceilings_have_no_room() -> None:
    rows = rows_of(reservation=([500], [500], [900]), ceiling=([500], [0], [900]), hard_quota=True)

    grants = Books(rows, np.array([700]), np.array([550])).clear()

    assert grants.reservation_millicores.tolist() == [50]


def test_an_overbilled_node_raises_nothing() -> None:
    rows = rows_of(
        reservation=([500, 600], [700, 0], [800, 0]), ceiling=([900, 900], [0, 0], [0, 0])
    )

    grants = Books(rows, np.array([1000]), np.array([1000])).clear()

    assert grants.reservation_millicores.tolist() == [0, 0]
    assert grants.reservation_slack_millicores.tolist() == [0]


def test_a_ceiling_that_a_reservation_needs_comes_before_relief() -> None:
    rows = rows_of(
        reservation=([200, 100], [300, 100], [300, 100]),
        ceiling=([200, 150], [0, 0], [300, 1000]),
    )

    grants = Books(rows, np.array([1000]), np.array([450])).clear()

    assert grants.reservation_millicores.tolist() == [100, 0]
    assert grants.ceiling_millicores.tolist() == [100, 0]
