"""The values that a sensible owner would declare, by a rule that is stated and computed.

A service's owner runs it once under the same kind of load (another seed), looks at the mean use of
every 15 s, takes the 95th percentile and adds 20 %. The owner of an idle container never measured
and declared a round number. The batch job gets what is left: the node is packed full, as a
scheduler packs it. Request and limit are the same number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbcas_core.units import MILLICORES_PER_CORE, FloatArray
from mbcas_loadtest.node.scenario import (
    REFERENCE_NODE_MILLICORES,
    Arrivals,
    Load,
    Workload,
    draw_arrivals,
)

PROFILE_SEED = 1000  # Apart from every run's arrivals by its own stream, whatever their seed.
PROFILE_SECONDS = 1800
WINDOW_SECONDS = 15
PERCENTILE = 95
MARGIN = 1.2
IDLE_MILLICORES = 600
STEP_MILLICORES = 10

STATIC_RULE = (
    f"Services: the {PERCENTILE}th percentile of the {WINDOW_SECONDS} s mean use in a profiling "
    f"run of {PROFILE_SECONDS // 60} minutes under another seed, times {MARGIN:g}, rounded up to "
    f"{STEP_MILLICORES}m. The idle container: {IDLE_MILLICORES}m on a node of "
    f"{REFERENCE_NODE_MILLICORES}m, never measured. The batch job: what is left of the node. "
    "Request = limit."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A workload with the one number its owner declared, which is also the admitted value."""

    workload: Workload
    millicores: int


def declare(workloads: Sequence[Workload], *, node_millicores: int) -> list[Declared]:
    """Declares request = limit for each workload; the sum is the node."""
    scale = node_millicores / REFERENCE_NODE_MILLICORES
    seeds = np.random.SeedSequence([PROFILE_SEED, 0x70726F66]).spawn(len(workloads))
    measured = {
        workload.name: _declare_service(workload.load, scale, np.random.default_rng(seed))
        for workload, seed in zip(workloads, seeds, strict=True)
        if workload.role == "service" and workload.load is not None
    }
    idle = {w.name: round(IDLE_MILLICORES * scale) for w in workloads if w.role == "idle"}
    batches = [w.name for w in workloads if w.role == "batch"]
    left = node_millicores - sum(measured.values()) - sum(idle.values())
    assert left >= STEP_MILLICORES * max(1, len(batches)), "the scenario leaves room for the batch"
    batch = {name: left // len(batches) for name in batches}
    millicores = measured | idle | batch
    return [Declared(workload=w, millicores=millicores[w.name]) for w in workloads]


def mean_use_millicores(arrivals: Arrivals, *, duration_seconds: int) -> FloatArray:
    """Returns the mean use of every window of 15 s, one for each second, were nothing limited."""
    seconds = arrivals.arrival_seconds.astype(np.int64)
    use = np.bincount(seconds, weights=arrivals.work_seconds, minlength=duration_seconds)
    total = np.concatenate([[0.0], np.cumsum(use[:duration_seconds])])
    mean: FloatArray = (total[WINDOW_SECONDS:] - total[:-WINDOW_SECONDS]) / WINDOW_SECONDS
    return mean * MILLICORES_PER_CORE


def _declare_service(load: Load, scale: float, generator: np.random.Generator) -> int:
    profile = draw_arrivals(
        load, duration_seconds=PROFILE_SECONDS, scale=scale, generator=generator
    )
    use = mean_use_millicores(profile, duration_seconds=PROFILE_SECONDS)
    wish = MARGIN * float(np.percentile(use, PERCENTILE))
    return int(np.ceil(wish / STEP_MILLICORES)) * STEP_MILLICORES
