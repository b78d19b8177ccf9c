"""Repeated games: what each attack gains over truthful play, on needs and on the real core.

A *table* is one setting: a mechanism on needs, or a policy and a set of parameters on the core. It
has a row for each attack, and the best of them. Rows are of three kinds: a *lie* (any pod could do
it), *bought* (more was admitted, which counts against a quota), and *unbounded* (possible only
where `max-priority` bounds nothing, shown for comparison).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from mbcas_core.events import Policy, PriorityClass
from mbcas_core.parameters import Parameters, PriceResponse
from mbcas_core.presets import PRESETS, Preset
from mbcas_loadtest.games import core, needs
from mbcas_loadtest.games.attackers import Attacker, Truthful
from mbcas_loadtest.games.attacks import claim_critical, on_core, on_needs
from mbcas_loadtest.games.needs import Mechanism
from mbcas_loadtest.games.outcome import EXPLOITED_RATIO, Outcome, compare, find_gains, join
from mbcas_loadtest.mechanism.rules.frozen import Frozen
from mbcas_loadtest.mechanism.rules.karma import Karma
from mbcas_loadtest.mechanism.rules.kelly import Kelly
from mbcas_loadtest.mechanism.rules.kernel_weights import KernelWeights
from mbcas_loadtest.mechanism.rules.max_min import MaxMin
from mbcas_loadtest.mechanism.rules.two_pass import TwoPass
from mbcas_loadtest.mechanism.rules.vcg import Vcg

SCHEMA = "mbcas.bench.games/1"
DEFAULT = "default"
CREDIT_ENDOWMENT = 10_000
"""For each core: enough to hold another one for ten of 200 rounds."""
MOST_PODS = 2
"""Whom an attacker owns at most: truthful play is played once for all attacks."""
NEEDS, CORE = LEVELS = ("needs", "core")
DEFAULT_GAMES = {NEEDS: 200, CORE: 24}
CORE_BATCH, NEEDS_BATCH = 50, 500
"""Games that are played side by side: bounds the memory."""

MECHANISMS = (
    Mechanism(name=DEFAULT),
    Mechanism(name="frozen", rule=Frozen),
    Mechanism(name="two-pass", rule=TwoPass),
    Mechanism(name="refusal-floors", parameters=Parameters(refusal_floor_step=0.1)),
    Mechanism(name="plan", rule=TwoPass, parameters=PRESETS[Preset.PLAN]),
    Mechanism(
        name="credits",
        parameters=Parameters(credit_endowment_millicore_rounds=CREDIT_ENDOWMENT),
    ),
    Mechanism(name="max-min", rule=MaxMin),
    Mechanism(name="kelly", rule=Kelly),
    Mechanism(name="karma", rule=Karma),
    Mechanism(name="vcg", rule=Vcg),
    Mechanism(name="kernel-weights", rule=KernelWeights),
)
"""What is played on needs. `plan` lacks the weights by class here: nobody is classified."""
CORE_PARAMETERS: Mapping[str, Parameters] = {
    DEFAULT: PRESETS[Preset.DEFAULT],
    "frozen": Parameters(price_response=PriceResponse.FROZEN),
    "plan": PRESETS[Preset.PLAN],
}
CORE_POLICIES = {
    "requests-and-limits": Policy.REQUESTS_AND_LIMITS,
    "hard-quota": Policy.HARD_QUOTA,
    "limits-only": Policy.LIMITS_ONLY,
}
MAIN_POLICIES = ("requests-and-limits", "hard-quota")

Play = Callable[[Attacker, PriorityClass], Outcome]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is played."""

    games: int
    rounds: int
    seed: int


def bench_games(
    *,
    levels: Iterable[str] = LEVELS,
    games: int | None = None,
    rounds: int = 200,
    seed: int = 1000,
    settings: Iterable[str] = (DEFAULT,),
    policies: Iterable[str] = MAIN_POLICIES,
    tell: Tell,
) -> dict[str, Any]:
    """Plays these levels; `settings` and `policies` are those of the core.

    Args:
        levels: Of LEVELS.
        games: For each way of playing; None: DEFAULT_GAMES of the level.
        rounds: Of 15 s.
        seed: Seeds follow from it, one per batch of games.
        settings: Of CORE_PARAMETERS.
        policies: Of CORE_POLICIES.
        tell: Is told what is being played.
    """
    figures: dict[str, Any] = {
        "schema": SCHEMA,
        "rounds": rounds,
        "seed": seed,
        "numpy": np.__version__,
    }
    for level in levels:
        size = Size(games=games or DEFAULT_GAMES[level], rounds=rounds, seed=seed)
        tables = (
            _bench_needs(size, tell)
            if level == NEEDS
            else _bench_core(size, settings, policies, tell)
        )
        figures[level] = {"games": size.games, "tables": tables}
    return figures


def _bench_needs(size: Size, tell: Tell) -> dict[str, Any]:
    return {
        mechanism.name: _tabulate(
            _play_needs(size, mechanism),
            on_needs(),
            tell=partial(_tell_play, tell, f"needs, {mechanism.name}"),
        )
        for mechanism in MECHANISMS
    }


