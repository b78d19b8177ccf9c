"""What a node's market of reservations may hand out."""

import numpy as np

from mbcas_core.units import IntArray


def find_supply(
    available_millicores: IntArray, reserve_millicores: IntArray, floor_sum_millicores: IntArray
) -> IntArray:
    """Returns what a node's market may hand out: the reserve bounds the surplus, not the floors.

    Negative where fixed reservations and unmanaged pods exceed the node.
    """
    supply: IntArray = np.maximum(
        available_millicores - reserve_millicores,
        np.minimum(available_millicores, floor_sum_millicores),
    )
    return supply
