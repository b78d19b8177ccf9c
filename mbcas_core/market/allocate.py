"""One market cleared for a caller: what `Allocate` answers."""

from dataclasses import dataclass

from mbcas_core.views import PriceView


@dataclass(frozen=True, slots=True, kw_only=True)
class Bid:
    """What a pod of one container asks of a market; fields as in the API, checked by `allocate`."""

    id: str
    need_millicores: int
    floor_millicores: int
    cap_millicores: int
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What one bid would get."""

    id: str
    allocation_millicores: int
    rationed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocateAnswer:
    """What the market would give; allocations in the order of the bids."""

    allocations: list[Allocation]
    price: PriceView
    price_before: PriceView | None
    unallocated_millicores: int