def _bench_core(
    size: Size, settings: Iterable[str], policies: Iterable[str], tell: Tell
) -> dict[str, Any]:
    return {
        f"{setting}, {policy}": _tabulate(
            _play_core(size, CORE_PARAMETERS[setting], CORE_POLICIES[policy]),
            on_core(),
            tell=partial(_tell_play, tell, f"core, {setting}, {policy}"),
        )
        for setting, policy in product(settings, policies)
    }


def _tell_play(tell: Tell, setting: str, attack: str) -> None:
    tell(f"{setting}: {attack}")


def _play_needs(size: Size, mechanism: Mechanism) -> Play:
    def play(attacker: Attacker, most: PriorityClass, seed: int, games: int) -> Outcome:
        game = needs.NeedsGame(
            seed=seed, games=games, rounds=size.rounds, mechanism=mechanism, max_priority=most
        )
        return needs.play(game, attacker)

    return _in_batches(size, NEEDS_BATCH, play)


def _play_core(size: Size, parameters: Parameters, policy: Policy) -> Play:
    def play(attacker: Attacker, most: PriorityClass, seed: int, games: int) -> Outcome:
        game = core.CoreGame(
            seed=seed,
            games=games,
            rounds=size.rounds,
            policy=policy,
            parameters=parameters,
            max_priority=most,
        )
        return core.play(game, attacker)

    return _in_batches(size, CORE_BATCH, play)


def _in_batches(
    size: Size, batch: int, play: Callable[[Attacker, PriorityClass, int, int], Outcome]
) -> Play:
    """Plays so many games at a time, each batch with a seed of its own."""

    def play_all(attacker: Attacker, most: PriorityClass) -> Outcome:
        return join(
            [
                play(attacker, most, size.seed + index, min(batch, size.games - index * batch))
                for index in range(-(-size.games // batch))
            ]
        )

    return play_all


def _tabulate(play: Play, attackers: list[Attacker], *, tell: Tell) -> dict[str, Any]:
    """Plays the truth and every attack."""
    tell("truthful")
    truthful = play(Truthful(MOST_PODS), PriorityClass.NORMAL)
    rows: dict[str, dict[str, Any]] = {}
    lies = []
    for attacker in attackers:
        tell(attacker.name)
        attacked = play(attacker, PriorityClass.NORMAL)
        row = compare(attacked, truthful, attacker.pods)
        rows[attacker.name] = row | {"kind": "bought" if row["admitted_factor"] > 1 else "lie"}
        if rows[attacker.name]["kind"] == "lie":
            lies.append(find_gains(attacked, truthful, attacker.pods))
    unbounded = claim_critical()
    tell(f"{unbounded.name}, unbounded")
    attacked = play(unbounded, PriorityClass.CRITICAL)
    rows[f"{unbounded.name}, unbounded"] = compare(attacked, truthful, 1) | {"kind": "unbounded"}
    best = max(
        (name for name, row in rows.items() if row["kind"] == "lie"),
        key=lambda name: float(rows[name]["gain_mean"]),
    )
    tell(f"the best lie, {best}, gains {100 * rows[best]['gain_mean']:.2f} %")
    return {
        "truthful": {
            "served_ratio": float(truthful.useful.sum() / truthful.demand.sum()),
            "missed_ratio": float(truthful.missed.sum() / truthful.owed.sum()),
            "violations": truthful.violations,
        },
        "best_lie": best,
        "best_lie_gain_mean": rows[best]["gain_mean"],
        "exploitable_ratio": float((np.stack(lies).max(axis=0) > EXPLOITED_RATIO).mean()),
        "attacks": rows,
    }


def format_tables(figures: Mapping[str, Any]) -> str:
    """Returns the tables as text."""
    lines = ["gains over truthful play in %; missed: what others lack of their fair share, in %"]
    for level in (level for level in LEVELS if level in figures):
        size = f"{figures[level]['games']} games of {figures['rounds']} rounds"
        for name, table in figures[level]["tables"].items():
            lines += ["", f"{level}, {name}: {size}, seed {figures['seed']}", _HEADER]
            lines += [_format_row(attack, row) for attack, row in table["attacks"].items()]
            lines.append(
                f"best lie: {table['best_lie']}, {100 * table['best_lie_gain_mean']:.2f} %; some "
                f"lie gains > 1 % in {100 * table['exploitable_ratio']:.1f} % of the games"
            )
    return "\n".join(lines)


_HEADER = (
    f"{'attack':34} {'kind':9} {'gain':>7} {'+-':>5} {'max':>6} {'>1%':>5} {'priced':>7} "
    f"{'held':>5} {'others':>7} {'missed':>13}"
)


def _format_row(name: str, row: Mapping[str, Any]) -> str:
    interval = row["gain_interval_95"]
    return (
        f"{name:34} {row['kind']:9} {100 * row['gain_mean']:7.2f} "
        f"{'' if interval is None else f'{100 * interval:.2f}':>5} {100 * row['gain_max']:6.1f} "
        f"{100 * row['exploited_ratio']:5.1f} {100 * row['gain_priced_mean']:7.2f} "
        f"{row['held_factor']:5.2f} {100 * row['others_payoff_change']:7.2f} "
        f"{100 * row['others_missed_truthful_ratio']:5.2f} -> "
        f"{100 * row['others_missed_ratio']:4.2f}"
    )
