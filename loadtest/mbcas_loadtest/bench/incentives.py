"""Which one-shot attack pays under which rule: the incentive suite over random markets.

MBCAS is attacked in `markets` markets (collusion counts only where floors fit, claims of priority
only where the attacker is not critical), and again with all amounts a thousand times as large,
where rounding to a quantum hardly counts. The other rules serve as comparison, in fewer markets:
ALTERNATIVE_MARKETS at most, VALUE_MARKETS where values are sold part by part. All meet the same
markets, except that rules that know value functions meet bidders whose values they can express.

Reported per attack: in how many markets it pays more than rounding can give (see
`mechanism.one_shot`), the median and the largest gain there as shares of the useful value of truth,
the share of markets where it pays more than a hundredth, and the regret, which is the gain with
rounding's part left in and losses counted as 0. For an inflated request, the gain is also given in
millicores that are always useful per core of quota that it takes. `both_goods` tells by policy
where a lie about one good pays in the other: nowhere, it is claimed, but among strict containers
with two numbers (see `mechanism.both_goods`). Where nothing pays in N markets, the share in which
it would is at most 3 / N with 95 % confidence: (1 - 3 / N)^N is 5 %.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mbcas_core.events import Policy
from mbcas_core.parameters import Parameters
from mbcas_core.units import MILLICORES_PER_CORE, BoolArray, FloatArray
from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.mechanism.attacks import Attack, list_attacks
from mbcas_loadtest.mechanism.both_goods import draw_two_good_markets, lie_about_both_goods
from mbcas_loadtest.mechanism.one_shot import Gains, Game
from mbcas_loadtest.mechanism.one_shot_markets import draw_markets
from mbcas_loadtest.mechanism.rules.frozen import Frozen
from mbcas_loadtest.mechanism.rules.karma import Karma
from mbcas_loadtest.mechanism.rules.kelly import Kelly, KellyCharged
from mbcas_loadtest.mechanism.rules.kernel_weights import KernelWeights
from mbcas_loadtest.mechanism.rules.max_min import MaxMin
from mbcas_loadtest.mechanism.rules.mbcas import Mbcas
from mbcas_loadtest.mechanism.rules.refusal_floor import RefusalFloor
from mbcas_loadtest.mechanism.rules.rule import Rule
from mbcas_loadtest.mechanism.rules.two_pass import TwoPass
from mbcas_loadtest.mechanism.rules.vcg import Vcg

QUANTUM_MILLICORES = 10
FINE_SCALE = 1000
ALTERNATIVE_MARKETS = 10_000
VALUE_MARKETS = 2_000
MARKETS_AT_ONCE = 5_000
"""Bounds the memory; the figures do not depend on it but for the markets drawn."""
RULE_OF_THREE = 3.0
NOTEWORTHY_GAIN_RATIO = 0.01
PER_CORE = "median_gain_millicores_per_inflated_core"
TWO_GOOD_SETTINGS = {
    "limits-only": (Policy.LIMITS_ONLY, False),
    "hard-quota": (Policy.HARD_QUOTA, False),
    "requests-and-limits": (Policy.REQUESTS_AND_LIMITS, False),
    "requests-and-limits, strict": (Policy.REQUESTS_AND_LIMITS, True),
}
TWO_GOOD_MARKETS_AT_ONCE = 10_000
PER_CORE_P90 = "p90_gain_millicores_per_inflated_core"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One rule to be attacked."""

    rule: Rule
    scale: int = 1
    has_values: bool = False
    """Whether it knows value functions, which must then be piecewise linear."""

    @property
    def name(self) -> str:
        """The rule's name, and that its quantum is small where it is."""
        return self.rule.name if self.scale == 1 else f"{self.rule.name}_fine"

    def count_markets(self, asked: int) -> int:
        """Returns in how many markets it is attacked where so many are asked for."""
        if isinstance(self.rule, Mbcas):
            return asked
        return min(asked, VALUE_MARKETS if self.has_values else ALTERNATIVE_MARKETS)


