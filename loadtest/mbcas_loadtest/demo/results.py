"""From what was watched to what the record says. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from mbcas_core.units import FloatArray
from mbcas_loadtest.demo.observer import Track
from mbcas_loadtest.demo.record import ContainerResult, Reaction
from mbcas_loadtest.node.container import Container
from mbcas_loadtest.node.scenario import Arrivals

MILLISECONDS = 1000.0


def delays_seconds(
    arrivals: Arrivals, done_seconds: FloatArray, *, from_seconds: float, now_seconds: float
) -> FloatArray:
    """Returns the delays of the requests that arrived from `from_seconds` to `now_seconds`.

    A request that is not done counts with its age: a lower bound of its delay.
    """
    arrived = arrivals.arrival_seconds[arrivals.arrival_seconds < now_seconds]
    ends = np.full(len(arrived), float(now_seconds))
    done_count = min(len(done_seconds), len(arrived))
    ends[:done_count] = np.minimum(done_seconds[:done_count], now_seconds)
    delays: FloatArray = np.maximum(ends - arrived, 0.0)[arrived >= from_seconds]
    return delays


def delay_percentile_ms(delays: FloatArray, percentile: float) -> float | None:
    """Returns a percentile in milliseconds, None without requests."""
    return float(np.percentile(delays, percentile)) * MILLISECONDS if len(delays) else None


def container_result(
    container: Container,
    track: Track,
    done_seconds: FloatArray,
    *,
    from_seconds: float,
    now_seconds: float,
) -> ContainerResult:
    """Sums one container up over the counted part of a phase."""
    delays, finished_count = np.empty(0), 0
    if container.arrivals is not None:
        delays = delays_seconds(
            container.arrivals, done_seconds, from_seconds=from_seconds, now_seconds=now_seconds
        )
        first = int(np.searchsorted(container.arrivals.arrival_seconds, from_seconds))
        finished_count = max(0, int(np.sum(done_seconds <= now_seconds)) - first)
    workload = container.declared.workload
    return ContainerResult(
        name=container.name,
        role=workload.role,
        priority_class=workload.priority_class,
        admitted_millicores=container.declared.millicores,
        usage_core_seconds=track.counted.usage_core_seconds,
        reserved_core_seconds=track.counted.reserved_core_seconds,
        ceiling_core_seconds=track.counted.ceiling_core_seconds,
        throttled_fraction=track.counted.throttled_ratio,
        delay_p50_ms=delay_percentile_ms(delays, 50),
        delay_p99_ms=delay_percentile_ms(delays, 99),
        requests_arrived=len(delays),
        requests_finished=finished_count,
    )


def reaction(containers: Sequence[Container], tracks: Mapping[str, Track]) -> Reaction:
    """Pools the surges of all services, warm-up included."""
    watches = [tracks[c.name].surges for c in containers if c.declared.workload.role == "service"]
    seconds = [reaction for watch in watches for reaction in watch.reactions_seconds]
    return Reaction(
        p50=float(np.percentile(seconds, 50)) if seconds else None,
        p95=float(np.percentile(seconds, 95)) if seconds else None,
        count=len(seconds),
        unanswered=sum(watch.unanswered_count for watch in watches),
    )
