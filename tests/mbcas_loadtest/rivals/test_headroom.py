import math

import numpy as np
import pytest

from mbcas_loadtest.rivals.headroom import Headroom
from mbcas_loadtest.simulation.system import Settings
from mbcas_loadtest.simulation.world import Declared
from tests.mbcas_loadtest.rivals.little_worlds import declare, see


def ask(
    declared: Declared,
    *,
    multiplier: float = 10.0,
    limits: list[float] | None = None,
    exists: list[bool] | None = None,
) -> Settings | None:
    now = np.where(declared.limit_millicores > 0, declared.limit_millicores, np.inf)
    limit = now.astype(np.float64) if limits is None else np.array([limits])
    there = np.ones(limit.shape, np.bool_) if exists is None else np.array([exists])
    shape = (20, *limit.shape)
    seen = see(20, np.zeros(shape), np.zeros(shape, np.bool_), limit, exists=there)
    return Headroom(declared, multiplier).step(seen)


def limits_of(settings: Settings | None) -> list[float]:
    assert settings is not None
    limits: list[float] = settings.limit_millicores[0].tolist()
    return limits


def test_slack_is_shared_by_request_with_a_floor_and_a_cap_on_the_multiple() -> None:
    assert limits_of(ask(declare([200, 600, 1200], [100, 300, 600]))) == [1000, 1300, 2400]
    # The worked example of its design document, where the floor lifts the first from 1000.
    wide = declare([0, 0, 0], [500, 1500, 6000], cpus=16)
    assert limits_of(ask(wide)) == [1500, 3000, 12_000]


def test_on_a_full_node_the_limit_is_the_request() -> None:
    assert limits_of(ask(declare([2000, 5000], [1000, 3000]))) == [1000, 3000]


def test_a_pod_that_goes_leaves_its_slack_to_the_others() -> None:
    declared = declare([2000, 2000], [1000, 1000])

    # Slack 3000 of 4000 is the remaining pod's; the one that is gone keeps what it declared.
    assert limits_of(ask(declared, exists=[True, False])) == [4000, 2000]


def test_a_pod_that_declares_one_number_is_managed_by_its_request() -> None:
    # S = 3200 of 4000, R = 800: 500 + 2000 and 300 + 1200.
    assert limits_of(ask(declare([500, 300]))) == [2500, 1500]


@pytest.mark.parametrize(
    ("limit", "moves"), [(1950.0, False), (1810.0, True), (2090.0, False), (2120.0, True)]
)
def test_small_differences_are_left_alone_less_so_downwards(limit: float, *, moves: bool) -> None:
    # The target is 2000.
    found = ask(declare([1000, 1000], [999, 999]), limits=[limit, 2000.0])

    assert (found is not None) == moves
    if moves:
        assert limits_of(found) == [2000, 2000]


def test_a_pods_limit_is_split_by_request_to_the_last_millicore() -> None:
    found = ask(declare([100, 100, 0], [70, 30, 11], pod=[0, 0, 0]), multiplier=3.0)

    # 333 in steps of 10: 330 = 208.1 + 89.2 + 32.7; the largest fraction is the third's.
    assert limits_of(found) == [208, 89, 33]


def test_all_nodes_at_once_do_what_one_pod_does_in_plain_python() -> None:
    generator = np.random.default_rng(4)
    for _ in range(120):
        n = int(generator.integers(1, 7))
        pod = np.cumsum(generator.integers(0, 2, n))
        pod -= pod[0]
        requests = generator.integers(1, 900, n)
        limits = np.where(generator.random(n) < 0.2, 0, requests + generator.integers(0, 500, n))
        declared = declare(limits.tolist(), requests.tolist(), pod=pod.tolist())
        now = [float(limit or math.inf) for limit in limits]
        found = ask(declared, multiplier=5.0)
        want = plain(requests.tolist(), now, pod.tolist(), multiplier=5.0)
        assert (now if found is None else limits_of(found)) == want


def plain(
    requests: list[int], now: list[float], pod: list[int], *, multiplier: float
) -> list[float]:
    """One node of 4 CPUs, pod by pod."""
    pods = [[i for i, own in enumerate(pod) if own == p] for p in range(pod[-1] + 1)]
    slack = 4000 - sum(requests)
    wanted = list(now)
    for own in pods:
        request = sum(requests[i] for i in own)
        target = request
        most = max(request, min(4000, math.floor(request * multiplier + 0.5)))
        if slack > 0:
            share = slack * request / sum(requests)
            burst = max(share, min(1000.0, slack / len(pods)))
            target = min(request + math.floor(burst + 0.5), most)
        target = (target + 5) // 10 * 10
        target -= 10 if target > most else 0
        target = max(target, request)
        current = sum(now[i] for i in own)
        band = 0.05 if target < current else 0.1
        if math.isfinite(current) and abs(target - current) < band * current:
            continue
        exact = [target * requests[i] / request for i in own]
        base = [max(math.floor(value), requests[i]) for value, i in zip(exact, own, strict=True)]
        left = target - sum(base)
        ranked = sorted(range(len(own)), key=lambda k: (math.floor(exact[k]) - exact[k], k))
        for place, k in enumerate(ranked):
            wanted[own[k]] = base[k] + (place < left)
    return wanted
