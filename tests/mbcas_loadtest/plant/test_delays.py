import numpy as np
import pytest

from mbcas_core.units import FloatArray
from mbcas_loadtest.plant.batch import Plant, Quota
from mbcas_loadtest.plant.delays import FOLLOWED_MAX, WINDOW_PERIODS, DelayMeter
from mbcas_loadtest.plant.requests import Write, serve_requests

RESOLUTION = 0.06


def quota_of(millicores: float) -> Quota:
    return Quota(
        quota_usec=np.array(millicores * 100.0),
        burst_usec=np.array(0.0),
        written=np.array(False),  # noqa: FBT003 - an array of one.
    )


def delays_of(
    work: FloatArray, millicores: float, *, threads: float = 1.0, request_usec: float = 1_000.0
) -> DelayMeter:
    """Runs (k, n) work on a node of its own for each container."""
    shape = (work.shape[1], 1)
    plant = Plant(shape, cpus=16.0, threads=threads)
    meter = DelayMeter(shape, threads=threads, request_usec=request_usec)
    meter.add(plant.run(work[:, :, np.newaxis], quota_of(millicores)))
    return meter


def test_work_that_is_served_as_it_arrives_takes_the_time_of_a_request() -> None:
    meter = delays_of(np.full((100, 1), 1_000.0), 500, request_usec=5_000.0)

    assert meter.quantile_seconds(0.5)[0, 0] == pytest.approx(0.005, rel=RESOLUTION)
    assert meter.quantile_seconds(0.99)[0, 0] == pytest.approx(0.005, rel=RESOLUTION)


def test_a_thread_that_used_its_quota_stalls_until_the_next_period() -> None:
    work = np.zeros((300, 1))
    work[::3] = 80_000  # Arrives evenly: 44 ms of it have arrived after 55 ms.

    meter = delays_of(work, 440, request_usec=500.0)

    assert meter.quantile_seconds(0.5)[0, 0] < 0.005
    # The first that waits has arrived after 55 ms and is served after 100.
    assert meter.quantile_seconds(0.95)[0, 0] == pytest.approx(0.045, abs=0.008)


def test_an_overload_waits_as_long_as_its_backlog_takes() -> None:
    work = np.full((100, 1), 50_000.0)

    meter = delays_of(work, 250)

    # What arrives after t is served at 2 t; beyond 5 s it waits and has waited for 10 s - t.
    assert meter.quantile_seconds(0.4)[0, 0] == pytest.approx(2.0, rel=0.08)
    assert meter.quantile_seconds(1.0)[0, 0] == pytest.approx(5.0, rel=0.08)


def test_a_container_without_work_has_no_delay() -> None:
    assert np.isnan(delays_of(np.zeros((10, 1)), 500).quantile_seconds(0.99)[0, 0])


def test_clearing_forgets_delays_and_not_the_work_that_waits() -> None:
    plant = Plant((1, 1), cpus=1.0)
    meter = DelayMeter((1, 1), request_usec=1_000.0)
    meter.add(plant.run(np.full((20, 1, 1), 25_000.0), quota_of(100)))

    meter.clear()
    meter.add(plant.run(np.zeros((60, 1, 1)), quota_of(100)))

    # The first of what waited has waited for 1.2 s, the last is served after 5 s.
    assert meter.quantile_seconds(0.01)[0, 0] == pytest.approx(1.2, rel=0.1)
    assert meter.quantile_seconds(1.0)[0, 0] == pytest.approx(3.0, rel=0.1)


def test_what_waited_in_a_container_that_is_gone_is_not_counted() -> None:
    plant = Plant((1, 2), cpus=2.0)
    meter = DelayMeter((1, 2), request_usec=1_000.0)
    meter.add(plant.run(np.full((1, 1, 2), 500_000.0), quota_of(100)))
    meter.clear()

    gone = np.array([[True, False]])
    plant.forget(gone)
    meter.forget(gone)
    meter.add(plant.run(np.full((60, 1, 2), 1_000.0), quota_of(100)))

    assert meter.quantile_seconds(0.99)[0, 0] < 0.02
    assert meter.quantile_seconds(0.99)[0, 1] > 3


