"""`mbcasctl recommend`: what MBCAS would set, and how to set it by hand."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mbcas.v1 import market_pb2 as pb
from mbcas_server.ctl_client import Connection, UsageError, connected
from mbcas_server.ctl_output import Output, OutputOption, console, print_plain
from mbcas_server.ctl_show import cpu, hidden_line, optional, word

NodeOption = Annotated[
    list[str] | None, typer.Option("--node", help="Only this node; may be repeated.")
]


def recommend(
    *,
    connection: Connection,
    pod: Annotated[
        str, typer.Argument(metavar="[[NAMESPACE/]POD]", help="Only this pod.", show_default=False)
    ] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Only this one.")] = "",
    node: NodeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Shows what MBCAS would set for each container; -o json has a kubectl patch for each."""
    within, _, name = pod.rpartition("/")
    if "/" in within or (pod and not name):
        raise UsageError(f"{pod!r} is no pod: write POD or NAMESPACE/POD")
    namespace = within or namespace or ("default" if name else "")
    with connected(connection) as client:
        markets = client.markets(nodes=node or [], include_containers=True)
    rows = [
        (market, row)
        for market in markets
        for row in market.containers
        if row.namespace == (namespace or row.namespace) and row.pod == (name or row.pod)
    ]
    if output is Output.TABLE:
        console().print(_view(rows, markets))
    else:
        print_plain({"recommendations": [_plain(market, row) for market, row in rows]}, output)


def _view(
    rows: Sequence[tuple[pb.NodeMarket, pb.ContainerMarket]], markets: Sequence[pb.NodeMarket]
) -> RenderableType:
    if not rows:
        return Group(Text("No such container was reported.", style="dim"), *_hidden(markets))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("container", no_wrap=True, overflow="ellipsis", min_width=12)
    for name in ("node", "mode"):
        table.add_column(name, no_wrap=True)
    for name in ("request", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why")
    for market, row in rows:
        table.add_row(
            Text(f"{row.namespace}/{row.pod}/{row.container}"),
            Text(market.node, style="cyan"),
            word(pb.Mode, row.mode),
            _change(row, row.reservation),
            _change(row, row.ceiling),
            row.skip_reason or word(pb.Reason, row.reason),
        )
    return Group(table, *_hidden(markets))


def _hidden(markets: Sequence[pb.NodeMarket]) -> Iterator[Text]:
    line = hidden_line(markets)
    if line:
        yield Text(line, style="dim")


def _change(row: pb.ContainerMarket, good: pb.ContainerGood) -> Text:
    now, wanted = optional(good, "applied_millicores"), _wanted(row, good)
    if wanted is None or wanted == now:
        return Text(cpu(now), style="dim")
    return Text(f"{cpu(now)} → {cpu(wanted)}", style="bold")


def _wanted(row: pb.ContainerMarket, good: pb.ContainerGood) -> int | None:
    """Returns what would be set; None where nothing would be."""
    if row.skip_reason or row.mode == pb.MODE_OFF:
        return None
    target: int | None = optional(good, "target_millicores")
    return target


def _plain(market: pb.NodeMarket, row: pb.ContainerMarket) -> dict[str, Any]:
    goods = {"request": row.reservation, "limit": row.ceiling}
    changes = {
        name: wanted
        for name, good in goods.items()
        if (wanted := _wanted(row, good)) not in (None, optional(good, "applied_millicores"))
    }
    return {
        "namespace": row.namespace,
        "pod": row.pod,
        "pod_uid": row.pod_uid,
        "container": row.container,
        "node": market.node,
        "mode": word(pb.Mode, row.mode),
        "policy": word(pb.Policy, row.policy).replace(" ", "-"),
        "skip_reason": row.skip_reason or None,
        "reason": pb.Reason.Name(row.reason) if row.reason in pb.Reason.values() else row.reason,
        **{
            f"{which}_{name}_millicores": optional(good, f"{field}_millicores")
            for name, good in goods.items()
            for which, field in (("admitted", "admitted"), ("current", "applied"))
        },
        "recommended_request_millicores": _wanted(row, row.reservation),
        "recommended_limit_millicores": _wanted(row, row.ceiling),
        "patch": _patch(row, changes) if changes else None,
        "command": _command(row, changes) if changes else None,
    }


def _patch(row: pb.ContainerMarket, changes: Mapping[str, int | None]) -> dict[str, Any]:
    """Returns the body of a patch of `pods/resize`; the uid makes it fail on another pod."""
    resources = {f"{name}s": {"cpu": cpu(amount)} for name, amount in changes.items()}
    return {
        "metadata": {"uid": row.pod_uid},
        "spec": {"containers": [{"name": row.container, "resources": resources}]},
    }


def _command(row: pb.ContainerMarket, changes: Mapping[str, int | None]) -> str:
    patch = json.dumps(_patch(row, changes), separators=(",", ":"))
    return f"kubectl -n {row.namespace} patch pod {row.pod} --subresource resize -p '{patch}'"
