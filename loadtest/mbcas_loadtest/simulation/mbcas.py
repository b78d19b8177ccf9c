"""MBCAS as entries of the catalog: which parameters and which policy, and who shares.

The knob is tau of class normal; critical aims at a fifth of it, low at twice, as in the defaults.
Entries that end in the name of another rule run the same core with that rule in the one place where
pods share reservations (`Rounds(share=...)`); whatever audits find there is a finding about it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mbcas_core.events import Mode, Policy, PriorityClass
from mbcas_core.market.clearing import Bids, Clearing
from mbcas_core.parameters import Parameters
from mbcas_core.presets import PRESETS, Preset
from mbcas_core.state import PodShare
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism.rules.karma import FIRST_CREDITS, Karma
from mbcas_loadtest.mechanism.rules.kelly import Kelly
from mbcas_loadtest.mechanism.rules.rule import Rule
from mbcas_loadtest.mechanism.rules.vcg import Vcg
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared

CRITICAL_TAUS, LOW_TAUS = 0.2, 2.0
TAU_MIN, TAU_MAX = 0.001, 0.5
TAU_SWEEP = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)


@dataclass(slots=True, kw_only=True)  # A system's attributes may be set, by their protocol.
class CoreSystem:
    """What the catalog makes of MBCAS; the simulation makes a `core_shell.CoreShell` of it."""

    parameters: Parameters
    share: PodShare | None
    interval_periods: int = PERIODS_PER_SECOND
    actuation: Actuation = Actuation.API

    def step(self, seen: Seen) -> Settings | None:
        """Is not how the core is asked."""
        raise AssertionError("the core is told by reports and answers with orders")


class Stateless:
    """A rule without memory among pods."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def __call__(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int, pods: IntArray
    ) -> Clearing:
        del pods
        return self._rule.clear(bids, capacity_millicores, quantum_millicores=quantum_millicores)


class KarmaOfPods:
    """Karma among pods: each keeps its credits while other nodes are cleared."""

    def __init__(self) -> None:
        self._karma = Karma()
        self._credits: FloatArray = np.zeros(0)

    def __call__(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int, pods: IntArray
    ) -> Clearing:
        missing = int(pods.max(initial=-1)) + 1 - self._credits.size
        if missing > 0:
            new: FloatArray = np.full(missing, FIRST_CREDITS)
            self._credits = np.concatenate([self._credits, new])
        self._karma.credits = self._credits[pods]
        cleared = self._karma.clear(
            bids, capacity_millicores, quantum_millicores=quantum_millicores
        )
        self._credits[pods] = self._karma.credits
        return cleared


def _no_other() -> PodShare | None:
    return None


def _make(
    declared: Declared,
    tau_ratio: float,
    *,
    parameters: Parameters,
    share: Callable[[], PodShare | None] = _no_other,
) -> CoreSystem:
    del declared  # The core learns of pods from shims.
    tau = {
        PriorityClass.CRITICAL: tau_ratio * CRITICAL_TAUS,
        PriorityClass.NORMAL: tau_ratio,
        PriorityClass.LOW: tau_ratio * LOW_TAUS,
    }
    bounded = {key: min(max(each, TAU_MIN), TAU_MAX) for key, each in tau.items()}
    return CoreSystem(parameters=replace(parameters, tau=bounded), share=share())


def _entry(
    name: str,
    parameters: Parameters,
    source: str,
    *,
    goods: int = 1,
    share: Callable[[], PodShare | None] = _no_other,
) -> Rival:
    return Rival(
        name=name,
        make=partial(_make, parameters=parameters, share=share),
        knob="tau, the share of throttled time aimed at",
        default=0.05,
        sweep=TAU_SWEEP,
        source=source,
        goods=goods,
    )


_HARD = Parameters(mode=Mode.AUTO, policy=Policy.HARD_QUOTA)
_TWO_GOODS = Parameters(mode=Mode.AUTO, policy=Policy.REQUESTS_AND_LIMITS)
_PLAN = replace(PRESETS[Preset.PLAN], mode=Mode.AUTO, policy=Policy.HARD_QUOTA)

MBCAS = _entry("mbcas", _HARD, "mbcas_core, defaults, policy hard-quota")
BURST = _entry(
    "mbcas-burst", replace(_HARD, burst_credit=True), "mbcas_core, hard-quota, burst credit on"
)
TWO_GOODS = _entry("mbcas-two-goods", _TWO_GOODS, "mbcas_core, policy requests-and-limits", goods=2)
TWO_GOODS_BURST = _entry(
    "mbcas-two-goods-burst",
    replace(_TWO_GOODS, burst_credit=True),
    "mbcas_core, policy requests-and-limits, burst credit on",
    goods=2,
)
RECLAIM = _entry(
    "mbcas-reclaim",
    replace(_HARD, reclaim_max_fraction=1.0),
    "mbcas_core, hard-quota, all that idles below requests may be reclaimed",
)
PLAN = _entry("mbcas-plan", _PLAN, "mbcas_core/presets.py, preset plan, policy hard-quota")
KELLY = _entry(
    "mbcas-kelly",
    _HARD,
    "mbcas_core, hard-quota; mechanism/rules/kelly.py shares: Kelly 1997",
    share=lambda: Stateless(Kelly()),
)
VCG = _entry(
    "mbcas-vcg",
    _HARD,
    "mbcas_core, hard-quota; mechanism/rules/vcg.py shares: Vickrey 1961, Clarke 1971, Groves 1973",
    share=lambda: Stateless(Vcg()),
)
KARMA = _entry(
    "mbcas-karma",
    _HARD,
    "mbcas_core, hard-quota; mechanism/rules/karma.py shares: Vuppalapati et al., OSDI 2023",
    share=KarmaOfPods,
)
ENTRIES = (MBCAS, BURST, TWO_GOODS, TWO_GOODS_BURST, RECLAIM, PLAN, KELLY, VCG, KARMA)
