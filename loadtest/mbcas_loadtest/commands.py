"""The commands of `mbcas-loadtest`: the demo and the benchmarks."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mbcas_loadtest.bench.commands import bench
from mbcas_loadtest.errors import EXIT_INTERRUPTED, DemoError, Interrupted

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.add_typer(bench, name="bench")


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


@app.command()
def replay(  # noqa: PLR0917 - each is a flag.
    rival: Annotated[str, typer.Option(help="A system of the catalog, such as vpa.")],
    trace: Annotated[Path, typer.Option(help="CSV or CSV.GZ: series_id,t_seconds,cpu_millicores.")],
    series: Annotated[
        str | None, typer.Option(help="Which series_id; needed where the file holds several.")
    ] = None,
    knob: Annotated[float | None, typer.Option(help="Of the system; left out: its own.")] = None,
    declared: Annotated[
        int | None,
        typer.Option(min=10, help="Millicores of the manifest; left out: the highest sample."),
    ] = None,
    minutes: Annotated[int | None, typer.Option(min=1, help="Only so many.")] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Where every minute goes.")
    ] = None,
    *,
    may_gap: Annotated[
        bool,
        typer.Option("--may-gap", help="Missing samples: the last one holds, or minutes go."),
    ] = False,
) -> None:
    """Shows what one system would have set over one recorded series of CPU usage."""
    from mbcas_loadtest.rivals.commands import replay_trace  # noqa: PLC0415 - loaded when used.

    replay_trace(rival, trace, series, knob, declared, minutes, json_path, may_gap=may_gap)


@app.command()
def evaluate(  # noqa: PLR0913, PLR0917 - each is a flag.
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="Only this, a name or a scenario file; may be repeated."),
    ] = None,
    system: Annotated[list[str] | None, typer.Option(help="Only this; may be repeated.")] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Such as 1000-1009. 0 to 99: tuning; without it: the registered ones."),
    ] = None,
    seconds: Annotated[
        int | None,
        typer.Option(min=900, help="A quick look: at most so much of each scenario, one cluster."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of page and JSON.")] = Path("evaluation"),
    cache: Annotated[
        Path | None, typer.Option(help="Folder of kept runs; without it: the user's.")
    ] = None,
    plant_validation: Annotated[
        Path | None, typer.Option(help="JSON of validate-plant: where the plant is off is said.")
    ] = None,
    series: Annotated[
        list[str] | None,
        typer.Option(
            help="SCENARIO:SYSTEM:SEED, drawn over time beside all else that is asked for: without "
            "--scenario and --system the whole evaluation runs. May be repeated."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: in this one.")] = 2,
    *,
    full_cluster: Annotated[
        bool, typer.Option("--full-cluster", help="Also all of 5,000 nodes, as a check.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small part, compared with the stored result.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="With --quick: store the result.")
    ] = False,
) -> None:
    """Compares all systems in all scenarios: one page, one JSON, what was not reached first."""
    from mbcas_loadtest.evaluation.commands import run_evaluation  # noqa: PLC0415 - loaded when used.

    run_evaluation(
        scenario,
        system,
        seeds,
        seconds,
        out,
        cache,
        plant_validation,
        series,
        workers,
        is_full_cluster=full_cluster,
        is_quick=quick,
        is_update=update,
    )


@app.command("replay-decisions")
def replay_decisions(
    recording: Annotated[Path, typer.Argument(help="What `mbcas-server --record-path` wrote.")],
) -> None:
    """Tells the core again what a server recorded; ends with 1 where it answers otherwise."""
    from mbcas_loadtest.simulation.commands import replay_decisions as again  # noqa: PLC0415 - loaded when used.

    again(recording)


@app.command("validate-plant")
def validate_plant(
    points: Annotated[
        int, typer.Option(min=0, help="Only so many, spread over all; 0: all of them.")
    ] = 0,
    seconds: Annotated[float, typer.Option(min=3, max=120, help="Of each point.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the first point's work.")] = 1000,
    json_path: Annotated[Path | None, typer.Option("--json", help="Where the figures go.")] = None,
    picture_path: Annotated[
        Path | None, typer.Option("--picture", help="Also draw the result here, as one SVG.")
    ] = None,
) -> None:
    """Holds the model of the kernel's CPU control against the kernel of this machine."""
    from mbcas_loadtest.validation import commands as validation  # noqa: PLC0415 - loaded when used.

    validation.validate_plant(points, seconds, seed, json_path, picture_path)
