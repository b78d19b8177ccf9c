"""The one-shot attacks: each tries several deviations in every market and keeps the best.

| attack | what is tried | MBCAS claims |
|---|---|---|
| under_report, over_report | a need 0.5 to 3 times the true one | no gain |
| local_search | uphill from truth and from the best of these, down to steps of 1m | no gain |
| false_min_acceptable | `min-acceptable-cpu` of 0.5 to 2 needs | no effect |
| split_2 ... split_5 | several pods; need, request, weight split evenly or at random | no gain |
| collusion | two pods deviate together, neither may lose | no gain while floors fit |
| claim_critical_bounded | critical, where `max-priority` is the own class | no effect |
| claim_critical | the same without a bound | nothing: weight is power |
| inflate_request | request, hence floor and weight, times 1.25 to 3 | nothing: it is paid for |
| split_below_least | pods of less than 10m, each of which counts 10m | nothing |
| collusion_with_payments | two pods, whose sum counts | nothing: a share can be sold |

Two have no effect by construction, and their 0 of N tells nothing about MBCAS: its clearing reads
no acceptable share (that attack is there for `refusal_floor`), and a bounded claim is the own
class. That the server bounds claims is for its tests to show.

The last four are the admission's business: what a pod may claim, ask for and how many there may be
is bounded by quota, not by the market. They are measured so that the bound's worth is known.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_core.market.clearing import Bids
from mbcas_core.parameters import Parameters
from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.mechanism.one_shot import Gains, Game

UNDER_FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
OVER_FACTORS = (1.01, 1.05, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0)
JOINT_FACTORS = (0.5, 0.8, 0.95, 1.0, 1.05, 1.25, 2.0)
ACCEPTABLE_FACTORS = (0.5, 0.75, 1.0, 2.0)
INFLATIONS = (1.25, 1.5, 2.0, 3.0)
SPLITS = (2, 3, 4, 5)
CLAIM_FACTORS = (1.0, 1.5)
"""What the parts of a split pod ask for in all, in needs."""
SEARCH_SWEEPS = 2
CRITICAL_FACTOR = Parameters().priority_factor[PriorityClass.CRITICAL]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One way to deviate."""

    name: str
    run: Callable[[Game], Gains]
    claimed: bool
    """Whether MBCAS claims that it never pays."""
    floors_must_fit: bool = False
    """Whether it claims so only where all floors fit."""


def list_attacks() -> tuple[Attack, ...]:
    """Returns every attack, in the order of tables."""
    return (
        Attack(name="under_report", run=_under_report, claimed=True),
        Attack(name="over_report", run=_over_report, claimed=True),
        Attack(name="local_search", run=_search_locally, claimed=True),
        Attack(name="false_min_acceptable", run=_refuse, claimed=True),
        *(Attack(name=f"split_{parts}", run=_Split(parts), claimed=True) for parts in SPLITS),
        Attack(name="collusion", run=_collude, claimed=True, floors_must_fit=True),
        Attack(name="claim_critical_bounded", run=_claim_critical_bounded, claimed=True),
        Attack(name="claim_critical", run=_claim_critical, claimed=False),
        Attack(name="inflate_request", run=_inflate, claimed=False),
        Attack(name="split_below_least", run=_split_below_least, claimed=False),
        Attack(name="collusion_with_payments", run=_collude_with_payments, claimed=False),
    )


def _report_factors(game: Game, factors: tuple[float, ...]) -> tuple[FloatArray, IntArray]:
    """Returns the best gain over these factors and the need that brought it."""
    tries = [np.rint(game.attacker.need * factor).astype(np.int64) for factor in factors]
    gains = np.stack([game.report(needs) for needs in tries])
    best = gains.argmax(axis=0)
    needs: IntArray = np.stack(tries)[best, game.market_index]
    return gains[best, game.market_index], needs


def _under_report(game: Game) -> Gains:
    return game.gains(_report_factors(game, UNDER_FACTORS)[0])


def _over_report(game: Game) -> Gains:
    return game.gains(_report_factors(game, OVER_FACTORS)[0])


def _search_locally(game: Game) -> Gains:
    """Climbs from truth and from the best of the grid, market by market at once."""
    need = game.attacker.need
    grid_gain, grid_need = _report_factors(game, UNDER_FACTORS + OVER_FACTORS)
    from_grid = _climb(game, grid_need, grid_gain)
    from_truth = _climb(game, need, np.zeros(need.size))
    return game.gains(np.maximum(from_grid, from_truth))


