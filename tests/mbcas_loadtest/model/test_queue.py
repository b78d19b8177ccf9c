from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_loadtest.model.queue import FifoQueue
from mbcas_loadtest.node.scenario import Arrivals


def queue(*requests: tuple[float, float]) -> FifoQueue:
    return FifoQueue(
        Arrivals(
            arrival_seconds=np.array([arrival for arrival, _ in requests]),
            work_seconds=np.array([work for _, work in requests]),
        )
    )


def test_a_request_alone_takes_its_work() -> None:
    served = queue((0.02, 0.003))

    done = served.serve(0.0, served.arriving_usec(0.0, 0.1))

    assert done.tolist() == [pytest.approx(0.023)]


def test_a_request_waits_for_the_one_before_it() -> None:
    served = queue((0.02, 0.010), (0.025, 0.010))

    done = served.serve(0.0, served.arriving_usec(0.0, 0.1))

    assert done.tolist() == [pytest.approx(0.030), pytest.approx(0.040)]


def test_what_the_quota_left_over_goes_on_at_the_start_of_the_next_period() -> None:
    served = queue((0.02, 0.050))

    first = served.serve(0.0, 30_000)
    second = served.serve(0.1, 20_000)

    assert first.tolist() == []
    assert second.tolist() == [pytest.approx(0.120)]


def test_work_arrives_in_the_period_of_its_arrival() -> None:
    served = queue((0.05, 0.001), (0.1, 0.002))

    assert served.arriving_usec(0.0, 0.1) == pytest.approx(1_000)
    assert served.arriving_usec(0.1, 0.2) == pytest.approx(2_000)


@given(
    requests=st.lists(
        st.tuples(st.floats(0, 0.999), st.floats(0.001, 0.05)), min_size=1, max_size=30
    ),
    quota_usec=st.sampled_from([10_000.0, 40_000.0, 100_000.0]),
)
def test_delays_never_undercut_the_work_and_ends_never_overtake(
    requests: list[tuple[float, float]], quota_usec: float
) -> None:
    requests = sorted(requests)
    served = queue(*requests)
    backlog, ends = 0.0, []

    for period in range(400):
        start = period / 10
        backlog += served.arriving_usec(start, start + 0.1)
        amount = min(backlog, quota_usec)
        backlog -= amount
        ends.extend(served.serve(start, amount).tolist())

    assert len(ends) == len(requests)
    assert all(b >= a - 1e-9 for a, b in pairwise(ends))
    for end, (arrival, work) in zip(ends, requests, strict=True):
        assert end >= arrival + work - 1e-6