def test_cutting_the_periods_into_runs_changes_no_delay() -> None:
    work = np.random.default_rng(3).gamma(4.0, 9_000, (WINDOW_PERIODS + 100, 3, 1))
    whole, cut = (DelayMeter((3, 1), request_usec=1_000.0) for _ in range(2))

    whole.add(Plant((3, 1), cpus=1.0).run(work, quota_of(380)))
    plant = Plant((3, 1), cpus=1.0)
    for start in range(0, len(work), 10):
        cut.add(plant.run(work[start : start + 10], quota_of(380)))

    for share in (0.5, 0.9, 0.99):
        assert np.array_equal(whole.quantile_seconds(share), cut.quantile_seconds(share))


def test_many_more_requests_may_wait_than_are_followed() -> None:
    meter = delays_of(np.full((20 * FOLLOWED_MAX, 1), 20_000.0), 100)

    # Half of it is served: who came at t leaves at 2 t, and the last have waited half of the time.
    seconds = 2 * FOLLOWED_MAX
    assert meter.quantile_seconds(0.25)[0, 0] == pytest.approx(seconds / 8, rel=RESOLUTION)
    assert meter.quantile_seconds(1.0)[0, 0] == pytest.approx(seconds / 2, rel=RESOLUTION)


def test_who_follows_after_a_long_queue_is_followed_as_closely_as_before_it() -> None:
    plant, meter = Plant((1, 1), cpus=4.0), DelayMeter((1, 1), request_usec=1_000.0)
    work = np.zeros((2_000, 1, 1))
    work[:1_000] = 20_000.0
    meter.add(plant.run(work[:1_000], quota_of(100)))
    meter.add(plant.run(work[1_000:], quota_of(4_000)))
    meter.clear()

    meter.add(plant.run(np.full((4, 1, 1), 30_000.0), quota_of(400)))
    meter.add(plant.run(np.full((4, 1, 1), 60_000.0), quota_of(400)))

    quantiles = {meter.quantile_seconds(share)[0, 0] for share in (0.4, 0.6, 0.8, 0.95)}
    assert len(quantiles) == 4


@pytest.mark.parametrize(
    ("threads", "millicores", "utilisation"), [(1, 400, 0.75), (1, 400, 1.05), (2, 800, 0.95)]
)
def test_delays_are_those_of_requests_that_are_served_one_by_one(
    threads: int, millicores: int, utilisation: float
) -> None:
    generator = np.random.default_rng(11)
    periods, request_usec = 900, 4_000.0
    mean = utilisation * millicores * 100
    work = generator.gamma(1 / 0.3**2, mean * 0.3**2, periods)
    counts = np.maximum(1, np.rint(work / request_usec)).astype(np.int64)
    starts = np.repeat(np.arange(periods), counts)
    arrivals = np.sort((starts + generator.random(len(starts))) * 100_000.0)
    outcome = serve_requests(
        arrivals,
        np.repeat(work / counts, counts),
        [Write(at_usec=0.0, quota_usec=millicores * 100.0, burst_usec=0.0)],
        threads=threads,
        count=periods,
    )

    meter = delays_of(
        np.concatenate([work, np.zeros(600)])[:, np.newaxis],
        millicores,
        threads=threads,
        request_usec=request_usec,
    )

    exact = (outcome.done_usec - arrivals) / 1e6
    for share in (0.9, 0.99):
        expected = np.quantile(exact, share)
        allowed = max(0.010, 0.15 * expected)
        assert abs(meter.quantile_seconds(share)[0, 0] - expected) < allowed, share


def test_two_threads_work_a_backlog_off_in_half_the_time() -> None:
    work = np.zeros((400, 1))
    work[::4] = 390_000  # 200 ms are served as they arrive, the rest in 95 ms by two threads.

    meter = delays_of(work, 2_000, threads=2.0)

    assert meter.quantile_seconds(0.99)[0, 0] == pytest.approx(0.096, rel=0.1)


def test_under_contention_work_is_served_evenly_over_the_period() -> None:
    work = np.zeros((400, 1, 2))
    work[::4] = 90_000  # Half a CPU each: 50 ms in the first period, the rest in the second.
    plant = Plant((1, 2), cpus=1.0)
    meter = DelayMeter((1, 2), request_usec=1_000.0)

    meter.add(plant.run(work, quota_of(1_000)))

    # What arrives t into the period is served after 1.8 t.
    assert meter.quantile_seconds(0.5)[0, 0] == pytest.approx(0.04, abs=0.008)
    assert np.array_equal(meter.quantile_seconds(0.5)[0, 0], meter.quantile_seconds(0.5)[0, 1])
