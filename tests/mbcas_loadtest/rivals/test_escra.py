from dataclasses import dataclass, field

import numpy as np
import pytest

from mbcas_core.units import BoolArray, FloatArray
from mbcas_loadtest.rivals.escra import Escra
from tests.mbcas_loadtest.rivals.little_worlds import declare, see

SLICE = 5_000.0


@dataclass
class PlainEscra:
    """One node, report by report, in microseconds."""

    total: float
    gain: float
    quota: list[float]
    pool: float = 0.0
    overrun: float = 0.0
    throttled: list[list[float]] = field(default_factory=list)
    left: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = max(self.total - sum(self.quota), 0.0)
        self.overrun = max(sum(self.quota) - self.total, 0.0)
        self.throttled = [[0.0] * 5 for _ in self.quota]
        self.left = [[0.0] * 5 for _ in self.quota]

    def period(self, usage: list[float], throttled: list[bool]) -> None:
        # Who wants what is read off before anybody gets it.
        pool, overrun = self.pool, self.overrun
        rules = [
            self.look(i, usage[i], throttled=throttled[i], pool=pool, overrun=overrun)
            for i in range(len(self.quota))
        ]
        change = [0.0] * len(self.quota)
        for rule, settle in (
            ("pays", self.pay),
            ("starves", self.fill_up),
            ("grows", self.grow),
            ("gives", self.give_back),
        ):
            for i, (own, amount) in enumerate(rules):
                if own == rule:
                    change[i] = settle(amount)
        for i, by in enumerate(change):
            if by:
                self.quota[i] += by
                self.throttled[i], self.left[i] = [0.0] * 5, [0.0] * 5

    def look(
        self, i: int, usage: float, *, throttled: bool, pool: float, overrun: float
    ) -> tuple[str, float]:
        """Takes one report in; returns which rule applies, and to how much."""
        fair, quota = self.total / len(self.quota), self.quota[i]
        left = max(quota - usage, 0.0)
        self.throttled[i] = [*self.throttled[i][1:], float(throttled)]
        self.left[i] = [*self.left[i][1:], left]
        mean = sum(self.throttled[i]) / 5
        if overrun > 0 and quota > fair:
            over = quota - fair
            amount = over / fair * (SLICE if over > fair else over)
            return "pays", over if amount < SLICE / 2 else amount
        if quota < fair and mean > 0.5:
            lack = fair - quota
            return "starves", lack * lack / fair if lack > SLICE / 2 else lack
        if mean >= 0.1 and pool > 0:
            return "grows", self.gain * mean * SLICE
        if left > 0.2 * quota:
            return "gives", quota - max(0.8 * quota, SLICE)
        if sum(self.left[i]) / 5 > 5_000.0:
            return "gives", quota - max(quota - 5_000.0, SLICE)
        return "rests", 0.0

    def pay(self, amount: float) -> float:
        paid = min(amount, self.overrun)
        self.overrun -= paid
        return -paid

    def fill_up(self, amount: float) -> float:
        if self.pool <= 0:
            self.overrun += amount
            return amount
        return self.grow(amount)

    def grow(self, amount: float) -> float:
        got = min(amount, self.pool)
        self.pool -= got
        return got

    def give_back(self, amount: float) -> float:
        self.pool += amount
        return -amount


def act(escra: Escra, period: int, usage_usec: FloatArray, throttled: BoolArray) -> None:
    limit = np.maximum(escra.quota_usec, 1.0) / 100.0
    escra.step(see(period, usage_usec[np.newaxis] / 100.0, throttled[np.newaxis], limit))


def test_a_throttled_container_grows_by_its_share_of_slices_and_an_idle_one_keeps_four_fifths() -> (
    None
):
    escra = Escra(declare([1000, 1000]), 20.0)

    act(escra, 1, np.array([[100_000.0, 50_000.0]]), np.array([[True, False]]))

    assert escra.quota_usec.tolist() == [[120_000.0, 80_000.0]]
    assert escra.pool_usec.tolist() == [200_000.0]


def test_who_starves_below_the_fair_share_gets_there_even_on_credit() -> None:
    escra = Escra(declare([1000, 3000]), 20.0)
    usage, throttled = np.array([[100_000.0, 300_000.0]]), np.array([[True, False]])

    for period in (1, 2, 3):
        act(escra, period, usage, throttled)
        if period < 3:
            assert escra.quota_usec.tolist() == [[100_000.0, 300_000.0]]

    # The pool is empty: lack of 100 ms of a fair share of 200 ms, so half of it is lent.
    assert escra.quota_usec.tolist() == [[150_000.0, 300_000.0]]
    assert escra.overrun_usec.tolist() == [50_000.0]
    # Half a fair share too much pays back half of it, at most the overrun.
    act(escra, 4, np.array([[150_000.0, 300_000.0]]), np.array([[False, False]]))
    assert escra.quota_usec.tolist() == [[150_000.0, 250_000.0]]
    assert escra.overrun_usec.tolist() == [0.0]


def test_no_quota_falls_below_a_slice() -> None:
    escra = Escra(declare([60, 60]), 20.0)

    for period in range(1, 20):
        act(escra, period, np.zeros((1, 2)), np.zeros((1, 2), np.bool_))

    assert escra.quota_usec.tolist() == [[SLICE, SLICE]]


def test_what_one_leaves_behind_is_there_for_the_others() -> None:
    escra = Escra(declare([1000, 1000, 1000]), 20.0)
    usage, quiet = np.full((1, 1, 3), 990.0), np.zeros((1, 1, 3), np.bool_)
    limit = np.full((1, 3), 1000.0)
    escra.step(see(1, usage, quiet, limit))
    there = np.array([[True, False, True]])

    wanted = escra.step(see(2, usage, quiet, limit, exists=there))

    assert escra.pool_usec.tolist() == [200_000.0]
    assert wanted is not None
    assert wanted.limit_millicores.tolist() == [[1000.0, 1000.0, 1000.0]]


@pytest.mark.parametrize(
    ("limits", "gain"), [((500, 300, 200, 900), 20.0), ((2500, 1500, 900), 4.0)]
)
def test_all_nodes_at_once_do_what_one_node_does_in_plain_python(
    limits: tuple[int, ...], gain: float
) -> None:
    generator = np.random.default_rng(8)
    declared = declare(limits, nodes=2)
    escra = Escra(declared, gain)
    twins = [PlainEscra(400_000.0, gain, [100.0 * limit for limit in limits]) for _ in range(2)]
    level = np.repeat(generator.choice([2e3, 6e4, 2e5], (12, 2, len(limits))), 25, axis=0)
    demand = level * generator.gamma(6.0, 1 / 6.0, level.shape)
    credits_seen = 0

    for period in range(demand.shape[0]):
        quota = np.array([twin.quota for twin in twins])
        usage, throttled = np.minimum(demand[period], quota), demand[period] > quota
        act(escra, period + 1, usage, throttled)
        for node, twin in enumerate(twins):
            credits_seen += twin.overrun > 0
            twin.period(usage[node].tolist(), throttled[node].tolist())
            assert escra.quota_usec[node] == pytest.approx(twin.quota, rel=1e-9)
            assert escra.pool_usec[node] == pytest.approx(twin.pool, rel=1e-9, abs=1e-3)
            assert escra.overrun_usec[node] == pytest.approx(twin.overrun, rel=1e-9, abs=1e-3)

    left = escra.quota_usec.sum(axis=-1) + escra.pool_usec - escra.overrun_usec
    assert left == pytest.approx(400_000.0)
    assert credits_seen > 0
