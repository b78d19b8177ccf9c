"""`mbcasctl`: what a person asks a running server."""

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console, RenderableType
from rich.live import Live

from mbcas.v1 import market_pb2 as pb
from mbcas_server.annotations import parse_cpu
from mbcas_server.ctl_client import Client, Connection, CtlError, UsageError, connected
from mbcas_server.ctl_explain import explain_view
from mbcas_server.ctl_show import allocation_view, markets_view, to_plain, top_view

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
BIDS_FILE_EXAMPLE = "bids: [{id: api, need: 800m, floor: 300m, weight: 300}]"
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
def allocate(
    *,
    file: Annotated[
        Path, typer.Option("-f", "--file", help=f"YAML with bids, such as {BIDS_FILE_EXAMPLE}.")
    ],
    server: ServerOption = DEFAULT_SERVER,
    token_file: TokenOption = None,
    tls_ca: TlsOption = None,
    insecure: InsecureOption = False,
    output: OutputOption = Output.TABLE,
    node: Annotated[str, typer.Option("--node", help="Clear them with this node's bids.")] = "",
    capacity: Annotated[
        str, typer.Option("--capacity", help="Without a node: the CPU to share, such as 1600m.")
    ] = "",
) -> None:
    """Asks what given bids would get, and what they would do to the price. Changes nothing."""
    connection = Connection(server=server, token_file=token_file, tls_ca=tls_ca, insecure=insecure)
    request = read_bids(file)
    if node and capacity:
        raise UsageError("give --node or --capacity, not both: a node has its own capacity")
    if not node and not capacity and not request.capacity_millicores:
        raise UsageError("give --node NODE, or --capacity such as 1600m")
    if node:
        request.node, request.capacity_millicores = node, 0
    if capacity:
        request.capacity_millicores = _millicores("--capacity", capacity)
    with connected(connection) as client:
        answer = client.allocate(request)
    if output is Output.JSON:
        _print_json(to_plain(answer))
    else:
        _console().print(allocation_view(request, answer))


def read_bids(path: Path) -> pb.AllocateRequest:
    """Reads a file of bids.

    Raises:
        UsageError: It cannot be used; the message names file and field.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("bids"), list):
        raise UsageError(f"{path}: must hold a list named bids, such as {BIDS_FILE_EXAMPLE}")
    _refuse_unknown(content, {"bids", "capacity"}, str(path))
    request = pb.AllocateRequest()
    if "capacity" in content:
        request.capacity_millicores = _millicores(f"{path}: capacity", content["capacity"])
    for index, given in enumerate(content["bids"]):
        request.bids.append(_bid(given, f"{path}: bids[{index}]"))
    return request


def _bid(given: object, where: str) -> pb.Bid:
    if not isinstance(given, dict):
        raise UsageError(f"{where}: must be a mapping with id, need and weight")
    _refuse_unknown(given, {"id", "need", "floor", "cap", "weight"}, where)
    missing = {"id", "need", "weight"} - given.keys()
    if missing:
        raise UsageError(f"{where}: has no {', '.join(sorted(missing))}")
    weight = given["weight"]
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise UsageError(f"{where}.weight: is {weight!r}, must be a number")
    return pb.Bid(
        id=str(given["id"]),
        need_millicores=_millicores(f"{where}.need", given["need"]),
        floor_millicores=_millicores(f"{where}.floor", given.get("floor", "0")),
        cap_millicores=_millicores(f"{where}.cap", given.get("cap", "0")),
        weight=float(weight),
    )


def _refuse_unknown(given: dict[Any, Any], known: set[str], where: str) -> None:
    unknown = sorted(str(key) for key in given.keys() - known)
    if unknown:
        raise UsageError(f"{where}: knows no {unknown[0]!r}; there is {', '.join(sorted(known))}")


def _millicores(where: str, given: object) -> int:
    """Reads CPU as Kubernetes writes it: 500m is half a core, so is 0.5."""
    millicores = parse_cpu(str(given))
    if millicores is None:
        raise UsageError(f"{where}: is {given!r}, must be CPU such as 500m or 0.5")
    return millicores


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
