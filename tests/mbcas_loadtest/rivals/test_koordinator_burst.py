import math

import numpy as np
import pytest

from mbcas_core.units import FloatArray
from mbcas_loadtest.rivals.koordinator_burst import KoordinatorBurst
from mbcas_loadtest.simulation.system import Settings
from tests.mbcas_loadtest.rivals.little_worlds import declare, see


def ask(
    koordinator: KoordinatorBurst,
    limit: FloatArray,
    *,
    throttled: bool,
    usage_millicores: float = 100.0,
) -> Settings:
    """Returns what it wants after a second in which each container used so much."""
    shape = (10, *limit.shape)
    wanted = koordinator.step(
        see(10, np.full(shape, usage_millicores), np.full(shape, throttled), limit)
    )
    assert wanted is not None
    return wanted


def test_a_throttled_limit_grows_by_a_fifth_to_three_times_and_never_comes_down_by_itself() -> None:
    koordinator = KoordinatorBurst(declare([100], [50]), 300.0, with_burst=False)
    limit = np.array([[100.0]])
    found = []

    for _ in range(8):
        limit = ask(koordinator, limit, throttled=True).limit_millicores
        found.append(round(limit.item() * 100))

    assert found == [12_000, 14_400, 17_280, 20_736, 24_883, 29_859, 30_000, 30_000]
    quiet = ask(koordinator, limit, throttled=False)
    assert quiet.limit_millicores.item() == 300.0
    assert quiet.request_millicores.item() == 50.0


def test_a_busy_node_takes_back_and_a_warm_one_lets_nobody_grow() -> None:
    busy = KoordinatorBurst(declare([1000], cpus=1), 300.0, with_burst=False)
    warm = KoordinatorBurst(declare([1000], cpus=1), 300.0, with_burst=False)
    limit = np.array([[2000.0]])

    taken = ask(busy, limit, throttled=True, usage_millicores=500.0)
    kept = ask(warm, limit, throttled=True, usage_millicores=499.0)

    assert taken.limit_millicores.item() == 1600.0
    assert kept.limit_millicores.item() == 2000.0
    for _ in range(4):
        taken = ask(busy, taken.limit_millicores, throttled=True, usage_millicores=500.0)
    assert taken.limit_millicores.item() == 1000.0


def test_the_nodes_use_is_its_mean_over_five_seconds() -> None:
    koordinator = KoordinatorBurst(declare([100], cpus=1), 300.0, with_burst=False)
    limit = np.array([[200.0]])
    for _ in range(4):
        ask(koordinator, limit, throttled=False, usage_millicores=100.0)

    # (4 x 100 + 1800) / 5 = 440 of 1000, then (3 x 100 + 2 x 1800) / 5 = 780.
    once = ask(koordinator, limit, throttled=True, usage_millicores=1800.0)
    twice = ask(koordinator, limit, throttled=True, usage_millicores=1800.0)

    assert once.limit_millicores.item() == 240.0
    assert twice.limit_millicores.item() == 160.0


def test_unused_quota_is_carried_over_only_under_the_policy_auto() -> None:
    declared = declare([100, 0], [100, 100])
    limit = np.array([[100.0, math.inf]])

    auto = ask(KoordinatorBurst(declared, 300.0, with_burst=True), limit, throttled=True)
    quota = ask(KoordinatorBurst(declared, 300.0, with_burst=False), limit, throttled=True)

    assert auto.burst_millicores.tolist() == [[120.0, 0.0]]
    assert quota.burst_millicores.tolist() == [[0.0, 0.0]]
    assert auto.limit_millicores.tolist() == [[120.0, math.inf]]


@pytest.mark.parametrize("percent", [100.0, 150.0, 1000.0])
def test_all_containers_at_once_do_what_one_does_in_plain_python(percent: float) -> None:
    generator = np.random.default_rng(1)
    bases = [130, 990, 40]
    koordinator = KoordinatorBurst(declare(bases, nodes=2, cpus=2), percent, with_burst=True)
    limit = np.array([bases] * 2, np.float64)
    used: list[list[float]] = [[], []]

    for _ in range(60):
        usage = generator.uniform(0.0, 600.0, (10, 2, 3))
        throttled = generator.random((10, 2, 3)) < 0.05
        wanted = koordinator.step(see(10, usage, throttled, limit))
        assert wanted is not None
        for i in range(2):
            used[i] = [*used[i][-4:], usage[:, i].sum() / 10 / 2000]
            node = sum(used[i]) / len(used[i])
            for j, base in enumerate(bases):
                up = 1.2 if throttled[:, i, j].any() else 1.0
                factor = 0.8 if node >= 0.5 else min(up, 1.0) if node >= 0.45 else up
                quota = math.floor(round(limit[i, j] * 100) * factor)
                quota = max(base * 100, min(quota, math.floor(base * 100 * percent / 100)))
                assert wanted.limit_millicores[i, j] == pytest.approx(quota / 100)
                assert wanted.burst_millicores[i, j] == pytest.approx(min(quota / 100, 10 * base))
        limit = wanted.limit_millicores
