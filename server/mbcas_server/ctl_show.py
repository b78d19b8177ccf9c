"""Tables of `mbcasctl`, and messages as plain JSON."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mbcas.v1 import market_pb2 as pb

NOTHING = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
HOT_RATIO = 0.05
SMALL_RATIO = 0.01
ID_MAX = 48
ABUNDANT = "plenty"
GOOD_REASONS = {"on target", "within band", "raised", "observing"}
BUSY_REASONS = {"emergency", "emergency held", "rationed", "waiting supply", "floors reduced"}


def to_plain(message: Message) -> dict[str, Any]:
    """Returns a message as JSON has it: every field there, null where it is absent.

    Unlike protobuf's own mapping, whole numbers are numbers, as programs expect them.
    """
    return {field.name: _plain(message, field) for field in message.DESCRIPTOR.fields}


def _plain(message: Message, field: Any) -> object:  # noqa: ANN401 - two types of one meaning.
    value = getattr(message, field.name)
    if field.is_repeated:
        return [_plain_value(item, field) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _plain_value(value, field)


def _plain_value(value: Any, field: Any) -> object:  # noqa: ANN401 - any field's.
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, Message):
        return to_plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    return value


def word(enum: Any, number: int) -> str:  # noqa: ANN401 - generated enums share no type.
    """Returns an enum value as people write it: REASON_WAITING_SUPPLY is "waiting supply"."""
    prefix = enum.DESCRIPTOR.values_by_number[0].name.removesuffix("UNSPECIFIED")
    known = enum.DESCRIPTOR.values_by_number.get(number)
    return str(number) if known is None else _lower(known.name.removeprefix(prefix))


def printable(text: str, most: int) -> str:
    """Returns what a caller named, fit for a terminal or a picture, of so many letters at most."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= most else shown[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _lower(name: str) -> str:
    return name.lower().replace("_", " ")


def cpu(millicores: float | None) -> str:
    """Returns CPU as people write it."""
    return NOTHING if millicores is None else f"{millicores:.0f}m"


def percent(ratio: float | None) -> str:
    """Returns a share as people write it."""
    if ratio is None:
        return NOTHING
    return (
        f"{100 * ratio:.0f} %" if ratio == 0 or ratio >= HOT_RATIO / 5 else f"{100 * ratio:.1f} %"
    )


def price(value: pb.Price) -> str:
    """Returns a price: the weight per core, and how short the CPU is."""
    if not value.shadow_price:
        return ABUNDANT
    return f"{value.shadow_price:,.4g} (short {percent(value.shortage)})"


def optional(message: Message, field: str) -> Any:  # noqa: ANN401 - any field's.
    """Returns a field, None where it is absent."""
    return getattr(message, field) if message.HasField(field) else None


def hidden_line(markets: Sequence[pb.NodeMarket]) -> str:
    """Says how many containers were left out; nothing where none was."""
    count = sum(market.hidden_containers for market in markets)
    if not count:
        return ""
    return f"{containers(count)} in namespaces whose pods you may not get, not shown."


def containers(count: int) -> str:
    """Returns so many containers as people write it."""
    return "1 container" if count == 1 else f"{count} containers"


