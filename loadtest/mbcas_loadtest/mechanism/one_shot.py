"""One market, one round, one liar: what a deviation pays in true payoff.

Every market is played by everybody's truth once. Then its attacker deviates while all others stay,
and the gain is the difference of its true payoffs, charges deducted. A rule with memory meets the
deviation after as many truthful rounds as it takes to settle, always from the same moment.

**What rounding may give.** Surplus is handed out in quanta q; rounded, a share is off by less than
one. A truthful allocation x short of the need may therefore lie up to q below the exact share,
and a deviation may be handed that quantum. So what counts as profit is a gain above the

    allowance  u(x moved towards the need by k q) - u(x),

where k = 1 for a bidder that deviates alone, and k = the number of rows for one that plays several.
It is not tuned: it is the true worth of a quantum a row where the deviation starts. The same suite
with all amounts a thousand times as large shows gains without rounding's part.
"""

import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mbcas_core.market.clearing import Bids
from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.mechanism.one_shot_markets import OneShotMarkets
from mbcas_loadtest.mechanism.rules.rule import Facts, Rule

SMALLEST_GAIN_RATIO = 1e-9
"""Of what meeting the whole need is worth: gains below are rounding errors of floats."""
LEAST_VALUE_RATIO = 0.01
"""Gains are measured against the useful value of truth, or against this share of what the whole
need is worth, where truth gets less: who had nothing would gain infinitely otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gains:
    """What a deviation paid in m markets, at the best of what was tried; shape (m,) each."""

    gain: FloatArray
    """In true payoff against truth; may be negative."""
    allowance: FloatArray
    """What rounding alone can explain."""
    value: FloatArray
    """What gains are shares of, above 0."""
    quantum_value: FloatArray
    """What a quantum is worth at most."""
    applies: BoolArray
    """False where there was nothing to try."""
    inflated_millicores: IntArray | None = None
    """By how much the best deviation raised an admitted request, where that was the attack."""

    @property
    def pays(self) -> BoolArray:
        """Where it is more than rounding can explain, shape (m,)."""
        more: BoolArray = self.gain > self.allowance
        return more


class Player:
    """One bidder of each market: what it gets, pays, and gains."""

    def __init__(
        self, markets: OneShotMarkets, rows: IntArray, allocation: IntArray, payment: FloatArray
    ) -> None:
        """Takes what everybody got and paid when all were truthful."""
        self.rows = rows
        self.payoffs = markets.payoffs.take(rows)
        self.need: IntArray = markets.bids.need_millicores[rows]
        self.true_allocation: IntArray = allocation[rows]
        self._true_payoff = self.payoffs.payoff(self.true_allocation) - payment[rows]
        whole = self.payoffs.useful_value(self.need)
        true_value = self.payoffs.useful_value(self.true_allocation)
        self.smallest_gain: FloatArray = np.maximum(whole, 1.0) * SMALLEST_GAIN_RATIO
        self.value: FloatArray = np.maximum(
            np.maximum(true_value, whole * LEAST_VALUE_RATIO), self.smallest_gain
        )

    def gain(self, allocation: IntArray, payment: FloatArray) -> FloatArray:
        """Returns the gain over truth of getting and paying this, shape (m,)."""
        return self.payoffs.payoff(allocation) - payment - self._true_payoff

    def allowance(self, rows: int, quantum_millicores: int) -> FloatArray:
        """Returns what one quantum a row, rightly placed, would be worth, shape (m,)."""
        reach = rows * quantum_millicores
        best = np.clip(self.need, self.true_allocation - reach, self.true_allocation + reach)
        worth = self.payoffs.payoff(best) - self.payoffs.payoff(self.true_allocation)
        return np.maximum(worth, 0.0) + self.smallest_gain

    def quantum_value(self, quantum_millicores: int) -> FloatArray:
        """Returns what a quantum is worth to a bidder that lacks it always, shape (m,)."""
        worth: FloatArray = np.maximum(self.payoffs.throttling_cost(), 1.0) * quantum_millicores
        return worth


class Game:
    """A rule, markets, and what truth gets everybody."""

    def __init__(self, rule: Rule, markets: OneShotMarkets, *, quantum_millicores: int) -> None:
        """Lets everybody play truthfully until the rule has settled."""
        self.markets = markets
        self.quantum_millicores = quantum_millicores
        self._rule = rule
        bids = markets.bids
        self.facts: Facts = markets.payoffs.facts(bids.need_millicores)
        self._settled = self._settle(bids, self.facts)
        allocation, payment = self._play(self._settled, bids, self._deviating())
        self.attacker = Player(markets, markets.attacker, allocation, payment)
        self.accomplice = Player(markets, markets.accomplice, allocation, payment)

    @cached_property
    def market_index(self) -> IntArray:
        """0 to m - 1, for picking each market's best of several tries."""
        index: IntArray = np.arange(self.markets.capacity_millicores.size)
        return index

    def play(self, bids: Bids) -> tuple[IntArray, FloatArray]:
        """Returns what everybody gets and the deviating pay, shape (n,), all else as before."""
        return self._play(self._settled, bids, self._deviating())

    def play_long(self, bids: Bids, facts: Facts, *, calm: Bids) -> tuple[IntArray, FloatArray]:
        """The same where more than bids differs: the rule settles at `calm` bids anew.

        Rows may be others than the markets' own; all of them are charged.
        """
        return self._play(self._settle(calm, facts), bids, None)

    def facts_of_copies(self, source: IntArray, demand_millicores: IntArray) -> Facts:
        """Returns the facts of rows that are copies, or parts, of these; each with this demand."""
        facts, payoffs = self.facts, self.markets.payoffs
        return Facts(
            demand_millicores=demand_millicores,
            elasticity=facts.elasticity[source],
            throttling_target_ratio=facts.throttling_target_ratio[source],
            relax=lambda tau: payoffs.take(source).relax(tau),
            acceptable_millicores=facts.acceptable_millicores[source],
            part_ratio=facts.part_ratio[source],
            part_value=facts.part_value[source],
        )

    def report(self, needs: IntArray) -> FloatArray:
        """Returns what the attackers gain by these needs instead of their own, shape (m,)."""
        bids = self.markets.bids
        need = bids.need_millicores.copy()
        need[self.attacker.rows] = needs
        allocation, payment = self.play(replace(bids, need_millicores=need))
        return self.attacker.gain(allocation[self.attacker.rows], payment[self.attacker.rows])

    def gains(self, gain: FloatArray, *, rows: int = 1, applies: BoolArray | None = None) -> Gains:
        """Puts the attackers' gains by playing this many rows beside what they are judged by."""
        return Gains(
            gain=gain,
            allowance=self.attacker.allowance(rows, self.quantum_millicores),
            value=self.attacker.value,
            quantum_value=self.attacker.quantum_value(self.quantum_millicores),
            applies=np.ones(gain.size, dtype=np.bool_) if applies is None else applies,
        )

    def _deviating(self) -> IntArray:
        return np.concatenate([self.markets.attacker, self.markets.accomplice])

    def _settle(self, bids: Bids, facts: Facts) -> Rule:
        rule = copy.copy(self._rule)
        rule.reset()
        rule.observe(facts)
        for _ in range(rule.settling_rounds):
            rule.clear(
                bids,
                self.markets.capacity_millicores,
                quantum_millicores=self.quantum_millicores,
            )
        return rule

    def _play(
        self, settled: Rule, bids: Bids, charged: IntArray | None
    ) -> tuple[IntArray, FloatArray]:
        capacity = self.markets.capacity_millicores
        moment = copy.copy(settled)
        cleared = moment.clear(bids, capacity, quantum_millicores=self.quantum_millicores)
        return cleared.allocation_millicores, moment.pay(bids, capacity, rows=charged)
