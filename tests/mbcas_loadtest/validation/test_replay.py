"""The exact model stands for the kernel: what the plant loses by knowing periods alone."""

import numpy as np
import pytest

from mbcas_loadtest.plant.requests import Write as ModelWrite
from mbcas_loadtest.plant.requests import serve_requests
from mbcas_loadtest.validation.group import Counters, phase_seconds
from mbcas_loadtest.validation.measure import Measured, Write
from mbcas_loadtest.validation.points import Point, Requests, all_points, draw_requests
from mbcas_loadtest.validation.replay import PRELUDE_PERIODS, compare
from mbcas_loadtest.validation.verdict import judge

SECONDS = 60.0


def point(*, utilisation: float, has_burst: bool = False, threads: int = 1) -> Point:
    return Point(
        utilisation=utilisation,
        variation=0.3,
        has_burst=has_burst,
        threads=threads,
        quota_millicores=400 * threads,
    )


def measured(one: Point, *, first_seconds: float) -> Measured:
    """A measurement in which the kernel is the model that knows every arrival."""
    drawn = draw_requests(one, seconds=SECONDS, seed=5)
    zero_seconds = first_seconds - PRELUDE_PERIODS * 0.1
    quota_usec = one.quota_millicores * 100.0
    count = PRELUDE_PERIODS + int(SECONDS * 10) - 1
    outcome = serve_requests(
        (drawn.arrival_seconds - zero_seconds) * 1e6,
        drawn.work_usec,
        [ModelWrite(at_usec=0.0, quota_usec=quota_usec, burst_usec=quota_usec * one.has_burst)],
        threads=one.threads,
        count=count,
    )
    usage = np.cumsum(outcome.usage_usec[PRELUDE_PERIODS:])
    throttled = np.cumsum(outcome.throttled[PRELUDE_PERIODS:])
    samples = [
        Counters(
            usage_usec=float(used),
            nr_periods=0,
            nr_throttled=int(n),
            throttled_usec=0.0,
            nr_bursts=0,
        )
        for used, n in zip([0.0, *usage], [0, *throttled], strict=True)
    ]
    return Measured(
        requests=Requests(arrival_seconds=drawn.arrival_seconds, work_usec=drawn.work_usec),
        done_seconds=outcome.done_usec / 1e6 + zero_seconds,
        first_seconds=first_seconds,
        writes=[Write(at_seconds=-1.0, quota_millicores=one.quota_millicores)],
        samples=samples,
        foreign_cpus=0.0,
    )


@pytest.mark.parametrize(
    "one",
    [
        point(utilisation=0.5),
        point(utilisation=0.75),
        point(utilisation=1.1),
        point(utilisation=0.95, has_burst=True),
        point(utilisation=0.75, threads=2),
    ],
    ids=lambda one: one.name,
)
def test_the_plant_agrees_with_a_kernel_that_is_the_exact_model(one: Point) -> None:
    compared = compare(one, measured(one, first_seconds=0.037))

    assert [off.words for off in judge(compared) if off.is_missed] == []
    assert compared.requests.throttled_share == pytest.approx(compared.kernel.throttled_share)
    assert compared.requests.usage_millicores == pytest.approx(compared.kernel.usage_millicores)


def test_a_kernel_that_gives_no_credit_is_noticed_where_the_model_gives_some() -> None:
    kernel = measured(point(utilisation=0.95), first_seconds=0.0)

    compared = compare(point(utilisation=0.95, has_burst=True), kernel)

    assert [off.endpoint for off in judge(compared) if off.is_missed] == ["throttled", "delay"]
    assert compared.periods_kernel_only > compared.periods_plant_only


def test_when_periods_start_is_found_among_late_polls() -> None:
    edges = [12.0731, 12.1702, 12.2706, 12.3702, 12.4899]

    assert phase_seconds(edges) == pytest.approx(0.0702, abs=1e-6)


def test_when_periods_start_is_found_across_the_wrap() -> None:
    assert phase_seconds([5.0995, 5.2001, 5.3003]) == pytest.approx(0.0995, abs=1e-6)


def test_every_asked_combination_is_among_the_points() -> None:
    grid = [one for one in all_points() if one.group == "grid"]

    assert len(grid) >= 40
    assert {one.variation for one in grid} == {0.1, 0.3, 0.5}
    assert {(one.threads, one.has_burst) for one in grid} == {
        (1, False),
        (1, True),
        (2, False),
        (2, True),
    }
    assert min(one.utilisation for one in grid) == 0.5
    assert max(one.utilisation for one in grid) == 1.1
    assert any(one.group == "changed" for one in all_points())
    assert len({one.name for one in all_points()}) == len(all_points())


def test_drawn_work_has_the_mean_and_the_variation_of_its_point() -> None:
    one = point(utilisation=0.75)

    drawn = draw_requests(one, seconds=2_000, seed=1)

    place = (drawn.arrival_seconds * 10).astype(np.int64)
    work = np.bincount(place, weights=drawn.work_usec)
    assert work.mean() == pytest.approx(0.75 * 40_000, rel=0.01)
    assert work.std() / work.mean() == pytest.approx(0.3, rel=0.03)
    assert np.all(np.diff(drawn.arrival_seconds) >= 0)