def top_view(markets: Sequence[pb.NodeMarket]) -> RenderableType:
    """Returns one table of all containers, each node's market above its own."""
    if not markets:
        return Text("No shim has reported a node yet.", style="dim")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("container", no_wrap=True, overflow="ellipsis", min_width=12)
    for name in ("usage", "throttled", "reservation", "ceiling", "need"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("price", no_wrap=True)
    table.add_column("reason", no_wrap=True)
    for market in markets:
        table.add_row(_node_line(market), *[""] * 5, _node_price(market), _node_state(market))
        for row in market.containers:
            table.add_row(*_top_row(row, market))
    hidden = hidden_line(markets)
    return Group(table, Text(hidden, style="dim")) if hidden else table


def _node_line(market: pb.NodeMarket) -> Text:
    billed, supply = (
        market.reservation.billed_millicores,
        market.reservation.supply_millicores,
    )
    return Text.assemble(
        (market.node, "bold cyan"), (f"  {cpu(billed)} of {cpu(supply)} reserved", "dim")
    )


def _node_price(market: pb.NodeMarket) -> Text:
    rationed = market.reservation.price.shadow_price or market.ceiling.price.shadow_price
    return Text("rationed" if rationed else ABUNDANT, style="yellow" if rationed else "dim")


def _node_state(market: pb.NodeMarket) -> Text:
    if not market.live:
        return Text("its shim is silent: nothing is decided", style="red")
    if market.frozen:
        return Text("writes are frozen", style="magenta")
    return Text(_refusals(market), style="yellow")


def _refusals(market: pb.NodeMarket) -> str:
    count = market.refusing_pods
    if not count:
        return ""
    return "1 pod refuses its share" if count == 1 else f"{count} pods refuse their shares"


def _top_row(row: pb.ContainerMarket, market: pb.NodeMarket) -> list[RenderableType]:
    throttled = optional(row, "throttled_ratio")
    need = optional(row.ceiling, "need_millicores")
    good = market.ceiling
    if need is None or not good.price.shadow_price:
        good = market.reservation
    reason = word(pb.Reason, row.reason)
    refuses = ", refuses" if row.refused else ""
    style = "green" if reason in GOOD_REASONS else "yellow" if reason in BUSY_REASONS else ""
    return [
        Text(f"  {row.namespace}/{row.pod}/{row.container}"),
        cpu(optional(row, "usage_millicores")),
        Text(percent(throttled), style="red" if throttled and throttled > HOT_RATIO else ""),
        _move(row.reservation),
        _move(row.ceiling),
        cpu(need if need is not None else optional(row.reservation, "need_millicores")),
        price(good.price),
        Text.assemble((reason, style), (refuses, "yellow")),
    ]


def _move(good: pb.ContainerGood) -> str:
    """Returns what is applied, and where it is going if that is somewhere else."""
    applied = optional(good, "applied_millicores")
    target = optional(good, "target_millicores")
    if target is None or applied == target:
        return cpu(applied)
    return f"{cpu(applied)} → {cpu(target)}"


def markets_view(markets: Sequence[pb.NodeMarket]) -> RenderableType:
    """Returns a table of markets, two lines each."""
    if not markets:
        return Text("No shim has reported a node yet.", style="dim")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("node", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("round", justify="right")
    table.add_column("good", no_wrap=True)
    for name in ("supply", "demand", "floors", "targets", "billed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("price", no_wrap=True)
    for market in markets:
        state = "live" if market.live else "silent"
        state += ", frozen" if market.frozen else ""
        state += f", {_refusals(market)}" if market.refusing_pods else ""
        for good, name in ((market.reservation, "reservation"), (market.ceiling, "ceiling")):
            first = name == "reservation"
            table.add_row(
                Text(market.node, style="bold cyan") if first else "",
                Text(state, style="" if market.live else "red") if first else "",
                str(market.round) if first else "",
                name,
                cpu(good.supply_millicores),
                cpu(good.demand_millicores),
                cpu(good.floor_millicores),
                cpu(good.target_millicores),
                cpu(good.billed_millicores),
                _scarcity(good),
            )
    return table


def _scarcity(good: pb.GoodMarket) -> str:
    """Returns a good's price, and in words what it does not show."""
    words = [price(good.price)]
    if good.floors_reduced:
        words.append("floors reduced")
    if good.exhausted_by_admitted_limits:
        words.append("ceilings exhausted by admitted limits")
    return ", ".join(words)


def allocation_view(request: pb.AllocateRequest, answer: pb.AllocateResponse) -> RenderableType:
    """Returns what each bid would get, and the price."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("bid", no_wrap=True)
    for name in ("need", "floor", "weight", "would get"):
        table.add_column(name, justify="right")
    table.add_column("")
    for bid, got in zip(request.bids, answer.allocations, strict=True):
        table.add_row(
            Text(printable(bid.id, ID_MAX)),
            cpu(bid.need_millicores),
            cpu(bid.floor_millicores),
            f"{bid.weight:g}",
            Text(cpu(got.allocation_millicores), style="bold"),
            _outcome(bid, got),
        )
    where = f"on {request.node}" if request.node else f"of {cpu(request.capacity_millicores)}"
    lines = [f"{cpu(answer.unallocated_millicores)} {where} left over.", _price_line(answer)]
    return Group(table, Text(), *(Text(line) for line in lines))


def _outcome(bid: pb.Bid, got: pb.Allocation) -> Text:
    if got.rationed:
        return Text("rationed", style="yellow")
    # Without scarcity, only its cap gives a bid less than it needs.
    met = got.allocation_millicores >= bid.need_millicores
    return Text("all it needs" if met else "all its cap allows", style="green")


def _price_line(answer: pb.AllocateResponse) -> str:
    now = price(answer.price)
    if answer.HasField("price_before"):
        return f"Price: {price(answer.price_before)} before, {now} with these bids."
    return f"Price: {now}."
