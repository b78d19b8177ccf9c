import numpy as np
import pytest

from mbcas_loadtest.plant.requests import Outcome, Write, serve_requests

MS = 1_000.0


def serve(
    requests: list[tuple[float, float]],
    quota_ms: float,
    *,
    burst_ms: float = 0.0,
    threads: int = 1,
    kept_ms: float = 0.0,
    later: tuple[Write, ...] = (),
) -> Outcome:
    """Serves (arrival, work) in milliseconds for five periods."""
    first = Write(at_usec=0.0, quota_usec=quota_ms * MS, burst_usec=burst_ms * MS)
    return serve_requests(
        np.array([arrival * MS for arrival, _ in requests]),
        np.array([work * MS for _, work in requests]),
        [first, *later],
        threads=threads,
        count=5,
        kept_usec=kept_ms * MS,
    )


def test_a_request_within_the_quota_takes_its_work() -> None:
    outcome = serve([(10, 20)], 30)

    assert outcome.done_usec[0] == pytest.approx(30 * MS)
    assert not outcome.throttled.any()


def test_a_request_that_uses_the_quota_up_goes_on_in_the_next_period() -> None:
    outcome = serve([(10, 50)], 30)

    assert outcome.done_usec[0] == pytest.approx(120 * MS)
    assert outcome.throttled.tolist() == [True, False, False, False, False]
    assert outcome.throttled_usec[0] == pytest.approx(60 * MS)


def test_requests_are_served_in_the_order_of_their_arrival() -> None:
    outcome = serve([(0, 10), (5, 10), (40, 10)], 90)

    assert outcome.done_usec.tolist() == pytest.approx([10 * MS, 20 * MS, 50 * MS])


def test_two_threads_use_the_quota_twice_as_fast_and_stall_twice() -> None:
    outcome = serve([(0, 40), (0, 40)], 60, threads=2)

    assert outcome.done_usec.tolist() == pytest.approx([110 * MS, 110 * MS])
    assert outcome.throttled_usec[0] == pytest.approx(2 * 70 * MS)


def test_what_an_idle_cpu_holds_of_its_slice_is_not_the_other_threads() -> None:
    outcome = serve([(0, 1), (0, 80)], 60, threads=2, kept_ms=1)

    # One ran 1 ms of its slice and keeps another; the pool has 58 ms for the other thread.
    assert outcome.usage_usec[0] == pytest.approx(59 * MS)
    assert outcome.throttled[0]


def test_a_request_runs_on_one_thread_alone() -> None:
    assert serve([(0, 80)], 150, threads=2).done_usec[0] == pytest.approx(80 * MS)


def test_credit_of_quiet_periods_serves_a_burst() -> None:
    outcome = serve([(200, 60)], 30, burst_ms=30)

    assert outcome.done_usec[0] == pytest.approx(260 * MS)
    assert not outcome.throttled.any()


def test_a_write_lets_a_stalled_request_go_on_at_once() -> None:
    write = Write(at_usec=70 * MS, quota_usec=40 * MS, burst_usec=0.0)

    outcome = serve([(0, 50)], 30, later=(write,))

    assert outcome.done_usec[0] == pytest.approx(90 * MS)
    assert not outcome.throttled.any()


def test_what_a_cpu_keeps_is_there_in_the_next_period() -> None:
    assert serve([(0, 8), (100, 31)], 30, kept_ms=1).done_usec[1] == pytest.approx(131 * MS)
    assert serve([(0, 8), (100, 31)], 30).done_usec[1] == pytest.approx(201 * MS)


def test_all_work_is_served_and_counted_in_some_period() -> None:
    generator = np.random.default_rng(2)
    requests = [(float(t), float(generator.uniform(1, 20))) for t in range(0, 300, 13)]

    outcome = serve(requests, 60, threads=2, kept_ms=1)

    assert outcome.usage_usec.sum() == pytest.approx(sum(work for _, work in requests) * MS)
    assert not np.isnan(outcome.done_usec).any()
