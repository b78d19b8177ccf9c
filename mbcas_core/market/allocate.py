"""One market cleared for a caller: what `Allocate` answers.

Without a node, the market consists of the given bids and their capacity, in quanta of 1m. With a
node, the bids join the pods that bid there for reservations: the answer is what they would get if
they ran there, and what that would do to the price.

Here alone bids come from outside, so here alone they are checked; every unusable field is named.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from mbcas_core.errors import FieldError, FloorsExceedCapacityError, InvalidInputError
from mbcas_core.market.clearing import Bids, Clearing, clear, sum_counted_floors
from mbcas_core.market.price import find_prices
from mbcas_core.market.supply import find_supply
from mbcas_core.units import FloatArray, IntArray
from mbcas_core.views import PriceView

MAX_BIDS = 10_000
MAX_BID_MILLICORES = 10**9
MAX_ID_BYTES = 256
MIN_WEIGHT = 1e-9
MAX_WEIGHT = 1e12
MAX_CAPACITY_MILLICORES = 2**63 - 1  # As far as the wire's integers go.
MAX_ERRORS = 100
"""A caller with more unusable fields than this learns about the rest next time."""


class AnyBid(Protocol):
    """A bid, or the message of one: making ten thousand bids of messages takes a while."""

    @property
    def id(self) -> str: ...
    @property
    def need_millicores(self) -> int: ...
    @property
    def floor_millicores(self) -> int: ...
    @property
    def cap_millicores(self) -> int: ...
    @property
    def weight(self) -> float: ...


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


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveMarket:
    """One node's market of reservations as its last round left it."""

    need_millicores: IntArray
    """(p,) of each pod, its cap applied."""
    floor_millicores: IntArray
    weight: FloatArray
    available_millicores: int
    """Allocatable less unmanaged less fixed reservations; may be negative."""
    reserve_millicores: int
    quantum_millicores: int
    default_cap_millicores: int
    """Cap of a bid that gives none, unless its floor is larger."""

    @property
    def bids(self) -> Bids:
        """The pods that bid there."""
        return Bids(
            market=np.zeros(self.need_millicores.size, dtype=np.int64),
            need_millicores=self.need_millicores,
            floor_millicores=self.floor_millicores,
            weight=self.weight,
        )

    @cached_property
    def price(self) -> PriceView:
        """What these pods alone make the price."""
        capacity = np.array([_find_capacity(self.bids, self)])
        clearing = clear(self.bids, capacity, quantum_millicores=self.quantum_millicores)
        return find_prices(clearing, capacity).of(0)


