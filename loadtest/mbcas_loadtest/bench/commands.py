"""The commands of `mbcas-loadtest bench`: one per benchmark, each prints its figures as JSON.

Functions that measure are imported when they are called: numpy, grpc and solvers take a second, and
`--help` should not.
"""

import json
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mbcas_loadtest.errors import EXIT_INTERRUPTED, DemoError, Interrupted

bench = typer.Typer(invoke_without_command=True)

Figures = dict[str, Any]
LEAST_SURGES = 30
REPORTED_SEED = 1000
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")]


@bench.callback()
def bench_all(context: typer.Context, json_file: JsonFile = None) -> None:
    """Measures a part of MBCAS on this machine; without a name, every part."""
    if context.invoked_subcommand is None:
        figures: dict[str, Figures | None] = {
            "clearing": _clearing(),
            "properties": _few_properties(),
            "incentives": _few_incentives(),
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
    """Clears the markets of 5,000 nodes with 150,000 containers, and of 1,000 with 110,000."""
    _report(_clearing(), json_file)


@bench.command()
def properties(
    json_file: JsonFile = None,
    markets: Annotated[int, typer.Option(min=1, help="For each property, at least.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0)] = REPORTED_SEED,
    batch: Annotated[int | None, typer.Option(min=0, help="Only this batch, again.")] = None,
    name: Annotated[str | None, typer.Option("--property", help="Only this one.")] = None,
) -> None:
    """Checks the mechanism's properties on random markets, in about five minutes."""
    from mbcas_loadtest.bench.properties import (  # noqa: PLC0415 - loaded when used.
        bench_properties,
        check_batch,
    )
    from mbcas_loadtest.mechanism.properties import PROPERTIES  # noqa: PLC0415 - loaded when used.

    if name is not None and name not in PROPERTIES:
        raise typer.BadParameter(f"--property {name}: must be one of {', '.join(PROPERTIES)}")
    names = list(PROPERTIES) if name is None else [name]
    if batch is None:
        figures = bench_properties(markets=markets, seed=seed, names=names, tell=_tell_progress)
    else:
        figures = check_batch(seed=seed, batch=batch, names=names)
    _report(figures, json_file)
    if figures["violations"]:
        raise typer.Exit(1)


@bench.command()
def incentives(
    json_file: JsonFile = None,
    markets: Annotated[
        int, typer.Option(min=1, help="Of MBCAS; the alternatives meet at most 10,000.")
    ] = 125_000,
    seed: Annotated[int, typer.Option(min=0)] = REPORTED_SEED,
) -> None:
    """Attacks MBCAS and its alternatives in one-shot markets, in about ten minutes."""
    from mbcas_loadtest.bench.incentives import (  # noqa: PLC0415 - loaded when used.
        bench_incentives,
        print_table,
    )

    figures = bench_incentives(markets=markets, seed=seed, tell=_tell_progress)
    print_table(figures)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    if figures["claims_broken"]:
        raise typer.Exit(1)


@bench.command()
def solver(json_file: JsonFile = None) -> None:
    """Compares the clearing with a general convex solver; needs `.[dev]`."""
    try:
        _report(_solver(), json_file)
    except DemoError as error:
        typer.echo(f"bench solver: {error}", err=True)
        raise typer.Exit(1) from None


@bench.command()
def games(  # noqa: PLR0917 - each is a flag.
    json_file: JsonFile = None,
    level: Annotated[
        list[str] | None, typer.Option(help="needs or core; without it, both.")
    ] = None,
    number: Annotated[
        int | None, typer.Option("--games", min=1, help="For each way of playing.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of 15 s.")] = 200,
    seed: Annotated[int, typer.Option(min=0)] = REPORTED_SEED,
    setting: Annotated[
        list[str] | None, typer.Option(help="Of the core: default, frozen, plan.")
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Of the core.")] = None,
) -> None:
    """Attacks MBCAS for 200 rounds, on reported needs and on the real core, in 15 minutes."""
    from mbcas_loadtest.bench import games as bench_games  # noqa: PLC0415 - loaded when used.

    _check_names("level", level, bench_games.LEVELS)
    _check_names("setting", setting, bench_games.CORE_PARAMETERS)
    _check_names("policy", policy, bench_games.CORE_POLICIES)
    figures = bench_games.bench_games(
        levels=level or bench_games.LEVELS,
        games=number,
        rounds=rounds,
        seed=seed,
        settings=setting or (bench_games.DEFAULT,),
        policies=policy or bench_games.MAIN_POLICIES,
        tell=_tell_progress,
    )
    typer.echo(bench_games.format_tables(figures))
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


@bench.command()
def server(json_file: JsonFile = None) -> None:
    """Measures a report, a tick, a round and memory for 5,000 nodes of 30 containers."""
    _report(_server(), json_file)


@bench.command()
def allocate(json_file: JsonFile = None) -> None:
    """Measures Allocate: idle, while 1,000 nodes report, and under a flood of large requests."""
    from mbcas_loadtest.bench.allocate import bench_allocate  # noqa: PLC0415 - loaded when used.

    _clean_up_on_interrupt()
    _report(bench_allocate(), json_file)


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


def _few_properties() -> Figures:
    """Runs a fiftieth of `bench properties`, whose minutes would outweigh all the others."""
    from mbcas_loadtest.bench.properties import bench_properties  # noqa: PLC0415 - loaded when used.

    return bench_properties(markets=2000, seed=REPORTED_SEED)


def _few_incentives() -> Figures:
    """Runs a small part of `bench incentives`, for the same reason."""
    from mbcas_loadtest.bench.incentives import bench_incentives  # noqa: PLC0415 - loaded when used.

    return bench_incentives(markets=300, seed=REPORTED_SEED)


@bench.command()
def simulation(
    json_file: JsonFile = None,
    nodes: Annotated[list[int], typer.Option(min=1, help="Of each world.")] = [10, 300],  # noqa: B006 - typer's way; nobody changes it.
    seconds: Annotated[int, typer.Option(min=10, help="Of each world.")] = 600,
) -> None:
    """Measures how many container-hours of the evaluation a minute of one core is worth."""
    from mbcas_loadtest.bench.simulation import bench_simulation  # noqa: PLC0415 - loaded when used.

    _report(bench_simulation(nodes, seconds, tell=_tell_progress), json_file)


@bench.command()
def gauges(
    json_file: JsonFile = None,
    nodes: Annotated[int, typer.Option(min=2, help="Of each scenario.")] = 20,
    seconds: Annotated[int, typer.Option(min=20, help="Of each world, with warm-up.")] = 1800,
    seed: Annotated[int, typer.Option(min=0)] = REPORTED_SEED,
) -> None:
    """Holds the shortage gauge of simulated nodes against their measured contention."""
    from mbcas_loadtest.bench.gauges import bench_gauges  # noqa: PLC0415 - loaded when used.

    _report(bench_gauges(nodes, seconds, seed, tell=_tell_progress), json_file)


Kubeconfig = Annotated[Path, typer.Option(help="Of an administrator of the cluster.")]
NodeName = Annotated[str, typer.Option(help="Name of the node that is this machine.")]
KubeletCgroup = Annotated[
    str, typer.Option(help="The kubelet's cgroup for pods, below the cpu controller's mount.")
]
Image = Annotated[str, typer.Option(help="An image with busybox in its PATH.")]
BUSYBOX_IMAGE = "busybox:1.37"


@bench.command()
def kubernetes_reaction(  # noqa: PLR0917 - each is a flag.
    kubeconfig: Kubeconfig,
    node: NodeName,
    json_file: JsonFile = None,
    cgroup: KubeletCgroup = "kubepods",
    image: Image = BUSYBOX_IMAGE,
    surges: Annotated[int, typer.Option(min=1)] = LEAST_SURGES,
    seed: Annotated[int, typer.Option(min=0)] = REPORTED_SEED,
) -> None:
    """Measures how long surges wait on a cluster with MBCAS; run it on its node, as root."""
    from mbcas_loadtest.bench import kubernetes as measured  # noqa: PLC0415 - loaded when used.

    _clean_up_on_interrupt()
    try:
        target = measured.find_target(kubeconfig, node=node, cgroup=cgroup, image=image)
        figures = measured.bench_reaction(target, surges=surges, seed=seed, tell=_tell_progress)
    except DemoError as error:
        typer.echo(f"bench kubernetes-reaction: {error}", err=True)
        raise typer.Exit(1) from None
    _report(figures, json_file)


@bench.command()
def kubernetes_resizes(  # noqa: PLR0917 - each is a flag.
    kubeconfig: Kubeconfig,
    node: NodeName,
    json_file: JsonFile = None,
    image: Image = BUSYBOX_IMAGE,
    resizes: Annotated[int, typer.Option(min=1)] = 500,
    seconds: Annotated[float, typer.Option(min=1, help="At most.")] = 900.0,
    seed: Annotated[int, typer.Option(min=0)] = REPORTED_SEED,
) -> None:
    """Counts what many resizes disturb on a cluster with MBCAS: restarts, evictions, classes."""
    from mbcas_loadtest.bench import kubernetes as measured  # noqa: PLC0415 - loaded when used.

    _clean_up_on_interrupt()
    try:
        target = measured.find_target(kubeconfig, node=node, cgroup="", image=image)
        figures = measured.bench_resizes(
            target, resizes=resizes, seconds_max=seconds, seed=seed, tell=_tell_progress
        )
    except DemoError as error:
        typer.echo(f"bench kubernetes-resizes: {error}", err=True)
        raise typer.Exit(1) from None
    _report(figures, json_file)


def _solver() -> Figures:
    from mbcas_loadtest.bench.solver import bench_solver  # noqa: PLC0415 - loaded when used.

    return bench_solver()


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


def _check_names(flag: str, given: Iterable[str] | None, allowed: Iterable[str]) -> None:
    for wrong in sorted(set(given or ()) - set(allowed)):
        raise typer.BadParameter(f"--{flag} {wrong}: must be one of {', '.join(allowed)}")


def _tell_progress(line: str) -> None:
    typer.echo(line, err=True)


def _report(figures: Mapping[str, Any], json_file: Path | None) -> None:
    text = json.dumps(figures, indent=2)
    typer.echo(text)
    if json_file is not None:
        json_file.write_text(text + "\n")
