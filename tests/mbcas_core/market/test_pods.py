import numpy as np
from hypothesis import given

from mbcas_core.market.clearing import sum_by
from mbcas_core.market.pods import PodBids, clear_pods, container_weights
from tests.mbcas_core.market.plain import PlainMarket, clear_plainly
from tests.mbcas_core.market.strategies import Nodes, nodes_of_pods


def test_the_worked_example_clears_as_the_module_says() -> None:
    bids = PodBids(
        pod=np.array([0, 0]),
        need_millicores=np.array([300, 100]),
        floor_millicores=np.array([200, 200]),
        weight=np.array([1.0, 1.0]),
        node=np.array([0]),
        pod_cap_millicores=np.array([350]),
        pod_weight=np.array([400.0]),
    )

    cleared = clear_pods(bids, np.array([1000]), quantum_millicores=10)

    assert cleared.allocation_millicores.tolist() == [250, 100]


@given(nodes_of_pods())
def test_both_levels_agree_with_hand_calculation_to_the_millicore(nodes: Nodes) -> None:
    bids = nodes.bids

    cleared = clear_pods(bids, nodes.capacity, quantum_millicores=nodes.quantum)

    pod_allocation = cleared.nodes.allocation_millicores
    for node, capacity in enumerate(nodes.capacity):
        pods = np.flatnonzero(bids.node == node)
        needs = [int(bids.need_millicores[bids.pod == pod].sum()) for pod in pods]
        floors = [int(bids.floor_millicores[bids.pod == pod].sum()) for pod in pods]
        caps = bids.pod_cap_millicores[pods].tolist()
        by_hand = clear_plainly(
            PlainMarket(
                [min(need, cap) for need, cap in zip(needs, caps, strict=True)],
                [min(floor, cap) for floor, cap in zip(floors, caps, strict=True)],
                bids.pod_weight[pods].tolist(),
                int(capacity),
                nodes.quantum,
            )
        )
        assert pod_allocation[pods].tolist() == by_hand.allocations
    for pod in range(bids.node.size):
        rows = bids.pod == pod
        inside = clear_plainly(
            PlainMarket(
                bids.need_millicores[rows].tolist(),
                bids.floor_millicores[rows].tolist(),
                bids.weight[rows].tolist(),
                int(pod_allocation[pod]),
                nodes.quantum,
            )
        )
        assert cleared.allocation_millicores[rows].tolist() == inside.allocations


@given(nodes_of_pods())
def test_containers_share_exactly_what_their_pod_got(nodes: Nodes) -> None:
    cleared = clear_pods(nodes.bids, nodes.capacity, quantum_millicores=nodes.quantum)

    of_pods = sum_by(nodes.bids.pod, cleared.allocation_millicores, nodes.bids.node.size)
    assert of_pods.tolist() == cleared.nodes.allocation_millicores.tolist()
    assert (of_pods <= nodes.bids.pod_cap_millicores).all()


def test_containers_without_requests_share_equally() -> None:
    assert container_weights(np.array([0, 0])).tolist() == [1.0, 1.0]
    assert container_weights(np.array([250, 0])).tolist() == [250.0, 1.0]
