"""What shims report of simulated kernels, and what is lost or late on the way."""

from itertools import pairwise

import numpy as np

from mbcas_core.events import COUNTERS
from mbcas_loadtest.simulation.system import Seen, Settings
from mbcas_loadtest.simulation.telemetry import Arrival, Line, Telemetry

NODES, CONTAINERS = 4, 3
USAGE = COUNTERS.index("usage_usec")


def second(number: int) -> Seen:
    """A second in which container c of node m uses 10 (m + 1) (c + 1) ms of each period."""
    draw = np.random.default_rng(number)
    shape = (10, NODES, CONTAINERS)
    own = np.outer(np.arange(1, NODES + 1), np.arange(1, CONTAINERS + 1)) * 1000.0
    return Seen(
        period=10 * number,
        usage_usec=np.broadcast_to(own, shape) * draw.integers(1, 4, (10, 1, 1)),
        throttled=draw.random(shape) < 0.3,
        throttled_usec=np.full(shape, 500.0),
        timer_ran=np.ones(shape, np.bool_),
        bursts=np.zeros(shape, np.bool_),
        applied=Settings(
            request_millicores=np.full((NODES, CONTAINERS), 100.0),
            limit_millicores=np.tile([100.0, 5.0, np.inf], (NODES, 1)),
            burst_millicores=np.tile([50.0, 0.0, 0.0], (NODES, 1)),
        ),
        exists=np.ones((NODES, CONTAINERS), np.bool_),
    )


def live(line: Line, seconds: int = 60) -> list[list[Arrival]]:
    telemetry = Telemetry((NODES, CONTAINERS), line)
    draw = np.random.default_rng(1)
    return [
        telemetry.sample(
            second(number),
            node_time_seconds=float(number),
            draw=draw.random(NODES, np.float32),
        )
        for number in range(1, seconds + 1)
    ]


def test_a_sample_says_what_kernels_of_that_use_would_say() -> None:
    arrivals = live(Line(), seconds=3)[-1]

    assert len(arrivals) == 1
    event = arrivals[0].as_event(("a", "b", "c", "d"), 3.05)
    samples, seen = event.samples, [second(number) for number in (1, 2, 3)]
    assert event.nodes == ("a", "b", "c", "d")
    for node in range(NODES):
        for container in range(CONTAINERS):
            place = node * CONTAINERS + container
            assert event.node[place] == node
            assert samples.handles[place] == container + 1
            told = dict(zip(COUNTERS, samples.counters[:, place].tolist(), strict=True))
            used = sum(float(each.usage_usec[:, node, container].sum()) for each in seen)
            hit = sum(int(each.throttled[:, node, container].sum()) for each in seen)
            assert told == {
                "usage_usec": round(used),
                "nr_periods": 30,
                "nr_throttled": hit,
                "throttled_usec": 15_000,
                "nr_bursts": 0,
                "quota_usec": [10_000, 1_000, 0][container],
                "period_usec": 100_000,
                "burst_usec": [5_000, 0, 0][container],
                "pressure_usec": 0,
            }
            slices = samples.slice_millicores[10 * place : 10 * place + 10].tolist()
            assert slices == (seen[-1].usage_usec[:, node, container] / 100).round().tolist()


def times(arrivals: list[list[Arrival]], node: int) -> list[float]:
    """The node's clock in its samples, as they arrive."""
    return [
        arrival.reading.node_time_seconds
        for own in arrivals
        for arrival in own
        if node in arrival.nodes
    ]


def test_what_is_lost_takes_its_detail_and_no_usage() -> None:
    arrivals = live(Line(loss_ratio=0.3))

    for node in range(NODES):
        came = times(arrivals, node)
        assert 20 < len(came) < 55
        assert came == sorted(set(came))
    last = next(own[0] for own in reversed(arrivals) if own)
    used = sum(second(number).usage_usec.sum(axis=0) for number in range(1, 61))
    known = int(last.reading.node_time_seconds)
    assert known == 60
    node = int(last.nodes[0])
    assert last.reading.counters[node, USAGE].tolist() == used[node].round().tolist()


def test_what_is_reordered_comes_a_second_late_after_the_newer_one() -> None:
    arrivals = live(Line(reorder_ratio=0.3))

    came = times(arrivals, 0)
    assert sorted(came) == [float(number) for number in range(1, 61)] or len(came) == 59
    late = [b for a, b in pairwise(came) if b < a]
    assert len(late) > 5
    assert all(came[i + 1] >= came[i] - 2 for i in range(len(came) - 1))


def test_a_delay_holds_everything_back_by_as_much() -> None:
    arrivals = live(Line(delay_seconds=2), seconds=10)

    assert times(arrivals, 0) == [float(number) for number in range(1, 9)]
    assert not arrivals[0]
    assert not arrivals[1]


def test_the_nodes_clock_may_be_another() -> None:
    arrivals = live(Line(clock_skew_seconds=-5.0), seconds=2)

    assert times(arrivals, 0) == [-4.0, -3.0]
