"""What there is to draw, and to say, of an answer of Allocate: see `ctl_plot`."""

from dataclasses import dataclass

from mbcas.v1 import market_pb2 as pb
from mbcas_server.ctl_client import UsageError
from mbcas_server.ctl_show import percent, printable

VESSELS_MAX = 200
NAME_MAX = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Vessel:
    """One bid, in millicores."""

    name: str
    weight: float
    floor: int
    """What is given first: at most the need."""
    need: int
    """Its cap applied."""
    got: int
    unused: int
    """What it was promised beyond its need: others have it while it does not ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What there is to draw, and to say."""

    vessels: tuple[Vessel, ...]
    level: float | None
    """Millicores of surplus per unit of weight; None where nobody is rationed."""
    level_before: float | None
    """The same without these bids; None without a node, too."""
    title: str
    note: str
    footer: str


def check_can_be_drawn(request: pb.AllocateRequest) -> None:
    """Says so before the server is asked.

    Raises:
        UsageError: There is nothing to draw, or more than anybody could see.
    """
    if not 0 < len(request.bids) <= VESSELS_MAX:
        raise UsageError(f"--plot: draws 1 to {VESSELS_MAX} bids, there are {len(request.bids)}")


def picture_of(request: pb.AllocateRequest, answer: pb.AllocateResponse) -> Picture:
    """Reads off an answer what there is to draw, for a request that can be drawn."""
    vessels = tuple(
        _vessel(bid, got, request.capacity_millicores)
        for bid, got in zip(request.bids, answer.allocations, strict=True)
    )
    return Picture(
        vessels=vessels,
        level=_level(answer.price),
        level_before=_level(answer.price_before) if answer.HasField("price_before") else None,
        title=_title(request, answer),
        note=_note(request),
        footer=_footer(answer),
    )


def _vessel(bid: pb.Bid, got: pb.Allocation, capacity_millicores: int) -> Vessel:
    cap = bid.cap_millicores or max(capacity_millicores * 3 // 4, bid.floor_millicores)
    need = min(bid.need_millicores, cap)
    if not got.rationed:
        need = got.allocation_millicores  # A node's default cap is not told, but met.
    elif not capacity_millicores and not bid.cap_millicores:
        need = bid.need_millicores
    return Vessel(
        name=printable(bid.id, NAME_MAX),
        weight=bid.weight,
        floor=min(bid.floor_millicores, need),
        need=need,
        got=got.allocation_millicores,
        unused=max(bid.floor_millicores - need, 0),
    )


def _level(price: pb.Price) -> float | None:
    return 1000 / price.shadow_price if price.shadow_price > 0 else None


def _title(request: pb.AllocateRequest, answer: pb.AllocateResponse) -> str:
    count = len(request.bids)
    bids = f"{count} bid{'s' if count > 1 else ''}"
    if request.node:
        where = f"{bids} beside the pods of {printable(request.node, NAME_MAX)}"
    else:
        where = f"{request.capacity_millicores}m for {bids}"
    if not answer.price.shadow_price:
        left = answer.unallocated_millicores
        return f"{where}: enough for all, {left}m left over"
    rationed = sum(item.rationed for item in answer.allocations)
    missing = percent(answer.price.shortage)
    return f"{where}: {missing} of what is needed is missing, {rationed} rationed"


def _note(request: pb.AllocateRequest) -> str:
    note = (
        "A vessel is as wide as its weight; areas are CPU. Floors are given first. The rest is "
        "poured in and stands at one level,\nexcept in vessels that are full below it."
    )
    return note + (" The node's own pods, at the same level, are not drawn." * bool(request.node))


def _footer(answer: pb.AllocateResponse) -> str:
    price = answer.price
    words = f"price: {_price(price)}"
    if price.shadow_price:
        words += f", normalized {price.shadow_price_normalized:.2f}"
    if answer.HasField("price_before"):
        words += f"; without these bids: {_price(answer.price_before)}"
    return words


def _price(price: pb.Price) -> str:
    if not price.shadow_price:
        return "0, there is plenty"
    return (
        f"{price.shadow_price:,.4g} of weight per core (1 / level), shortage {price.shortage:.2f}"
    )