def list_trials() -> tuple[Trial, ...]:
    """Returns MBCAS, MBCAS with a fine quantum, the plan's rules, and the alternatives."""
    return (
        Trial(rule=Mbcas()),
        Trial(rule=Mbcas(), scale=FINE_SCALE),
        Trial(rule=Frozen()),
        Trial(rule=Frozen(epochs_later=1)),
        Trial(rule=TwoPass()),
        Trial(rule=RefusalFloor()),
        Trial(rule=MaxMin()),
        Trial(rule=MaxMin(equal=True)),
        Trial(rule=Kelly()),
        Trial(rule=Kelly(capped=False)),
        Trial(rule=KellyCharged(), has_values=True),
        Trial(rule=Vcg(), has_values=True),
        Trial(rule=Karma()),
        Trial(rule=KernelWeights()),
        Trial(rule=KernelWeights(equal=True)),
    )


def bench_incentives(
    *,
    markets: int,
    seed: int,
    trials: Iterable[Trial] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Attacks every rule and tells a line each few thousand markets."""
    start = monotonic_seconds()
    rules = {}
    for trial in list_trials() if trials is None else trials:
        rules[trial.name] = _attack(trial, trial.count_markets(markets), seed, tell)
    goods = {
        name: _lie_about_both_goods(policy, strict, markets, seed)
        for name, (policy, strict) in TWO_GOOD_SETTINGS.items()
    }
    return {
        "schema": "mbcas.bench.incentives/1",
        "seed": seed,
        "quantum_millicores": QUANTUM_MILLICORES,
        "numpy": np.__version__,
        "claims_broken": [
            *list_broken_claims(rules),
            *(f"both goods: {name}" for name in goods if _is_broken(goods[name])),
        ],
        "seconds": round(monotonic_seconds() - start, 1),
        "rules": rules,
        "both_goods": goods,
    }


def _attack(trial: Trial, markets: int, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Runs every attack on one rule."""
    attacks = list_attacks()
    found: dict[str, list[_Found]] = {attack.name: [] for attack in attacks}
    bidders = 0
    for done in range(0, markets, MARKETS_AT_ONCE):
        drawn = draw_markets(
            np.random.default_rng((seed, done)),
            min(MARKETS_AT_ONCE, markets - done),
            scale=trial.scale,
            atoms_only=trial.has_values,
        )
        bidders += drawn.bids.market.size
        game = Game(trial.rule, drawn, quantum_millicores=QUANTUM_MILLICORES)
        floors_fit = drawn.floors_fit()
        for attack in attacks:
            found[attack.name].append(_Found.keep(attack, attack.run(game), floors_fit))
        tell(f"{trial.name}: {done + floors_fit.size:,} of {markets:,} markets attacked")
    return {
        "scale": trial.scale,
        "markets": markets,
        "bidders": bidders,
        "attacks": {
            attack.name: {"claimed": attack.claimed} | _summarize(found[attack.name])
            for attack in attacks
        },
    }


def _lie_about_both_goods(policy: Policy, strict: bool, markets: int, seed: int) -> dict[str, Any]:  # noqa: FBT001 - a setting.
    parts = []
    for done in range(0, markets, TWO_GOOD_MARKETS_AT_ONCE):
        drawn = draw_two_good_markets(
            np.random.default_rng((seed, done)),
            min(TWO_GOOD_MARKETS_AT_ONCE, markets - done),
            policy=policy,
            strict=strict,
        )
        gains = lie_about_both_goods(drawn, parameters=Parameters())
        parts.append(gains.gain_ratio[gains.pays])
    paying = np.concatenate(parts)
    return {
        "claimed": not (strict and policy == Policy.REQUESTS_AND_LIMITS),
        "markets": markets,
        "paying_markets": paying.size,
        "paying_ratio": paying.size / markets,
        "paying_ratio_upper_bound": None if paying.size else RULE_OF_THREE / markets,
        "gain_above_one_percent_ratio": float((paying > NOTEWORTHY_GAIN_RATIO).sum() / markets),
        "median_gain_ratio": float(np.median(paying)) if paying.size else None,
        "largest_gain_ratio": float(paying.max()) if paying.size else None,
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """What is kept of an attack on some markets, (k,) each, of those where it applies."""

    gain_ratio: FloatArray
    gain_quanta: FloatArray
    pays: BoolArray
    millicores_per_inflated_core: FloatArray

    @classmethod
    def keep(cls, attack: Attack, gains: Gains, floors_fit: BoolArray) -> "_Found":
        applies = gains.applies & (floors_fit | (not attack.floors_must_fit))
        quanta = gains.gain / gains.quantum_value
        per_core: FloatArray = np.zeros(0)
        if gains.inflated_millicores is not None:
            worth = quanta * QUANTUM_MILLICORES * MILLICORES_PER_CORE
            per_core = (worth / gains.inflated_millicores)[applies]
        return cls(
            gain_ratio=(gains.gain / gains.value)[applies],
            gain_quanta=quanta[applies],
            pays=gains.pays[applies],
            millicores_per_inflated_core=per_core,
        )


def _summarize(found: list[_Found]) -> dict[str, Any]:
    """Returns the figures of one attack under one rule."""
    gain = np.concatenate([each.gain_ratio for each in found])
    pays = np.concatenate([each.pays for each in found])
    quanta = np.concatenate([each.gain_quanta for each in found])
    per_core = np.concatenate([each.millicores_per_inflated_core for each in found])
    if not gain.size:
        return {"markets": 0}
    paying, regret = gain[pays], np.maximum(gain, 0.0)
    figures: dict[str, Any] = {
        "markets": gain.size,
        "paying_markets": int(pays.sum()),
        "paying_ratio": float(pays.mean()),
        "paying_ratio_upper_bound": None if paying.size else RULE_OF_THREE / gain.size,
        "gain_above_one_percent_ratio": float((paying > NOTEWORTHY_GAIN_RATIO).sum() / gain.size),
        "median_gain_ratio": float(np.median(paying)) if paying.size else None,
        "largest_gain_ratio": float(paying.max()) if paying.size else None,
        "regret_mean_ratio": float(regret.mean()),
        "regret_p99_ratio": float(np.percentile(regret, 99)),
        "regret_largest_ratio": float(regret.max()),
        "regret_largest_quanta": float(max(quanta.max(), 0.0)),
    }
    if per_core.size:
        figures[PER_CORE] = float(np.median(per_core))
        figures[PER_CORE_P90] = float(np.percentile(per_core, 90))
    return figures


def list_broken_claims(rules: dict[str, Any]) -> list[str]:
    """Returns the attacks that pay under MBCAS although it claims that they do not."""
    names = [trial.name for trial in list_trials() if isinstance(trial.rule, Mbcas)]
    return [
        f"{rule}: {attack}"
        for rule in names
        for attack, figures in rules.get(rule, {"attacks": {}})["attacks"].items()
        if _is_broken(figures)
    ]


def _is_broken(figures: dict[str, Any]) -> bool:
    return bool(figures["claimed"] and figures["markets"] and figures["paying_markets"])


def print_table(figures: dict[str, Any]) -> None:
    """Prints in how many markets each attack pays under each rule, and the gains there."""
    console = Console()
    for rule, outcome in figures["rules"].items():
        table = _table("attack", f"{rule}, {outcome['markets']:,} markets")
        for name, attack in outcome["attacks"].items():
            table.add_row(name + ("" if attack["claimed"] else " *"), *_cells(attack))
        console.print(table)
        inflated = outcome["attacks"]["inflate_request"]
        console.print(
            f"A core of inflated request brings {inflated[PER_CORE]:.0f}m of useful CPU in the"
            f" median, {inflated[PER_CORE_P90]:.0f}m in the best tenth of markets at least.\n"
        )
    goods = _table("policy", "mbcas, a lie about both goods")
    for name, outcome in figures["both_goods"].items():
        goods.add_row(name + ("" if outcome["claimed"] else " *"), *_cells(outcome))
    console.print(goods)
    console.print("* is not claimed; most of it is bounded at admission, by quota and max-priority")
    console.print("claims broken:", figures["claims_broken"] or "none")


def _table(of: str, title: str) -> Table:
    table = Table(title=title, box=None)
    table.add_column(of, no_wrap=True)
    for heading in ("markets", "pays in", "> 1 % in", "median", "largest"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cells(attack: dict[str, Any]) -> tuple[str, ...]:
    markets = f"{attack['markets']:,}"
    if not attack["markets"]:
        return (markets, "", "", "", "")
    if not attack["paying_markets"]:
        return (markets, f"0 (< {attack['paying_ratio_upper_bound']:.2g})", "", "", "")
    return (
        markets,
        f"{attack['paying_ratio']:.1%}",
        f"{attack['gain_above_one_percent_ratio']:.1%}",
        f"{attack['median_gain_ratio']:.1%}",
        f"{attack['largest_gain_ratio']:.0%}",
    )
