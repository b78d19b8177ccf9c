"""A container of a phase: what its owner declared, and the work that arrives at it."""

from dataclasses import dataclass

import numpy as np

from mbcas_loadtest.node.scenario import (
    REFERENCE_NODE_MILLICORES,
    WORKLOADS,
    Arrivals,
    draw_arrivals,
)
from mbcas_loadtest.node.statics import Declared, declare


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Container:
    """A container of the phase."""

    declared: Declared
    arrivals: Arrivals | None
    """None for a container that burns whatever it gets."""

    @property
    def name(self) -> str:
        return self.declared.workload.name


def draw_containers(*, seed: int, duration_seconds: float, node_millicores: int) -> list[Container]:
    """Declares values and draws arrivals; the same arguments give the same containers."""
    declared = declare(WORKLOADS, node_millicores=node_millicores)
    seeds = np.random.SeedSequence(seed).spawn(len(declared))
    return [
        Container(
            declared=one,
            arrivals=None
            if one.workload.load is None
            else draw_arrivals(
                one.workload.load,
                duration_seconds=duration_seconds,
                scale=node_millicores / REFERENCE_NODE_MILLICORES,
                generator=np.random.default_rng(one_seed),
            ),
        )
        for one, one_seed in zip(declared, seeds, strict=True)
    ]
