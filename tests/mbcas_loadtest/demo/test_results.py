import numpy as np
import pytest

from mbcas_loadtest.demo.observer import Totals, Track
from mbcas_loadtest.demo.results import container_result, delays_seconds, reaction
from mbcas_loadtest.node.container import Container
from mbcas_loadtest.node.scenario import WORKLOADS, Arrivals
from mbcas_loadtest.node.statics import Declared


def arrivals(*seconds: float) -> Arrivals:
    return Arrivals(arrival_seconds=np.array(seconds), work_seconds=np.full(len(seconds), 0.001))


def container(given: Arrivals | None) -> Container:
    workload = WORKLOADS[0] if given is not None else WORKLOADS[-1]
    return Container(declared=Declared(workload=workload, millicores=100), arrivals=given)


def test_a_delay_runs_from_the_scheduled_arrival_to_the_end() -> None:
    delays = delays_seconds(
        arrivals(1.0, 2.0), np.array([1.5, 2.25]), from_seconds=0, now_seconds=10
    )

    assert delays.tolist() == [0.5, 0.25]


def test_a_request_that_still_waits_counts_with_its_age() -> None:
    delays = delays_seconds(
        arrivals(1.0, 2.0, 3.0), np.array([1.5]), from_seconds=0, now_seconds=10
    )

    assert delays.tolist() == [0.5, 8.0, 7.0]


def test_a_request_that_arrived_in_the_warm_up_is_left_out() -> None:
    delays = delays_seconds(
        arrivals(1.0, 5.0), np.array([6.0, 7.0]), from_seconds=5, now_seconds=10
    )

    assert delays.tolist() == [2.0]


def test_a_request_that_has_not_arrived_yet_is_left_out() -> None:
    delays = delays_seconds(arrivals(1.0, 9.0), np.array([1.5]), from_seconds=0, now_seconds=5)

    assert delays.tolist() == [0.5]


def test_a_result_counts_requests_that_arrived_and_those_that_were_finished() -> None:
    result = container_result(
        container(arrivals(1.0, 5.0, 6.0, 7.0)),
        Track(counted=Totals(seconds=5, throttled_periods=10)),
        np.array([1.5, 6.0, 8.0]),
        from_seconds=5,
        now_seconds=10,
    )

    assert (result.requests_arrived, result.requests_finished) == (3, 2)
    assert result.throttled_fraction == pytest.approx(0.2)
    assert result.delay_p50_ms == pytest.approx(2000)


def test_a_container_without_requests_has_no_delays() -> None:
    result = container_result(container(None), Track(), np.empty(0), from_seconds=0, now_seconds=10)

    assert result.delay_p50_ms is None
    assert result.delay_p99_ms is None


def test_reactions_of_the_batch_job_do_not_count() -> None:
    service, batch = container(arrivals(1.0)), container(None)
    tracks = {service.name: Track(), batch.name: Track()}
    tracks[service.name].surges.reactions_seconds.extend([1.0, 2.0, 3.0])
    tracks[batch.name].surges.reactions_seconds.append(100.0)

    found = reaction([service, batch], tracks)

    assert (found.p50, found.count) == (2.0, 3)


def test_without_a_surge_there_is_no_reaction_time() -> None:
    service = container(arrivals(1.0))

    found = reaction([service], {service.name: Track()})

    assert (found.p50, found.p95, found.count) == (None, None, 0)
