"""A game on reported needs: each round every pod tells the market one, and lives with the answer.

Pods know the law of their demand for the round (a histogram that moves with the load), and the
market knows nothing but reports; so this is the game of the theory, played again and again with
whatever state the rules keep: Karma's credits, gauges of a price response, floors that refusals
raised, purses.

    payoff = v(x) - payment,    v(x) = c_t E[min(x, D)] - c_w E[(x - D)+]        summed over rounds

(`mechanism.payoffs`). Expected values are used, not draws, which leaves nothing to chance but the
loads. All pods have the same throttling target of 5 %.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_core.market.clearing import Bids, Clearing
from mbcas_core.market.credits import CreditTable, endow, lend
from mbcas_core.market.participation import (
    Compliance,
    RefusalTable,
    find_growth,
    grow_floors,
    remember,
)
from mbcas_core.market.pods import NO_CAP_MILLICORES, PodBids
from mbcas_core.market.price import find_prices
from mbcas_core.parameters import Parameters
from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.games.attackers import Admission, Attacker, Seen
from mbcas_loadtest.games.draws import (
    ALLOCATABLE_MILLICORES,
    ROUND_SECONDS,
    Draw,
    Slots,
    admit_honestly,
    bound_priority,
    draw_games,
    find_fair_shares,
    find_reserve,
)
from mbcas_loadtest.games.outcome import TAU, Outcome, Tally
from mbcas_loadtest.mechanism.payoffs import Demand, Payoffs
from mbcas_loadtest.mechanism.rules.mbcas import Mbcas
from mbcas_loadtest.mechanism.rules.rule import Rule

BINS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """A rule, and what may stand around it: floors that refusals raise, credits."""

    name: str
    rule: Callable[[], Rule] = Mbcas
    parameters: Parameters = field(default_factory=Parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsGame:
    """What is played; `games` of them, drawn from the seed."""

    seed: int
    games: int
    rounds: int = 200
    mechanism: Mechanism = field(default_factory=lambda: Mechanism(name="default"))
    max_priority: PriorityClass = PriorityClass.NORMAL
    """The highest class that a pod's namespace lets it claim."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Nature:
    """The games as they are drawn; histograms are (g, p, bins), in shares of the mean."""

    drawn: Draw
    low: FloatArray
    high: FloatArray
    probability: FloatArray


def play(
    game: NeedsGame, attacker: Attacker, tell_round: Callable[[int], None] | None = None
) -> Outcome:
    """Plays every game once; `tell_round` is called with the number of each round that begins."""
    nature = _draw(game)
    drawn = nature.drawn
    supply = ALLOCATABLE_MILLICORES - find_reserve(game.mechanism.parameters)
    said = attacker.admit(admit_honestly(drawn, attacker.pods, supply))
    slots = Slots(attacker.pods, said.replicas)
    market = _Market(game, drawn, said, slots, supply)
    tally = Tally(find_fair_shares(drawn, supply))
    own = slots.own
    last_demand = np.zeros((game.games, slots.pod.size))
    for number in range(game.rounds):
        if tell_round is not None:
            tell_round(number)
        demand = drawn.demand_millicores[number : number + 2]
        payoffs = _payoffs(nature, slots, demand[0], market.elasticity)
        mean = slots.spread(demand[0])
        need = payoffs.find_need().reshape(mean.shape)
        reported = need.copy()
        seen = market.look(
            number,
            demand=mean[:, own],
            coming=slots.spread(demand.max(axis=0))[:, own],
            need=need[:, own].astype(np.float64),
            last_demand=last_demand[:, own],
        )
        reported[:, own] = np.maximum(np.rint(attacker.report(seen)), 0.0)
        got, paid = market.clear(reported, payoffs, demand[0])
        value = payoffs.useful_value(got.ravel()).reshape(got.shape) - paid
        served = payoffs.demand.served(got.ravel().astype(np.float64)).reshape(got.shape)
        allocation = slots.add_up(got.astype(np.float64))
        tally.add(
            payoff=slots.add_up(value),
            demand=slots.add_up(payoffs.demand.mean().reshape(got.shape)),
            useful=slots.add_up(served),
            held=allocation,
            admitted=slots.add_up(market.request_millicores.astype(np.float64)),
            want=slots.add_up(need.astype(np.float64)),
            has=allocation,
        )
        last_demand = mean
    return tally.outcome()


def _draw(game: NeedsGame) -> _Nature:
    generator = np.random.default_rng(game.seed)
    drawn = draw_games(
        generator, game.games, game.rounds, step_seconds=ROUND_SECONDS, guaranteed=True
    )
    shape = drawn.request_millicores.shape
    spread = generator.uniform(0.1, 0.8, (*shape, 1))
    ends = np.sort(generator.gamma(1.0 / spread**2, spread**2, (*shape, BINS + 1)), axis=2)
    mass = generator.dirichlet(np.ones(BINS), shape)
    mean = (mass * (ends[..., :-1] + ends[..., 1:]) / 2.0).sum(axis=2, keepdims=True)
    ends = ends / mean
    return _Nature(drawn=drawn, low=ends[..., :-1], high=ends[..., 1:], probability=mass)


def _payoffs(nature: _Nature, slots: Slots, demand: FloatArray, elasticity: FloatArray) -> Payoffs:
    """Returns what CPU is worth to every place in a round with these mean demands, (g, p)."""
    mean = slots.spread(demand)[:, :, None]
    rows = mean.size
    return Payoffs(
        demand=Demand(
            low_millicores=(nature.low[:, slots.pod] * mean).reshape(rows, BINS),
            high_millicores=(nature.high[:, slots.pod] * mean).reshape(rows, BINS),
            probability=nature.probability[:, slots.pod].reshape(rows, BINS),
        ),
        throttling_target_ratio=np.full(rows, TAU),
        elasticity=elasticity,
    )


