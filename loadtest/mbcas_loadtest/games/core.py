"""A game on the real core: an attacker's pods among others, on nodes that MBCAS runs.

    payoff = c_t x useful - c_w x max(0, max(reserved, used) - useful)        summed over seconds

*Useful* is demand served within a second of its arrival, *reserved* the request in force: what the
owner holds and others could have had. Burned CPU is charged like reserved CPU that idles. c_t / c_w
is 19, the price ratio at which 5 % throttling is right. For example a pod with a request of 300m
that is served 200m of useful work in a second and burns 50m has 19 x 200 - 100 = 3700; with a
request of 220m it would have 19 x 200 - 50 = 3750.

On the core nobody is asked for a need: what a pod says is what its containers use, and what was
declared at admission.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from mbcas_core.events import ContainerFacts, CpuResources, Mode, Policy, PriorityClass
from mbcas_core.parameters import Parameters
from mbcas_core.units import FloatArray, IntArray
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
from mbcas_loadtest.games.loads import VARIATIONS, draw_slices
from mbcas_loadtest.games.nodes import Nodes
from mbcas_loadtest.games.outcome import THROTTLED_COST, WASTE_COST, Outcome, Tally

UNBOUND_ORDERS_PER_SECOND = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreGame:
    """What is played; `games` of them, drawn from the seed."""

    seed: int
    games: int
    rounds: int = 200
    policy: Policy = Policy.REQUESTS_AND_LIMITS
    parameters: Parameters = field(default_factory=Parameters)
    max_priority: PriorityClass = PriorityClass.NORMAL
    """The highest class that a pod's namespace lets it claim."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Nature:
    """The games as they are drawn."""

    drawn: Draw
    variation: FloatArray
    """(g, p) of the 100 ms slices."""
    slices: np.random.Generator


def play(
    game: CoreGame, attacker: Attacker, tell_round: Callable[[int], None] | None = None
) -> Outcome:
    """Plays every game once; `tell_round` is called with the number of each round that begins."""
    nature = _draw(game)
    drawn = nature.drawn
    supply = ALLOCATABLE_MILLICORES - find_reserve(game.parameters)
    said = attacker.admit(admit_honestly(drawn, attacker.pods, supply))
    slots = Slots(attacker.pods, said.replicas)
    nodes = Nodes(_set_up(game), _tell(game, drawn, said, slots), seed=game.seed)
    tally = Tally(_find_fair_shares(game, drawn, supply))
    throttled: FloatArray = np.zeros(nodes.limit_millicores.shape)
    own = slots.own
    admitted = slots.add_up(nodes.request_millicores.astype(np.float64))
    for second in range(game.rounds * ROUND_SECONDS):
        if tell_round is not None and second % ROUND_SECONDS == 0:
            tell_round(second // ROUND_SECONDS)
        demand = drawn.demand_millicores[second : second + ROUND_SECONDS]
        use = attacker.use(
            _look(
                nodes,
                second,
                demand=slots.spread(demand[0])[:, own],
                coming=slots.spread(demand.max(axis=0))[:, own],
                throttled=throttled[:, own],
            )
        )
        work = slots.spread(draw_slices(nature.slices, demand[0], nature.variation))
        asked = slots.add_up(work.mean(axis=0))
        work[:, :, own] *= 1.0 - use.withheld_ratio
        burned = np.zeros_like(throttled)
        burned[:, own] = use.burn_millicores
        reserved = nodes.request_millicores.astype(np.float64)
        served = nodes.second(work, burned)
        throttled = served.throttled_ratio
        useful = served.useful_millicores
        waste = np.maximum(np.maximum(reserved, served.used_millicores) - useful, 0.0)
        useful_of_pod = slots.add_up(useful)
        tally.add(
            payoff=slots.add_up(THROTTLED_COST * useful - WASTE_COST * waste),
            demand=asked,
            useful=useful_of_pod,
            held=slots.add_up(reserved),
            admitted=admitted,
            want=asked,
            has=useful_of_pod,
        )
    return tally.outcome(sum(nodes.violations.values()))


def _draw(game: CoreGame) -> _Nature:
    generator = np.random.default_rng(game.seed)
    drawn = draw_games(
        generator,
        game.games,
        game.rounds * ROUND_SECONDS,
        step_seconds=1.0,
        guaranteed=game.policy == Policy.HARD_QUOTA,
    )
    variation = generator.choice(VARIATIONS, drawn.request_millicores.shape)
    return _Nature(drawn=drawn, variation=variation, slices=generator)


def _set_up(game: CoreGame) -> Parameters:
    """Games share a core and nothing else, so the budget of the cluster must not bind."""
    return replace(
        game.parameters,
        mode=Mode.AUTO,
        policy=game.policy,
        resize_budget_per_second=UNBOUND_ORDERS_PER_SECOND,
    )


def _find_fair_shares(game: CoreGame, drawn: Draw, supply: int) -> FloatArray:
    """Where the policy leaves requests as they are, the request is all that is promised."""
    if game.policy == Policy.LIMITS_ONLY:
        return drawn.request_millicores.astype(np.float64)
    return find_fair_shares(drawn, supply)


def _tell(game: CoreGame, drawn: Draw, said: Admission, slots: Slots) -> list[list[ContainerFacts]]:
    """Returns the inventory of every node."""
    request = slots.place(said.request_millicores, drawn.request_millicores)
    limit = slots.place(said.limit_millicores, drawn.limit_millicores)
    declared = _Declared(
        priority=bound_priority(said.priority_class, game.max_priority),
        least=_split(said.min_millicores, slots),
        acceptable=_split(said.min_acceptable_millicores, slots),
    )
    return [
        [
            _fact(
                one,
                slot,
                declared if slot < slots.own.stop else HONEST,
                request=int(request[one, slot]),
                limit=int(limit[one, slot]),
            )
            for slot in range(slots.pod.size)
        ]
        for one in range(game.games)
    ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Declared:
    """What annotations say; amounts (g, k)."""

    priority: PriorityClass = PriorityClass.NORMAL
    least: IntArray | None = None
    acceptable: IntArray | None = None


HONEST = _Declared()


def _split(amount: IntArray | None, slots: Slots) -> IntArray | None:
    return None if amount is None else slots.place_own(amount)


def _fact(game: int, slot: int, declared: _Declared, *, request: int, limit: int) -> ContainerFacts:
    resources = CpuResources(request_millicores=request, limit_millicores=limit)
    least, acceptable = declared.least, declared.acceptable
    return ContainerFacts(
        handle=slot + 1,
        pod_uid=f"uid-{game}-{slot}",
        namespace="games",
        pod=f"pod-{game}-{slot}",
        container=str(slot),
        container_id=f"run-{slot}",
        spec=resources,
        allocated=resources,
        actual=resources,
        admitted=resources,
        priority_class=declared.priority,
        min_millicores=None if least is None else int(least[game, slot]),
        min_acceptable_millicores=None if acceptable is None else int(acceptable[game, slot]),
    )


def _look(
    nodes: Nodes, second: int, *, demand: FloatArray, coming: FloatArray, throttled: FloatArray
) -> Seen:
    market, games = nodes.rounds.state.market, len(nodes.names)
    return Seen(
        second=second,
        round=second // ROUND_SECONDS,
        demand_millicores=demand,
        coming_millicores=coming,
        need_millicores=demand,
        allocation_millicores=nodes.limit_millicores[:, : demand.shape[1]].astype(np.float64),
        throttled_ratio=throttled,
        shortage=market.shortage[:games].max(axis=1),
        shadow_price_normalized=market.shadow_price_normalized[:games].max(axis=1),
    )
