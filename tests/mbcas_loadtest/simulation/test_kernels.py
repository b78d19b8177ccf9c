"""What is added up of a stretch, against the same sums in arrays."""

import numpy as np

from mbcas_core.units import FloatArray
from mbcas_loadtest.plant.kernels import Periods
from mbcas_loadtest.simulation.kernels import Lived, Means, Sums, add_stretch, no_sums

SECONDS, NODES, COUNT, CPUS = 7, 3, 4, 2.0


def by_second(values: FloatArray) -> FloatArray:
    summed: FloatArray = values.reshape(SECONDS, 10, NODES, COUNT).sum(axis=1)
    return summed


def draw(seed: int) -> tuple[Periods, Lived, FloatArray, FloatArray]:
    generator = np.random.default_rng(seed)
    shape = (SECONDS * 10, NODES, COUNT)
    periods = Periods(
        admitted_usec=generator.gamma(1.0, 60_000, shape),
        usage_usec=generator.gamma(1.0, 50_000, shape),
        throttled=generator.random(shape) < 0.3,
        throttled_usec=np.zeros(shape),
        timer_ran=np.ones(shape, np.bool_),
        bursts=np.zeros(shape, np.bool_),
        backlog_usec=np.maximum(generator.normal(0, 80_000, shape), 0.0),
    )
    lost = np.where(periods.throttled, generator.uniform(0, 90_000, shape), 0.0)
    lived = Lived(
        arrivals_usec=periods.admitted_usec + generator.uniform(0, 1_000, shape),
        limit_millicores=np.where(generator.random(shape) < 0.1, np.inf, 700.0),
        request_millicores=generator.uniform(10, 900, shape),
        exists=generator.random((SECONDS, COUNT)) < 0.8,
    )
    width = generator.choice([1.0, 2.0], (NODES, COUNT)) * 100_000.0
    declared = generator.uniform(0.1, 1.5, (NODES, COUNT))
    return periods._replace(throttled_usec=lost), lived, width, declared


def expected(periods: Periods, lived: Lived, width: FloatArray, declared: FloatArray) -> Sums:
    there = lived.exists[:, np.newaxis, :].astype(np.float64)
    usage, demand = by_second(periods.usage_usec) / 1e6, by_second(periods.admitted_usec) / 1e6
    reserved = by_second(lived.request_millicores) / 10_000 * there
    cores = there * declared
    promised = cores.sum(axis=-1, keepdims=True)
    entitled = np.minimum(demand, cores * np.minimum(1.0, CPUS / np.maximum(promised, 1e-12)))
    possible = demand * np.minimum(1.0, CPUS / demand.sum(axis=-1, keepdims=True))
    idle = np.maximum(width - periods.usage_usec, 0.0)
    waits = (periods.backlog_usec > 0) & ~periods.throttled
    limit = np.minimum(lived.limit_millicores, CPUS * 1000)
    seconds = Sums(
        seconds=np.broadcast_to(there, usage.shape),
        usage_core_seconds=usage,
        limit_core_seconds=by_second(limit) / 10_000 * there,
        request_core_seconds=reserved,
        idle_core_seconds=np.maximum(reserved - usage, 0.0),
        wall_periods=np.broadcast_to(there * 10, usage.shape),
        throttled_periods=by_second(periods.throttled.astype(np.float64)),
        throttled_seconds=by_second(periods.throttled_usec) / 1e6,
        demand_core_seconds=demand,
        useful_core_seconds=np.minimum(usage, demand),
        possible_core_seconds=possible,
        entitled_core_seconds=entitled,
        denied_core_seconds=np.maximum(entitled - usage, 0.0),
        unsent_core_seconds=by_second(lived.arrivals_usec - periods.admitted_usec) / 1e6,
        starved_core_seconds=by_second(np.where(waits, np.minimum(periods.backlog_usec, idle), 0.0))
        / 1e6,
    )
    return Sums(*(each.sum(axis=0) for each in seconds))


def test_the_sums_are_those_of_arrays() -> None:
    sums = no_sums((NODES, COUNT))
    total = no_sums((NODES, COUNT))
    for seed in (1, 2):
        periods, lived, width, declared = draw(seed)
        shape = (SECONDS, NODES, COUNT)
        means = Means(np.zeros(shape, np.float32), np.zeros(shape, np.float32))

        add_stretch(sums, means, periods, lived, width, declared, CPUS)

        total = Sums(
            *(a + b for a, b in zip(total, expected(periods, lived, width, declared), strict=True))
        )
        last = np.where(lived.exists[:, np.newaxis], lived.limit_millicores[9::10], np.nan)
        np.testing.assert_array_equal(means.limit_millicores, last.astype(np.float32))
        throttled = by_second(periods.throttled.astype(np.float64)) / 10
        np.testing.assert_allclose(means.throttled_ratio, throttled, rtol=1e-6)
    for name in Sums._fields:
        np.testing.assert_allclose(getattr(sums, name), getattr(total, name), err_msg=name)