class _Market:
    """The markets of all games, and what the mechanism remembers of them."""

    def __init__(
        self, game: NeedsGame, drawn: Draw, said: Admission, slots: Slots, supply: int
    ) -> None:
        self._parameters = game.mechanism.parameters
        self._rule = game.mechanism.rule()
        self._slots = slots
        games, places = game.games, slots.pod.size
        self._shape = (games, places)
        self.request_millicores = slots.place(said.request_millicores, drawn.request_millicores)
        priority = bound_priority(said.priority_class, game.max_priority)
        mine = np.arange(places) < slots.own.stop
        self._weight = np.maximum(
            game.mechanism.parameters.default_request_millicores, self.request_millicores
        ) * self._by_class(game.mechanism.parameters.priority_factor, priority, mine)
        elasticity = self._by_class(game.mechanism.parameters.elasticity, priority, mine)
        self.elasticity: FloatArray = np.tile(elasticity, games)
        acceptable = np.zeros(self._shape, np.int64)
        if said.min_acceptable_millicores is not None:
            acceptable[:, slots.own] = slots.place_own(said.min_acceptable_millicores)
        self._acceptable: IntArray = acceptable.ravel()
        self._market: IntArray = np.repeat(np.arange(games), places)
        self._rows: IntArray = np.arange(games * places)
        self._capacity: IntArray = np.full(games, supply)
        self._refusals, self._credits = RefusalTable(), CreditTable()
        self._refusals.grow(self._rows.size)
        self._credits.grow(self._rows.size)
        self._got: IntArray = np.zeros(self._shape, np.int64)
        self._shortage = np.zeros(games)
        self._price = np.zeros(games)

    @staticmethod
    def _by_class(
        table: dict[PriorityClass, float], own: PriorityClass, mine: BoolArray
    ) -> FloatArray:
        return np.where(mine, table[own], table[PriorityClass.NORMAL])

    def look(
        self,
        number: int,
        *,
        demand: FloatArray,
        coming: FloatArray,
        need: FloatArray,
        last_demand: FloatArray,
    ) -> Seen:
        got = self._got[:, self._slots.own].astype(np.float64)
        lacking = np.maximum(last_demand - got, 0.0)
        return Seen(
            second=number * ROUND_SECONDS,
            round=number,
            demand_millicores=demand,
            coming_millicores=coming,
            need_millicores=need,
            allocation_millicores=got,
            throttled_ratio=lacking / np.maximum(last_demand, 1.0),
            shortage=self._shortage,
            shadow_price_normalized=self._price,
        )

    def clear(
        self, reported: IntArray, payoffs: Payoffs, demand: FloatArray
    ) -> tuple[IntArray, FloatArray]:
        """Returns what every place gets and what it pays, (g, s)."""
        of_slot = np.rint(self._slots.spread(demand)).astype(np.int64)
        self._rule.observe(payoffs.facts(of_slot.ravel()))
        bids = self._bid(reported.ravel())
        cleared = self._rule.clear(
            bids, self._capacity, quantum_millicores=self._parameters.quantum_millicores
        )
        paid = self._rule.pay(bids, self._capacity)
        self._note_refusals(bids, cleared)
        got = cleared.allocation_millicores + self._move_credits(bids, cleared)
        prices = find_prices(cleared, self._capacity)
        self._shortage, self._price = prices.shortage, prices.shadow_price_normalized
        self._got = got.reshape(self._shape)
        return self._got, paid.reshape(self._shape)

    def _bid(self, need: IntArray) -> Bids:
        floor = self.request_millicores.ravel()
        if self._parameters.refusal_floor_step > 0:
            floor = self._grow(need, floor)
        return Bids(
            market=self._market,
            need_millicores=need,
            floor_millicores=floor,
            weight=self._weight.ravel(),
        )

    def _grow(self, need: IntArray, floor: IntArray) -> IntArray:
        growth = find_growth(
            self._refusals,
            self._rows,
            self._acceptable,
            step=self._parameters.refusal_floor_step,
        )
        counted = np.minimum(floor, need).reshape(self._shape).sum(axis=1)
        return grow_floors(
            PodBids(
                pod=self._rows,
                need_millicores=need,
                floor_millicores=floor,
                weight=np.ones(need.size),
                node=self._market,
                pod_cap_millicores=np.full(need.size, NO_CAP_MILLICORES),
                pod_weight=self._weight.ravel(),
            ),
            acceptable_millicores=self._acceptable,
            growth_millicores=growth,
            surplus_millicores=self._capacity - counted,
        )

    def _note_refusals(self, bids: Bids, cleared: Clearing) -> None:
        least = np.minimum(self._acceptable, bids.need_millicores)
        got = cleared.allocation_millicores
        level: FloatArray = np.ones(least.size)
        np.divide(got, least, out=level, where=least > 0)
        compliance = Compliance(
            allocation_millicores=got,
            least_millicores=least,
            refuses=got < least,
            level=np.minimum(level, 1.0),
        )
        remember(self._refusals, self._rows, compliance)

    def _move_credits(self, bids: Bids, cleared: Clearing) -> IntArray:
        if self._parameters.credit_endowment_millicore_rounds == 0:
            return np.zeros(bids.market.size, np.int64)
        most = endow(
            self._credits,
            self._rows,
            self.request_millicores.ravel(),
            per_core=self._parameters.credit_endowment_millicore_rounds,
        )
        moved = lend(
            bids,
            cleared,
            self._capacity,
            acceptable_millicores=self._acceptable,
            balance=self._credits.balance[self._rows],
            balance_max=most,
            quantum_millicores=self._parameters.quantum_millicores,
        )
        self._credits.balance[self._rows] -= moved
        return moved
