"""Clearing at two levels: pods share the node, then a pod's containers share what it got.

The pod is the bidder. Its need is the sum of its containers' needs and its floor the sum of their
floors, neither above its cap; so how a pod is split into containers changes nothing for others,
and what an idle container is promised serves its siblings first. Inside the pod the same rule runs
again with what the pod got as capacity and the admitted requests as weights.

Most pods have one container, and most of the others get their whole need: neither takes part in
the second clearing, whose cost is thus that of the pods that are short.

Example: a pod with containers of need 300 and 100, floors 200 and 200, cap 350, on a node that
gives it all it asks for. It bids need 350, floor 350. Inside, 350 are shared: b' = 200, 100, and
the surplus of 50 goes to the first, which alone asks for more: 250 and 100.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, clear, sum_by
from mbcas_core.units import BoolArray, FloatArray, IntArray

NO_CAP_MILLICORES = 1 << 52
"""A cap that bounds nothing: above any sum of needs, and exact in a float."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PodBids:
    """The bids of p pods on m nodes, and of the n containers they consist of."""

    pod: IntArray
    """(n,) index of the container's pod, ascending."""
    need_millicores: IntArray
    floor_millicores: IntArray
    weight: FloatArray
    """(n,) in its pod, above 0: see `container_weights`."""

    node: IntArray
    """(p,) index of the pod's node, ascending."""
    pod_cap_millicores: IntArray
    pod_weight: FloatArray
    """(p,) on its node, above 0."""

    def __post_init__(self) -> None:
        rows, pods = self.pod.shape, self.node.shape
        assert self.need_millicores.shape == rows, "one need per container"
        assert self.floor_millicores.shape == rows, "one floor per container"
        assert self.weight.shape == rows, "one weight per container"
        assert self.pod_cap_millicores.shape == pods, "one cap per pod"
        assert self.pod_weight.shape == pods, "one weight per pod"

    def sum_needs(self) -> IntArray:
        """Returns the sum of needs of each pod, shape (p,), its cap not applied."""
        return sum_by(self.pod, self.need_millicores, self.node.size)

    def as_pods(self) -> Bids:
        """Returns what the pods bid on their nodes."""
        floor = sum_by(self.pod, self.floor_millicores, self.node.size)
        return Bids(
            market=self.node,
            need_millicores=np.minimum(self.sum_needs(), self.pod_cap_millicores),
            floor_millicores=np.minimum(floor, self.pod_cap_millicores),
            weight=self.pod_weight,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PodClearing:
    """What every container and every pod gets."""

    allocation_millicores: IntArray
    """(n,); sums to the pod's allocation in each pod."""
    pods: Bids
    """What the pods bid."""
    nodes: Clearing
    """The clearing among pods: bids are the p pods, markets the m nodes."""
    pod_level: FloatArray
    """(p,) level among the pod's containers; inf where all got their need or there is only one."""


def container_weights(admitted_request_millicores: IntArray) -> FloatArray:
    """Returns the weights of containers inside their pods: their admitted requests.

    One without a request counts as 1m: a weight of 0 has no level, and where all have none, all
    are equal. (The kernel's least weight is likewise not 0.)
    """
    weight: FloatArray = np.maximum(admitted_request_millicores, 1).astype(np.float64)
    return weight


def clear_pods(
    bids: PodBids, capacity_millicores: IntArray, *, quantum_millicores: int
) -> PodClearing:
    """Clears m nodes at both levels; capacities have shape (m,) and are at least 0."""
    pods = bids.as_pods()
    nodes = clear(pods, capacity_millicores, quantum_millicores=quantum_millicores)
    return share_in_pods(bids, pods, nodes, quantum_millicores=quantum_millicores)


def share_in_pods(
    bids: PodBids, pods: Bids, nodes: Clearing, *, quantum_millicores: int
) -> PodClearing:
    """Clears what each pod got among its containers: the second level of `clear_pods`."""
    short: BoolArray = nodes.allocation_millicores < bids.sum_needs()
    allocation, pod_level = _share_in_pods(
        bids, nodes.allocation_millicores, short, quantum_millicores
    )
    return PodClearing(
        allocation_millicores=allocation, pods=pods, nodes=nodes, pod_level=pod_level
    )


def _share_in_pods(
    bids: PodBids, pod_allocation: IntArray, short: BoolArray, quantum: int
) -> tuple[IntArray, FloatArray]:
    """Returns what each container gets and the level in each pod."""
    pod_level: FloatArray = np.full(short.size, np.inf)
    if not short.any():
        return bids.need_millicores.copy(), pod_level
    allocation: IntArray = np.where(short[bids.pod], pod_allocation[bids.pod], bids.need_millicores)
    several = short & (np.bincount(bids.pod, minlength=short.size) > 1)
    if several.any():
        rows: IntArray = np.flatnonzero(several[bids.pod])
        renumbered = np.cumsum(several) - 1
        inside = clear(
            Bids(
                market=renumbered[bids.pod[rows]],
                need_millicores=bids.need_millicores[rows],
                floor_millicores=bids.floor_millicores[rows],
                weight=bids.weight[rows],
            ),
            pod_allocation[several],
            quantum_millicores=quantum,
        )
        allocation[rows] = inside.allocation_millicores
        pod_level[several] = inside.level
    return allocation, pod_level
