"""What ran, arranged for reading: by scenario and system, all values of its knob side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mbcas_core.units import FloatArray
from mbcas_loadtest.evaluation import frontier
from mbcas_loadtest.evaluation.figures import Figures
from mbcas_loadtest.evaluation.jobs import DEFAULT_CLUSTER_NODES, Job
from mbcas_loadtest.evaluation.registration import Registration
from mbcas_loadtest.simulation.system import Rival

ORACLE_EXCESS_MAX = 0.01
"""Share of periods by which an oracle may miss its tau and still count as a bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the page needs to know of a scenario."""

    name: str
    tier: str
    title: str
    shows: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Sweep:
    """One system in one scenario at k values of its knob."""

    system: str
    knobs: tuple[float, ...]
    values: Mapping[str, FloatArray]
    """(k, m) of each quantity."""

    def mean(self, quantity: str) -> FloatArray:
        """Returns the mean over the seeds that have a value, (k,)."""
        return mean_of_finite(self.values[quantity])

    def at(self, knob: float) -> Mapping[str, FloatArray] | None:
        """Returns all quantities (m,) at this value of the knob, None where it did not run."""
        if knob not in self.knobs:
            return None
        index = self.knobs.index(knob)
        return {name: values[index] for name, values in self.values.items()}

    def matched(self, quantity: str, *, share: float) -> FloatArray:
        """Returns a quantity at a throttled share, (m,): each seed on its own frontier."""
        throttled, waste = self.values["throttled"], self.values["waste"]
        found = np.full(throttled.shape[1], np.nan)
        for seed in range(throttled.shape[1]):
            mix = frontier.reach(throttled[:, seed], waste[:, seed], share=share)
            if mix is not None:
                found[seed] = frontier.at(mix, self.values[quantity][:, seed])
        return found

    def is_matched_at_end(self, *, share: float) -> bool:
        """Whether the least waste at a throttled share is that of the last knob that ran.

        Then a knob beyond it, which throttles more, might waste less.
        """
        mix = frontier.reach(self.mean("throttled"), self.mean("waste"), share=share)
        return mix is not None and mix.left == mix.right and _is_end(self.knobs, mix.left)

    def matched_mean(self, quantity: str, *, share: float) -> float:
        """Returns a quantity at a throttled share, on the frontier of the means."""
        mix = frontier.reach(self.mean("throttled"), self.mean("waste"), share=share)
        return np.nan if mix is None else frontier.at(mix, self.mean(quantity))


class Board:
    """All runs of an evaluation."""

    def __init__(
        self,
        *,
        registration: Registration,
        entries: Sequence[Entry],
        rivals: Mapping[str, Rival],
        runs: Mapping[Job, Figures],
    ) -> None:
        self.registration = registration
        self.rivals = rivals
        self._sweeps = _arrange(runs)
        ran = {scenario for scenario, _, _ in self._sweeps}
        self.entries = tuple(entry for entry in entries if entry.name in ran)

    @property
    def system(self) -> str:
        """Name of the system that the page is about."""
        return self.registration.system

    def tiers(self) -> list[str]:
        """Lists the tiers of which something ran, in the order of the catalog."""
        return list(dict.fromkeys(entry.tier for entry in self.entries))

    def systems(self, scenario: str, *, nodes: int = DEFAULT_CLUSTER_NODES) -> list[str]:
        """Lists who ran, in the order of the catalog."""
        found = {system for name, system, at in self._sweeps if (name, at) == (scenario, nodes)}
        return [name for name in self.rivals if name in found]

    def sweep(
        self, scenario: str, system: str, *, nodes: int = DEFAULT_CLUSTER_NODES
    ) -> Sweep | None:
        """Returns a system's runs in a scenario, None where there are none."""
        return self._sweeps.get((scenario, system, nodes))

    def knob(self, system: str, tier: str) -> float:
        """Returns the best value of a knob on the tuning seeds, or its default."""
        points = self.registration.operating_points.get(system, {})
        return points.get(tier, self.rivals[system].default)

    def is_at_end(self, system: str, tier: str) -> bool:
        """Whether that value lies at an end of the sweep: a better one may lie beyond it."""
        swept = {*self.rivals[system].sweep, *self.registration.sweeps.get(system, ())}
        knob = self.knob(system, tier)
        return len(swept) > 1 and not min(swept) < knob < max(swept)

    def operated(
        self, scenario: Entry, system: str, *, nodes: int = DEFAULT_CLUSTER_NODES
    ) -> Mapping[str, FloatArray] | None:
        """Returns the figures (m,) of a system at its best knob."""
        found = self.sweep(scenario.name, system, nodes=nodes)
        return None if found is None else found.at(self.knob(system, scenario.tier))

    def ran(self) -> dict[tuple[str, str], tuple[float, ...]]:
        """Returns the values of the knob that ran, of each (scenario, system)."""
        return {
            (scenario, system): sweep.knobs
            for (scenario, system, nodes), sweep in self._sweeps.items()
            if nodes == DEFAULT_CLUSTER_NODES
        }

    def oracle_excess(self, scenario: str) -> float:
        """Returns by how much the oracle throttles more than its tau at its default; NaN: unknown.

        By more than a little, it is no bound: it does not know the plant that it lives in.
        """
        oracle = self.registration.oracle
        sweep, tau = self.sweep(scenario, oracle), self.rivals[oracle].default
        found = None if sweep is None else sweep.at(tau)
        return np.nan if found is None else float(found["throttled"].mean()) - tau