def _climb(game: Game, start: IntArray, start_gain: FloatArray) -> FloatArray:
    """Returns the gain at the top of the hill that each start stands on, as far as steps reach."""
    need, gain = start, start_gain
    quantum = np.full_like(need, game.quantum_millicores)
    steps = (
        game.attacker.need // 10 + 1,
        game.attacker.need // 100 + 1,
        quantum,
        np.maximum(quantum // 3, 1),
        np.ones_like(need),
    )
    for _ in range(SEARCH_SWEEPS):
        for step, sign in product(steps, (1, -1)):
            tried = np.maximum(need + sign * step, 0)
            tried_gain = game.report(tried)
            better = tried_gain > gain
            need, gain = np.where(better, tried, need), np.where(better, tried_gain, gain)
    return gain


def _refuse(game: Game) -> Gains:
    """Declares shares unacceptable, truthful otherwise, for as long as the rule takes to settle."""
    rows, bids = game.attacker.rows, game.markets.bids
    best: FloatArray = np.full(rows.size, -np.inf)
    for factor in ACCEPTABLE_FACTORS:
        acceptable = game.facts.acceptable_millicores.copy()
        acceptable[rows] = np.rint(game.attacker.need * factor)
        facts = replace(game.facts, acceptable_millicores=acceptable)
        allocation, payment = game.play_long(bids, facts, calm=bids)
        best = np.maximum(best, game.attacker.gain(allocation[rows], payment[rows]))
    return game.gains(best)


def _joint_reports(game: Game) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yields what both gain, for each pair of factors."""
    first, second, bids = game.attacker, game.accomplice, game.markets.bids
    for factor, other in product(JOINT_FACTORS, JOINT_FACTORS):
        if factor == other == 1.0:
            continue
        need = bids.need_millicores.copy()
        need[first.rows] = np.rint(first.need * factor)
        need[second.rows] = np.rint(second.need * other)
        allocation, payment = game.play(replace(bids, need_millicores=need))
        yield (
            first.gain(allocation[first.rows], payment[first.rows]),
            second.gain(allocation[second.rows], payment[second.rows]),
        )


def _collude(game: Game) -> Gains:
    """Keeps, where neither loses, what the one gains whose gain stands out most from rounding."""
    players, quantum = (game.attacker, game.accomplice), game.quantum_millicores
    allowances = [player.allowance(1, quantum) for player in players]
    kept: FloatArray = np.zeros(game.market_index.size)
    kept_excess: FloatArray = np.full(kept.size, -np.inf)
    keeper: IntArray = np.zeros(kept.size, dtype=np.int64)
    for gains in _joint_reports(game):
        harmless = np.ones(kept.size, dtype=np.bool_)
        for player, gain in zip(players, gains, strict=True):
            harmless &= gain >= -player.smallest_gain
        for index, (gain, allowance) in enumerate(zip(gains, allowances, strict=True)):
            better = harmless & (gain - allowance > kept_excess)
            kept_excess = np.where(better, gain - allowance, kept_excess)
            kept, keeper = np.where(better, gain, kept), np.where(better, index, keeper)
    values = [player.value for player in players]
    quantum_values = [player.quantum_value(quantum) for player in players]
    return Gains(
        gain=kept,
        allowance=np.stack(allowances)[keeper, game.market_index],
        value=np.stack(values)[keeper, game.market_index],
        quantum_value=np.stack(quantum_values)[keeper, game.market_index],
        applies=np.ones(kept.size, dtype=np.bool_),
    )


def _collude_with_payments(game: Game) -> Gains:
    """Keeps the best sum of both gains: one pays the other for what it loses."""
    best: FloatArray = np.full(game.market_index.size, -np.inf)
    for first, second in _joint_reports(game):
        best = np.maximum(best, first + second)
    pair, quantum = (game.attacker, game.accomplice), game.quantum_millicores
    return Gains(
        gain=best,
        allowance=pair[0].allowance(1, quantum) + pair[1].allowance(1, quantum),
        value=pair[0].value + pair[1].value,
        quantum_value=np.maximum(*(player.quantum_value(quantum) for player in pair)),
        applies=np.ones(best.size, dtype=np.bool_),
    )


def _claim_critical(game: Game) -> Gains:
    own = game.markets.priority_factor[game.attacker.rows]
    return _claim(game, np.full(own.size, CRITICAL_FACTOR), applies=own < CRITICAL_FACTOR)


def _claim_critical_bounded(game: Game) -> Gains:
    """Claims critical in a namespace whose `max-priority` is the pod's own class."""
    own = game.markets.priority_factor[game.attacker.rows]
    claimed = np.full(own.size, CRITICAL_FACTOR)
    return _claim(game, np.minimum(claimed, own), applies=own < CRITICAL_FACTOR)


def _claim(game: Game, factor: FloatArray, *, applies: BoolArray) -> Gains:
    rows, bids = game.attacker.rows, game.markets.bids
    weight = bids.weight.copy()
    weight[rows] *= factor / game.markets.priority_factor[rows]
    allocation, payment = game.play(replace(bids, weight=weight))
    return game.gains(game.attacker.gain(allocation[rows], payment[rows]), applies=applies)


def _inflate(game: Game) -> Gains:
    """Asks for more at admission, where request is floor and weight; the need stays true."""
    rows, markets = game.attacker.rows, game.markets
    admitted = np.maximum(markets.bids.floor_millicores[rows], int(markets.least_weight))
    tries = [np.ceil(admitted * factor).astype(np.int64) for factor in INFLATIONS]
    gains = []
    for request in tries:
        floor, weight = markets.bids.floor_millicores.copy(), markets.bids.weight.copy()
        floor[rows] = request
        weight[rows] = request * markets.priority_factor[rows]
        bids = replace(markets.bids, floor_millicores=floor, weight=weight)
        allocation, payment = game.play(bids)
        gains.append(game.attacker.gain(allocation[rows], payment[rows]))
    best = np.stack(gains).argmax(axis=0)
    request = np.stack(tries)[best, game.market_index]
    return replace(
        game.gains(np.stack(gains)[best, game.market_index]),
        inflated_millicores=request - markets.bids.floor_millicores[rows],
    )


class _Split:
    """Runs several pods instead of one: evenly, with requests at random, with both at random."""

    def __init__(self, parts: int) -> None:
        self._parts = parts

    def __call__(self, game: Game) -> Gains:
        generator = np.random.default_rng(self._parts)
        size = (game.market_index.size, self._parts)
        even: FloatArray = np.full(size, 1.0 / self._parts)
        random = _draw_shares(generator, size)
        other = _draw_shares(generator, size)
        best: FloatArray = np.full(size[0], -np.inf)
        for claim in CLAIM_FACTORS:
            for of_need, of_request in ((even, even), (even, random), (random, other)):
                best = np.maximum(best, _play_split(game, claim * of_need, of_request))
        return game.gains(best, rows=self._parts)


def _draw_shares(generator: np.random.Generator, size: tuple[int, int]) -> FloatArray:
    raw = generator.exponential(1.0, size) + 0.01
    shares: FloatArray = raw / raw.sum(axis=1, keepdims=True)
    return shares


def _split_below_least(game: Game) -> Gains:
    """Splits a pod so finely that the least weight of each part is more than its request's."""
    parts = SPLITS[-1]
    even: FloatArray = np.full((game.market_index.size, parts), 1.0 / parts)
    rows, markets = game.attacker.rows, game.markets
    least = markets.least_weight
    floor = markets.bids.floor_millicores[rows]
    part_weight = np.maximum(floor / parts, least) * markets.priority_factor[rows]
    gain = _play_split(game, even, even, part_weight=part_weight)
    return game.gains(gain, rows=parts, applies=floor < least * parts)


def _play_split(
    game: Game,
    of_need: FloatArray,
    of_request: FloatArray,
    *,
    part_weight: FloatArray | None = None,
) -> FloatArray:
    """Returns what attackers gain as several pods with these shares, shape (m, parts) each.

    Weights are split as requests are, or are `part_weight` each, shape (m,).
    """
    bids, parts = game.markets.bids, of_need.shape[1]
    rows = game.attacker.rows
    count = np.ones(bids.market.size, dtype=np.int64)
    count[rows] = parts
    source = np.repeat(np.arange(bids.market.size), count)
    placed: IntArray = (np.cumsum(count) - count)[rows][:, None] + np.arange(parts)

    def split(values: IntArray, shares: FloatArray) -> IntArray:
        whole = values[source]
        ends = np.rint(np.cumsum(shares, axis=1) * values[rows][:, None]).astype(np.int64)
        whole[placed] = np.diff(ends, axis=1, prepend=0)
        return whole

    weight = bids.weight[source]
    if part_weight is None:
        weight[placed] = bids.weight[rows][:, None] * of_request
    else:
        weight[placed] = part_weight[:, None]
    floor = split(bids.floor_millicores, of_request)
    true_shares = of_need / of_need.sum(axis=1, keepdims=True)
    calm = Bids(
        market=bids.market[source],
        need_millicores=split(bids.need_millicores, true_shares),
        floor_millicores=floor,
        weight=weight,
    )
    claimed = replace(calm, need_millicores=split(bids.need_millicores, of_need))
    allocation, payment = game.play_long(
        claimed, game.facts_of_copies(source, calm.need_millicores), calm=calm
    )
    return game.attacker.gain(allocation[placed].sum(axis=1), payment[placed].sum(axis=1))
