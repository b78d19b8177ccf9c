"""`mbcasctl`: what a person asks a running server."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.live import Live

from mbcas.v1 import market_pb2 as pb
from mbcas_server.ctl_bids import EXAMPLE, millicores, read_bids
from mbcas_server.ctl_client import Client, Connection, CtlError, UsageError, connected
from mbcas_server.ctl_explain import explain_view
from mbcas_server.ctl_operate import freeze, release
from mbcas_server.ctl_options import with_connection
from mbcas_server.ctl_output import Output, OutputOption, console, print_plain, print_stream
from mbcas_server.ctl_picture import check_can_be_drawn, picture_of
from mbcas_server.ctl_plot import check_plot_path, write_picture
from mbcas_server.ctl_recommend import NodeOption, recommend
from mbcas_server.ctl_show import allocation_view, markets_view, to_plain, top_view

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
REFRESHES_PER_SECOND = 4.0


View = Callable[[list[pb.NodeMarket]], RenderableType]


app = typer.Typer(
    name="mbcasctl",
    help="Shows what the MBCAS server decides, and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
@with_connection
def top(
    *,
    connection: Connection,
    output: OutputOption = Output.TABLE,
    node: NodeOption = None,
    once: Annotated[bool, typer.Option("--once", help="Print once and end.")] = False,
) -> None:
    """Shows each container's use, throttling, CPU, price and reason, as they change."""
    with connected(connection) as client:
        if once:
            markets = client.markets(nodes=node or [], include_containers=True)
            _print_markets(markets, output, top_view)
        elif output is not Output.TABLE:
            for response in client.watch(nodes=node or []):
                print_stream(to_plain(response), output)
        else:
            _watch(client, node or [])


@app.command()
@with_connection
def markets(
    *,
    connection: Connection,
    output: OutputOption = Output.TABLE,
    node: NodeOption = None,
) -> None:
    """Shows each node's two markets: supply, demand, floors, targets, price."""
    with connected(connection) as client:
        found = client.markets(nodes=node or [], include_containers=False)
    _print_markets(found, output, markets_view)


@app.command()
@with_connection
def explain(
    pod: Annotated[str, typer.Argument(metavar="[NAMESPACE/]POD", help="The pod.")],
    *,
    connection: Connection,
    output: OutputOption = Output.TABLE,
) -> None:
    """Shows the last decision about a pod, each step with its numbers."""
    namespace, _, name = pod.rpartition("/")
    if not name or "/" in namespace:
        raise UsageError(f"{pod!r} is no pod: write POD or NAMESPACE/POD")
    with connected(connection) as client:
        decisions = client.explain(namespace or "default", name)
        nodes = list({decision.node for decision in decisions})
        markets = client.markets(nodes=nodes, include_containers=False)
    frozen = any(market.frozen for market in markets)
    if output is not Output.TABLE:
        told = [to_plain(decision) for decision in decisions]
        print_plain({"frozen": frozen, "decisions": told}, output)
        return
    for decision in decisions:
        console().print(explain_view(decision, frozen=frozen))


@app.command()
@with_connection
def allocate(
    *,
    file: Annotated[Path, typer.Option("-f", "--file", help=f"YAML with bids, such as {EXAMPLE}.")],
    connection: Connection,
    output: OutputOption = Output.TABLE,
    node: Annotated[str, typer.Option("--node", help="Clear them with this node's bids.")] = "",
    capacity: Annotated[
        str, typer.Option("--capacity", help="Without a node: the CPU to share, such as 1600m.")
    ] = "",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw the answer into this file: .svg, .png or .pdf."),
    ] = None,
) -> None:
    """Asks what given bids would get, and what they would do to the price. Changes nothing."""
    request = _allocate_request(file, node=node, capacity=capacity)
    if plot is not None:
        check_plot_path(plot)
        check_can_be_drawn(request)
    with connected(connection) as client:
        answer = client.allocate(request)
    if output is not Output.TABLE:
        print_plain(to_plain(answer), output)
    else:
        console().print(allocation_view(request, answer))
    if plot is not None:
        write_picture(picture_of(request, answer), plot)


def _allocate_request(file: Path, *, node: str, capacity: str) -> pb.AllocateRequest:
    """Reads the file; an option wins over it."""
    if node and capacity:
        raise UsageError("give --node or --capacity, not both: a node has its own capacity")
    request = read_bids(file)
    if node:
        request.node, request.capacity_millicores = node, 0
    if capacity:
        request.node, request.capacity_millicores = "", millicores("--capacity", capacity)
    if not request.node and not request.capacity_millicores:
        raise UsageError(
            "give --node NODE, or --capacity such as 1600m, or one of them in the file"
        )
    return request


def _watch(client: Client, nodes: list[str]) -> None:
    shown: dict[str, pb.NodeMarket] = {}
    with Live(
        top_view([]), console=console(), screen=True, refresh_per_second=REFRESHES_PER_SECOND
    ) as live:
        for response in client.watch(nodes=nodes):
            for removed in response.removed_nodes:
                shown.pop(removed, None)
            shown.update({market.node: market for market in response.markets})
            live.update(top_view([shown[name] for name in sorted(shown)]))


def _print_markets(found: list[pb.NodeMarket], output: Output, view: View) -> None:
    if output is Output.TABLE:
        console().print(view(found))
    else:
        print_plain({"markets": [to_plain(market) for market in found]}, output)


for command in (recommend, freeze, release):
    app.command()(with_connection(command))


def main() -> None:
    """Runs `mbcasctl`: exits with 1 where the server fails, 2 where the question is wrong."""
    try:
        app()
    except UsageError as error:
        sys.stderr.write(f"mbcasctl: {error}\n")
        sys.exit(EXIT_USAGE)
    except CtlError as error:
        sys.stderr.write(f"mbcasctl: {error}\n")
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
