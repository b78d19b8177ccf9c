"""The commands of `mbcas-loadtest`: the demo and the benchmarks."""

import json
import signal
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mbcas_loadtest.errors import DemoError, Interrupted

EXIT_INTERRUPTED = 130  # As a shell reports a program that Ctrl-C ended.

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
bench = typer.Typer(invoke_without_command=True)
app.add_typer(bench, name="bench")

Figures = dict[str, Any]
LEAST_SURGES = 30
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")]


class Policy(StrEnum):
    """Which numbers the market sets."""

    LIMITS_ONLY = "limits-only"
    REQUESTS_AND_LIMITS = "requests-and-limits"
    HARD_QUOTA = "hard-quota"


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


@app.command()
def demo(  # noqa: PLR0913, PLR0917 - each is a flag.
    duration: Annotated[float, typer.Option(help="Seconds per phase, warm-up included.")] = 120,
    warmup: Annotated[float, typer.Option(help="First seconds: shown, not counted.")] = 45,
    policy: Annotated[Policy, typer.Option()] = Policy.REQUESTS_AND_LIMITS,
    burst: Annotated[Switch, typer.Option(help="Burst credit under MBCAS.")] = Switch.ON,
    static_burst: Annotated[Switch, typer.Option(help="The same in `static`.")] = Switch.OFF,
    seed: Annotated[int, typer.Option(min=0, help="Of the arrivals.")] = 7,
    json_path: Annotated[Path, typer.Option("--json", help="Where the figures go.")] = Path(
        "demo-report.json"
    ),
    html_path: Annotated[Path, typer.Option("--html", help="Where the report goes.")] = Path(
        "demo-report.html"
    ),
    picture_path: Annotated[
        Path | None, typer.Option("--picture", help="Also draw the result here, as one SVG.")
    ] = None,
    *,
    headless: Annotated[
        bool, typer.Option("--headless", help="Plain lines, no live view.")
    ] = False,
    model: Annotated[
        bool, typer.Option("--model", help="No real CPU, the built-in model.")
    ] = False,
) -> None:
    """Runs the same work on a small node twice: as declared, then with MBCAS."""
    # Imported here: numpy, grpc and matplotlib take a second, and --help should not.
    from mbcas_loadtest.demo.host import stop_on_signals  # noqa: PLC0415 - loaded when used.
    from mbcas_loadtest.demo.lines import LineView  # noqa: PLC0415 - loaded when used.
    from mbcas_loadtest.demo.report import write_html, write_json, write_picture  # noqa: PLC0415 - loaded when used.
    from mbcas_loadtest.demo.run import DemoOptions, run_demo  # noqa: PLC0415 - loaded when used.
    from mbcas_loadtest.demo.view import LiveView  # noqa: PLC0415 - loaded when used.

    if not 0 <= warmup < duration:
        raise typer.BadParameter(f"--warmup {warmup:g} must be from 0 to below --duration")
    for path in (json_path, html_path, picture_path):
        if path is not None and not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"{path}: there is no such folder to write it to")
    options = DemoOptions(
        duration_seconds=duration,
        warmup_seconds=warmup,
        policy=policy.value,
        burst=burst is Switch.ON,
        static_burst=static_burst is Switch.ON,
        seed=seed,
        model=model,
    )
    with stop_on_signals() as stop:
        try:
            with LineView() if headless else LiveView() as view:
                record = run_demo(options, view, stop)
                write_json(record, json_path)
                write_html(record, html_path)
                if picture_path is not None:
                    write_picture(record, picture_path)
                view.finish(record)
        except Interrupted:
            typer.echo("Interrupted: everything was cleaned up, no report was written.", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except DemoError as error:
            typer.echo(f"The demo cannot go on: {error}", err=True)
            raise typer.Exit(1) from None
    picture = "" if picture_path is None else f"  picture: {picture_path}"
    typer.echo(f"Report: {html_path}  figures: {json_path}{picture}")


@bench.callback()
def bench_all(context: typer.Context, json_file: JsonFile = None) -> None:
    """Measures a part of MBCAS on this machine; without a name, every part."""
    if context.invoked_subcommand is None:
        figures: dict[str, Figures | None] = {
            "clearing": _clearing(),
            "server": _server(),
            "shim": _shim(),
            "reaction": None,
        }
        try:
            figures["reaction"] = _reaction(LEAST_SURGES)
        except DemoError as error:  # The others took minutes and are good without it.
            typer.echo(f"bench reaction: {error}", err=True)
        _report(figures, json_file)
    elif json_file is not None:
        raise typer.BadParameter("--json comes after the benchmark's name")


@bench.command()
def clearing(json_file: JsonFile = None) -> None:
    """Clears the markets of 5,000 nodes with 150,000 containers."""
    _report(_clearing(), json_file)


@bench.command()
def server(json_file: JsonFile = None) -> None:
    """Measures a report, a tick, a round and memory for 5,000 nodes of 30 containers."""
    _report(_server(), json_file)


@bench.command()
def shim(json_file: JsonFile = None) -> None:
    """Measures a shim of 220 containers, busy and calm."""
    _report(_shim(), json_file)


@bench.command()
def reaction(
    json_file: JsonFile = None,
    surges: Annotated[int, typer.Option(min=1, help="How many, at least.")] = LEAST_SURGES,
) -> None:
    """Measures the time from throttling to a higher quota in the kernel, on real CPU."""
    try:
        _report(_reaction(surges), json_file)
    except DemoError as error:
        typer.echo(f"bench reaction: {error}", err=True)
        raise typer.Exit(1) from None


def _clearing() -> Figures:
    from mbcas_loadtest.bench.clearing import bench_clearing  # noqa: PLC0415 - loaded when used.

    return bench_clearing()


def _server() -> Figures:
    from mbcas_loadtest.bench.server import (  # noqa: PLC0415 - loaded when used.
        bench_core,
        bench_report_path,
        find_bottleneck,
    )

    _clean_up_on_interrupt()
    report_path, core = bench_report_path(), bench_core()
    bottleneck = find_bottleneck(report_path, core)
    return {"report_path": report_path, "core": core, "bottleneck": bottleneck}


def _shim() -> Figures:
    from mbcas_loadtest.bench.shim import bench_shim  # noqa: PLC0415 - loaded when used.

    _clean_up_on_interrupt()
    return {"busy": bench_shim(busy=True), "calm": bench_shim(busy=False)}


def _reaction(surges: int) -> Figures:
    from mbcas_loadtest.bench.reaction import bench_reaction  # noqa: PLC0415 - loaded when used.

    try:
        return bench_reaction(surges)
    except Interrupted:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _clean_up_on_interrupt() -> None:
    """Lets Ctrl-C unwind from here on: there is now something to remove."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _report(figures: Mapping[str, Any], json_file: Path | None) -> None:
    text = json.dumps(figures, indent=2)
    typer.echo(text)
    if json_file is not None:
        json_file.write_text(text + "\n")
