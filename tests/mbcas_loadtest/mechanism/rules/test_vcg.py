from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbcas_loadtest.mechanism.rules import vcg
from mbcas_loadtest.mechanism.rules.vcg import Vcg
from tests.mbcas_loadtest.mechanism.small_markets import allocate, bids_of, facts_of, whole

Values = list[list[int]]


def sell_plainly(values: Values, capacity: int) -> list[int]:
    """Sells millicore by millicore to whom the next one is worth most."""
    sold = [0] * len(values)
    for _ in range(capacity):
        worth = [v[k] if k < len(v) else 0 for v, k in zip(values, sold, strict=True)]
        if max(worth, default=0) == 0:
            break
        sold[worth.index(max(worth))] += 1
    return sold


def worth_of(values: Values, sold: list[int]) -> int:
    return sum(sum(v[:k]) for v, k in zip(values, sold, strict=True))


def charge_plainly(values: Values, capacity: int, bidder: int) -> int:
    """Returns what the others lose because of the bidder."""
    without = [v if index != bidder else [] for index, v in enumerate(values)]
    sold = sell_plainly(values, capacity)
    own = sum(values[bidder][: sold[bidder]])
    return worth_of(without, sell_plainly(without, capacity)) - (worth_of(values, sold) - own)


def test_the_worked_example_sells_and_charges_as_the_module_says() -> None:
    rule = Vcg()
    rule.observe(facts_of([60, 50, 40], part_value=[[3.0], [2.0], [1.0]]))
    bids = bids_of([60, 50, 40])

    assert allocate(rule, bids, 100) == [60, 40, 0]
    assert rule.pay(bids, whole([100])).tolist() == [60.0, 40.0, 0.0]


def test_where_all_fits_nobody_pays() -> None:
    rule = Vcg()
    bids = bids_of([60, 50], floors=[60, 50], weights=[60.0, 50.0])

    assert allocate(rule, bids, 110) == [60, 50]
    assert rule.pay(bids, whole([110])).tolist() == [0.0, 0.0]


def test_a_report_scales_the_parts_of_the_need_and_leaves_their_worth() -> None:
    rule = Vcg()
    rule.observe(facts_of([0, 0], part_ratio=[[0.5, 0.5]] * 2, part_value=[[9.0, 2.0], [5.0, 1.0]]))

    assert allocate(rule, bids_of([100, 100]), 100) == [50, 50]
    assert allocate(rule, bids_of([160, 100]), 100) == [80, 20]


@st.composite
def part_values(draw: st.DrawFn) -> Values:
    """Draws the worth of each millicore of two to five bidders, in two parts of equal length."""
    bidders = []
    for _ in range(draw(st.integers(2, 5))):
        length = draw(st.integers(0, 6))
        high, low = sorted(draw(st.tuples(st.integers(1, 9), st.integers(1, 9))), reverse=True)
        bidders.append([high] * length + [low] * length)
    return bidders


@settings(max_examples=40)
@given(st.lists(st.tuples(part_values(), st.integers(0, 30)), min_size=1, max_size=4))
def test_batches_are_worth_and_charged_what_selling_one_by_one_brings(
    markets: list[tuple[Values, int]],
) -> None:
    values = [v for bidders, _ in markets for v in bidders]
    rule = Vcg()
    rule.observe(
        facts_of(
            [0] * len(values),
            part_ratio=[[0.5, 0.5]] * len(values),
            part_value=[[v[0], v[-1]] if v else [2.0, 1.0] for v in values],
        )
    )
    bids = bids_of(
        [len(v) for v in values],
        market=[index for index, (bidders, _) in enumerate(markets) for _ in bidders],
    )
    capacity = [c for _, c in markets]

    allocation = allocate(rule, bids, *capacity)
    payment = rule.pay(bids, whole(capacity))

    first = np.cumsum([0] + [len(bidders) for bidders, _ in markets])
    for (start, end), (bidders, c) in zip(pairwise(first.tolist()), markets, strict=True):
        assert allocation[start:end] == sell_plainly(bidders, c)
        charged = [charge_plainly(bidders, c, index) for index in range(len(bidders))]
        assert payment[start:end].tolist() == pytest.approx(charged)


def test_charges_do_not_depend_on_how_many_are_worked_out_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(5)
    bids = bids_of(
        generator.integers(1, 90, 12).tolist(),
        market=[0] * 4 + [1] * 5 + [2] * 3,
        floors=generator.integers(1, 90, 12).tolist(),
        weights=generator.uniform(1, 90, 12).tolist(),
    )
    together = Vcg().pay(bids, whole([100, 100, 100]))

    monkeypatch.setattr(vcg, "PARTS_AT_ONCE", 40)
    in_pieces = Vcg().pay(bids, whole([100, 100, 100]))
    some = Vcg().pay(bids, whole([100, 100, 100]), rows=whole([2, 7]))

    assert in_pieces.tolist() == together.tolist()
    assert np.flatnonzero(some).tolist() == [row for row in (2, 7) if together[row]]
    assert some[[2, 7]].tolist() == together[[2, 7]].tolist()
