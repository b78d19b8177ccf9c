"""`mbcasctl`: what a person asks a running server."""

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from mbcas.v1 import market_pb2 as pb
from mbcas_server.ctl_bids import EXAMPLE, millicores, read_bids
from mbcas_server.ctl_client import Client, Connection, CtlError, UsageError, connected
from mbcas_server.ctl_explain import explain_view
from mbcas_server.ctl_picture import check_can_be_drawn, picture_of
from mbcas_server.ctl_plot import check_plot_path, write_picture
from mbcas_server.ctl_show import allocation_view, markets_view, to_plain, top_view

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
REFRESHES_PER_SECOND = 4.0


View = Callable[[list[pb.NodeMarket]], RenderableType]


class Output(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"


ServerOption = Annotated[
    str,
    typer.Option("--server", envvar="MBCAS_SERVER", help="Where the server is: HOST:PORT."),
]
TokenOption = Annotated[
    Path | None, typer.Option("--token-file", help="File with the server's bearer token.")
]
TlsOption = Annotated[
    Path | None,
    typer.Option("--tls-ca", help="File with the authority that signed the server's certificate."),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Allow plain text to another machine.")
]
OutputOption = Annotated[
    Output, typer.Option("-o", "--output", help="A table for people, JSON for programs.")
]
NodeOption = Annotated[
    list[str] | None, typer.Option("--node", help="Only this node; may be repeated.")
]
DEFAULT_SERVER = "127.0.0.1:7443"

app = typer.Typer(
    name="mbcasctl",
    help="Shows what the MBCAS server decides, and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def top(
    *,
    server: ServerOption = DEFAULT_SERVER,
    token_file: TokenOption = None,
    tls_ca: TlsOption = None,
    insecure: InsecureOption = False,
    output: OutputOption = Output.TABLE,
    node: NodeOption = None,
    once: Annotated[bool, typer.Option("--once", help="Print once and end.")] = False,
) -> None:
    """Shows each container's use, throttling, CPU, price and reason, as they change."""
    connection = Connection(server=server, token_file=token_file, tls_ca=tls_ca, insecure=insecure)
    with connected(connection) as client:
        if once:
            markets = client.markets(nodes=node or [], include_containers=True)
            _print_markets(markets, output, top_view)
        elif output is Output.JSON:
            for response in client.watch(nodes=node or []):
                sys.stdout.write(json.dumps(to_plain(response)) + "\n")
                sys.stdout.flush()
        else:
            _watch(client, node or [])


@app.command()
def markets(
    *,
    server: ServerOption = DEFAULT_SERVER,
    token_file: TokenOption = None,
    tls_ca: TlsOption = None,
    insecure: InsecureOption = False,
    output: OutputOption = Output.TABLE,
    node: NodeOption = None,
) -> None:
    """Shows each node's two markets: supply, demand, floors, targets, price."""
    connection = Connection(server=server, token_file=token_file, tls_ca=tls_ca, insecure=insecure)
    with connected(connection) as client:
        found = client.markets(nodes=node or [], include_containers=False)
    _print_markets(found, output, markets_view)


@app.command()
def explain(
    pod: Annotated[str, typer.Argument(metavar="[NAMESPACE/]POD", help="The pod.")],
    *,
    server: ServerOption = DEFAULT_SERVER,
    token_file: TokenOption = None,
    tls_ca: TlsOption = None,
    insecure: InsecureOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Shows the last decision about a pod, each step with its numbers."""
    connection = Connection(server=server, token_file=token_file, tls_ca=tls_ca, insecure=insecure)
    namespace, _, name = pod.rpartition("/")
    if not name or "/" in namespace:
        raise UsageError(f"{pod!r} is no pod: write POD or NAMESPACE/POD")
    with connected(connection) as client:
        decisions = client.explain(namespace or "default", name)
    if output is Output.JSON:
        _print_json({"decisions": [to_plain(decision) for decision in decisions]})
        return
    console = _console()
    for decision in decisions:
        console.print(explain_view(decision))


@app.command()
def allocate(  # noqa: PLR0913 - the parameters are the command's options.
    *,
    file: Annotated[Path, typer.Option("-f", "--file", help=f"YAML with bids, such as {EXAMPLE}.")],
    server: ServerOption = DEFAULT_SERVER,
    token_file: TokenOption = None,
    tls_ca: TlsOption = None,
    insecure: InsecureOption = False,
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
    connection = Connection(server=server, token_file=token_file, tls_ca=tls_ca, insecure=insecure)
    request = _allocate_request(file, node=node, capacity=capacity)
    if plot is not None:
        check_plot_path(plot)
        check_can_be_drawn(request)
    with connected(connection) as client:
        answer = client.allocate(request)
    if output is Output.JSON:
        _print_json(to_plain(answer))
    else:
        _console().print(allocation_view(request, answer))
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
        top_view([]), console=_console(), screen=True, refresh_per_second=REFRESHES_PER_SECOND
    ) as live:
        for response in client.watch(nodes=nodes):
            for removed in response.removed_nodes:
                shown.pop(removed, None)
            shown.update({market.node: market for market in response.markets})
            live.update(top_view([shown[name] for name in sorted(shown)]))


def _print_markets(found: list[pb.NodeMarket], output: Output, view: View) -> None:
    if output is Output.JSON:
        _print_json({"markets": [to_plain(market) for market in found]})
    else:
        _console().print(view(found))


def _print_json(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


def _console() -> Console:
    # Into a pipe, a line is as long as it needs to be.
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


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