def allocate(bids: Sequence[AnyBid], *, capacity_millicores: int) -> AllocateAnswer:
    """Clears a market that consists of these bids.

    Raises:
        InvalidInputError: A bid or the capacity is unusable.
        FloorsExceedCapacityError: The floors, each counted up to its need, do not fit.
    """
    errors = []
    if not 1 <= capacity_millicores <= MAX_CAPACITY_MILLICORES:
        errors.append(
            FieldError(
                "capacity_millicores",
                f"is {capacity_millicores}, must be from 1 to {MAX_CAPACITY_MILLICORES}",
            )
        )
    _check(bids, errors)
    market = _one_market(bids, default_cap_millicores=capacity_millicores * 3 // 4)
    clearing = _clear_one(market, capacity_millicores, quantum_millicores=1)
    return _answer(bids, market, clearing, capacity_millicores, price_before=None)


def allocate_on_node(bids: Sequence[AnyBid], live: LiveMarket) -> AllocateAnswer:
    """Clears a node's live bids together with these.

    Raises:
        InvalidInputError: A bid is unusable.
        FloorsExceedCapacityError: The floors, the live ones included, do not fit the node.
    """
    _check(bids, [])
    before = live.bids
    given = _one_market(bids, default_cap_millicores=live.default_cap_millicores)
    # The given bids come first: their rows are those of the answer.
    both = Bids(
        market=np.concatenate([given.market, before.market]),
        need_millicores=np.concatenate([given.need_millicores, before.need_millicores]),
        floor_millicores=np.concatenate([given.floor_millicores, before.floor_millicores]),
        weight=np.concatenate([given.weight, before.weight]),
    )
    capacity = _find_capacity(both, live)
    clearing = _clear_one(both, capacity, quantum_millicores=live.quantum_millicores)
    return _answer(bids, both, clearing, capacity, price_before=live.price)


def _check(bids: Sequence[AnyBid], errors: list[FieldError]) -> None:
    """Raises if there are errors, those already found included."""
    if len(bids) > MAX_BIDS:
        errors.append(FieldError("bids", f"{len(bids)} bids, at most {MAX_BIDS} are allowed"))
        raise InvalidInputError(errors)
    seen: set[str] = set()
    for index, bid in enumerate(bids):
        errors += [
            FieldError(f"bids[{index}].{name}", reason) for name, reason in _find_faults(bid, seen)
        ]
        seen.add(bid.id)
        if len(errors) >= MAX_ERRORS:
            break
    if errors:
        raise InvalidInputError(errors[:MAX_ERRORS])


def _find_faults(bid: AnyBid, seen: set[str]) -> Iterator[tuple[str, str]]:
    """Yields (field, reason) of each unusable field."""
    if not bid.id:
        yield "id", "is empty, every bid needs one"
    elif len(bid.id.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        yield "id", f"is longer than {MAX_ID_BYTES} bytes"
    elif bid.id in seen:
        yield "id", f"{bid.id!r} is used by an earlier bid, ids must differ"
    for name in ("need_millicores", "floor_millicores", "cap_millicores"):
        value = getattr(bid, name)
        if not 0 <= value <= MAX_BID_MILLICORES:
            yield name, f"is {value}, must be from 0 to {MAX_BID_MILLICORES}"
    if 0 < bid.cap_millicores < bid.floor_millicores:
        yield (
            "cap_millicores",
            f"is {bid.cap_millicores}, below the floor of {bid.floor_millicores}",
        )
    if not (math.isfinite(bid.weight) and MIN_WEIGHT <= bid.weight <= MAX_WEIGHT):
        yield "weight", f"is {bid.weight}, must be from {MIN_WEIGHT:g} to {MAX_WEIGHT:g}"


def _one_market(bids: Sequence[AnyBid], *, default_cap_millicores: int) -> Bids:
    """Returns checked bids as the rows of one market, caps applied."""
    floor = np.array([bid.floor_millicores for bid in bids], dtype=np.int64)
    cap = np.array([bid.cap_millicores for bid in bids], dtype=np.int64)
    cap = np.where(cap > 0, cap, np.maximum(default_cap_millicores, floor))
    need = np.array([bid.need_millicores for bid in bids], dtype=np.int64)
    return Bids(
        market=np.zeros(len(bids), dtype=np.int64),
        need_millicores=np.minimum(need, cap),
        floor_millicores=floor,
        weight=np.array([bid.weight for bid in bids], dtype=np.float64),
    )


def _find_capacity(bids: Bids, live: LiveMarket) -> int:
    """Returns what the node hands out when these bid."""
    supply = find_supply(
        np.array([live.available_millicores]),
        np.array([live.reserve_millicores]),
        sum_counted_floors(bids, 1),
    )
    return max(int(supply[0]), 0)


def _clear_one(bids: Bids, capacity_millicores: int, *, quantum_millicores: int) -> Clearing:
    """Clears a single market whose floors must fit."""
    floor_sum = int(sum_counted_floors(bids, 1)[0])
    if floor_sum > capacity_millicores:
        raise FloorsExceedCapacityError(
            floor_millicores=floor_sum, capacity_millicores=capacity_millicores
        )
    return clear(bids, np.array([capacity_millicores]), quantum_millicores=quantum_millicores)


def _answer(
    bids: Sequence[AnyBid],
    market: Bids,
    clearing: Clearing,
    capacity_millicores: int,
    *,
    price_before: PriceView | None,
) -> AllocateAnswer:
    """Reads the answer off a clearing whose first rows are the bids.

    A bid is rationed where scarcity, not its own cap, keeps it below its need.
    """
    got = clearing.allocation_millicores
    rationed = got < market.need_millicores
    return AllocateAnswer(
        allocations=[
            Allocation(id=bid.id, allocation_millicores=int(got[row]), rationed=bool(rationed[row]))
            for row, bid in enumerate(bids)
        ],
        price=find_prices(clearing, np.array([capacity_millicores])).of(0),
        price_before=price_before,
        unallocated_millicores=capacity_millicores - int(got.sum()),
    )
