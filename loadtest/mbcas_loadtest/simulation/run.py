"""Runs one system at one value of its knob in one world, in virtual time."""

from dataclasses import dataclass

from mbcas_loadtest.simulation.outcome import Outcome
from mbcas_loadtest.simulation.system import Rival
from mbcas_loadtest.simulation.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What a run is like, beyond world and system."""

    cluster_nodes: int = 60
    """Of the cluster that the world's m nodes are a sample of: it sets the resize budget, of which
    they have their share."""
    pod_spacing_seconds: float = 3.0
    """Time between two PATCHes of one pod; below it a real kubelet takes 0.5 to 2 s for the next.
    Beside it, MBCAS keeps its own."""
    tau_ratio: float = 0.05
    """Throttling up to which a container counts as settled."""
    series_node: int | None = None
    """Of which of the m nodes to keep a series."""


def simulate(
    world: World, rival: Rival, knob: float, *, settings: RunSettings | None = None
) -> Outcome:
    """Lives through the world once.

    The same arguments give the same outcome: every random draw comes from a stream of its node's
    own seed, whatever other nodes there are and whatever the system does.
    """
    raise NotImplementedError