def best_knob(board: Board, system: str, tier: str) -> float | None:
    """Returns the knob with the least waste at no more than the matched throttling in a tier.

    Means over seeds and over the tier's scenarios in which there is CPU enough; only values that
    ran in all of them. Where every value throttles more, the one that throttles least.
    """
    short = board.registration.short_of_cpu
    names = [one.name for one in board.entries if one.tier == tier and one.name not in short]
    sweeps = [board.sweep(name, system) for name in names]
    whole = [sweep for sweep in sweeps if sweep is not None]
    if not whole or len(whole) != len(sweeps):
        return None
    knobs = sorted(set.intersection(*(set(sweep.knobs) for sweep in whole)))
    if not knobs:
        return None
    throttled, waste = (
        mean_of_finite(
            np.array(
                [[sweep.mean(name)[sweep.knobs.index(knob)] for sweep in whole] for knob in knobs]
            )
        )
        for name in ("throttled", "waste")
    )
    within = throttled <= board.registration.matched_throttled_ratio
    chosen = np.where(within, waste, np.inf) if within.any() else throttled
    return knobs[int(np.argmin(chosen))]


def mean_of_finite(values: FloatArray) -> FloatArray:
    """Returns the mean along the last axis over what is finite, NaN where nothing is."""
    there = np.isfinite(values)
    total, count = np.where(there, values, 0.0).sum(axis=-1), there.sum(axis=-1)
    result: FloatArray = np.full(np.shape(total), np.nan)
    np.divide(total, count, out=result, where=count > 0)
    return result


def _is_end(knobs: Sequence[float], index: int) -> bool:
    return index in {0, len(knobs) - 1}


def _arrange(runs: Mapping[Job, Figures]) -> dict[tuple[str, str, int], Sweep]:
    groups: dict[tuple[str, str, int], dict[float, Figures]] = {}
    for job, found in runs.items():
        place = (job.scenario, job.system, job.cluster_nodes)
        groups.setdefault(place, {})[job.knob] = found
    sweeps = {}
    for place, by_knob in groups.items():
        knobs = tuple(sorted(by_knob))
        names = by_knob[knobs[0]]
        values = {name: np.stack([by_knob[knob][name] for knob in knobs]) for name in names}
        sweeps[place] = Sweep(system=place[1], knobs=knobs, values=values)
    return sweeps
