"""Rules on usage alone: K8s-CPU, three sigma, Autopilot; each against loops over one container."""

import math
from itertools import product

import numpy as np
import pytest

from mbcas_core.units import FloatArray
from mbcas_loadtest.rivals.autopilot import (
    BUCKETS,
    COST_DECAY,
    DECAYS,
    HALF_LIFE_SECONDS,
    LIMIT_CHANGE_COST,
    MARGIN_BUCKETS,
    MODEL_CHANGE_COST,
    UPPER_ENDS_MILLICORES,
    WINDOW_SECONDS,
    AutopilotEnsemble,
    AutopilotWindow,
)
from mbcas_loadtest.rivals.k8s_cpu import K8sCpu
from mbcas_loadtest.rivals.three_sigma import ThreeSigma
from mbcas_loadtest.simulation.system import System
from tests.mbcas_loadtest.rivals.little_worlds import declare, see

SHAPE = (2, 3)
DECLARED = declare([300, 800, 2_000], nodes=2, batch=[False, False, True])


def draw_usage(seconds: int) -> FloatArray:
    """Returns mean millicores of every second, with levels that change."""
    generator = np.random.default_rng(11)
    level = np.repeat(generator.choice([50.0, 200.0, 900.0], (-(-seconds // 40), *SHAPE)), 40, 0)
    usage: FloatArray = level[:seconds] * generator.gamma(20.0, 1 / 20.0, (seconds, *SHAPE))
    return usage


def run(system: System, by_second: FloatArray) -> list[FloatArray]:
    """Returns the limits after each step."""
    step = system.interval_periods // 10
    limits = []
    for end in range(step, by_second.shape[0] + 1, step):
        usage = np.repeat(by_second[end - step : end], 10, axis=0)
        seen = see(end * 10, usage, np.zeros(usage.shape, np.bool_), np.ones(SHAPE))
        wanted = system.step(seen)
        assert wanted is not None
        limits.append(wanted.limit_millicores)
    return limits


@pytest.mark.parametrize("period", [1, 15])
def test_k8s_cpu_holds_the_highest_of_the_last_20_usages_at_its_target(period: int) -> None:
    usage = draw_usage(600)
    found = run(K8sCpu(DECLARED, target_ratio=0.5, period_seconds=period), usage)

    for place in np.ndindex(SHAPE):
        recent: list[float] = []
        for step, limits in enumerate(found):
            measured = usage[step * period : (step + 1) * period][:, place[0], place[1]].mean()
            recent = [*recent, measured / 0.5][-20:]
            assert limits[place] == pytest.approx(max(*recent, 10.0), abs=1)


def test_three_sigma_moves_where_mean_and_deviation_are_15_percent_off() -> None:
    usage = draw_usage(900)
    found = run(ThreeSigma(DECLARED, 3.0), usage)

    moves = 0
    for place in np.ndindex(SHAPE):
        limit = float(DECLARED.limit_millicores[place])
        for step, limits in enumerate(found):
            end = (step + 1) * 15
            window = usage[max(end - 300, 0) : end, place[0], place[1]]
            wanted = window.mean() + 3 * window.std()
            if abs(wanted - limit) > 0.15 * limit:
                limit, moves = math.ceil(wanted), moves + 1
            assert limits[place] == pytest.approx(limit, abs=1)
    assert moves > 10


def in_buckets(samples: FloatArray) -> list[int]:
    """Returns the buckets of single samples, searched one by one."""
    return [
        next(k for k in range(BUCKETS) if UPPER_ENDS_MILLICORES[k] >= sample * (1 - 1e-9))
        for sample in samples
    ]


def test_the_moving_window_publishes_the_highest_load_percentile_of_the_last_12_windows() -> None:
    usage = draw_usage(WINDOW_SECONDS * 14)
    found = run(AutopilotWindow(DECLARED, 0.3, percentile=0.9), usage)

    kept = 2.0 ** (-WINDOW_SECONDS / HALF_LIFE_SECONDS)
    for i, j in np.ndindex(SHAPE):
        weights = [0.0] * BUCKETS
        used = counted = 0.0
        published: list[float] = []
        for step, limits in enumerate(found):
            samples = usage[step * WINDOW_SECONDS : (step + 1) * WINDOW_SECONDS, i, j]
            weights = [weight * kept for weight in weights]
            for bucket in in_buckets(samples):
                weights[bucket] += 1.0
            used, counted = used * kept + samples.sum(), counted * kept + samples.size
            load = [
                weight * end for weight, end in zip(weights, UPPER_ENDS_MILLICORES, strict=True)
            ]
            bucket, running = 0, load[0]
            while running < 0.9 * sum(load):
                bucket += 1
                running += load[bucket]
            wanted = used / counted if DECLARED.batch[j] else UPPER_ENDS_MILLICORES[bucket]
            published = [*published, float(wanted) * 1.3][-12:]
            assert limits[i, j] == pytest.approx(max(published), abs=1)


def test_the_ensemble_takes_the_cheapest_of_its_models() -> None:
    usage = draw_usage(WINDOW_SECONDS * 12)
    found = run(AutopilotEnsemble(DECLARED, 0.2, overrun_weight=3.0), usage)

    for i, j in ((0, 0), (1, 2)):
        plain = PlainEnsemble(float(DECLARED.limit_millicores[i, j]), 3.0)
        for step, limits in enumerate(found):
            samples = usage[step * WINDOW_SECONDS : (step + 1) * WINDOW_SECONDS, i, j]
            assert limits[i, j] == math.ceil(max(plain.choose(samples) * 1.2, 10.0)), (i, j, step)


class PlainEnsemble:
    """One container's models, with loops."""

    def __init__(self, declared: float, weight: float) -> None:
        start = in_buckets(np.array([declared]))[0]
        self.weight = weight
        self.windows = 0
        self.models = list(product(range(len(DECAYS)), MARGIN_BUCKETS))
        self.cost_of_limit = [[0.0] * BUCKETS for _ in DECAYS]
        self.wanted = [start for _ in DECAYS]
        self.limit_of_model = [start for _ in self.models]
        self.cost_of_model = [0.0 for _ in self.models]
        self.model, self.limit = 0, start

    def choose(self, samples: FloatArray) -> float:
        self.windows += 1
        cost = self.costs(in_buckets(samples))
        for number, decay in enumerate(DECAYS):
            now = max(decay, 1 / self.windows)
            before = self.cost_of_limit[number]
            mixed = [old + now * (new - old) for old, new in zip(before, cost, strict=True)]
            best = mixed.index(min(mixed))
            if mixed[best] + LIMIT_CHANGE_COST < mixed[self.wanted[number]]:
                self.wanted[number] = best
            self.cost_of_limit[number] = mixed
        now = max(COST_DECAY, 1 / self.windows)
        for place, (number, margin) in enumerate(self.models):
            proposed = min(self.wanted[number] + margin, BUCKETS - 1)
            charge = cost[self.limit_of_model[place]]
            charge += LIMIT_CHANGE_COST * (proposed != self.limit_of_model[place])
            self.cost_of_model[place] += now * (charge - self.cost_of_model[place])
            self.limit_of_model[place] = proposed
        prices = [
            cost
            + MODEL_CHANGE_COST * (place != self.model)
            + LIMIT_CHANGE_COST * (self.limit_of_model[place] != self.limit)
            for place, cost in enumerate(self.cost_of_model)
        ]
        self.model = prices.index(min(prices))
        self.limit = self.limit_of_model[self.model]
        return float(UPPER_ENDS_MILLICORES[self.limit])

    def costs(self, buckets: list[int]) -> list[float]:
        ends = UPPER_ENDS_MILLICORES
        costs = []
        for limit in range(BUCKETS):
            above = sum(bucket > limit for bucket in buckets)
            slack = sum((ends[limit] - ends[b]) / ends[limit] for b in buckets if b <= limit)
            costs.append(float(self.weight * above + slack) / len(buckets))
        return costs


def test_an_ensemble_to_which_overrun_costs_more_takes_no_lower_limit() -> None:
    usage = draw_usage(WINDOW_SECONDS * 40)
    means = [
        np.mean(run(AutopilotEnsemble(DECLARED, 0.0, overrun_weight=weight), usage))
        for weight in (0.3, 3.0, 30.0)
    ]

    assert means[0] < means[1] < means[2]
