"""What `mbcas-loadtest evaluate` does with what the command line gave it."""

import re
from collections.abc import Mapping
from pathlib import Path

import typer
from rich.console import Console

from mbcas_loadtest.errors import EvaluationError
from mbcas_loadtest.evaluation import evaluate as made
from mbcas_loadtest.evaluation import quick, registration
from mbcas_loadtest.evaluation.cache import Cache, default_folder
from mbcas_loadtest.evaluation.grid import Wish
from mbcas_loadtest.evaluation.registration import Kind
from mbcas_loadtest.evaluation.report import Report

DEFAULT_OUT = Path("evaluation")
"""As the command line has it."""
MOST_SHOWN = 12
SEEDS_MAX = 1000


def run_evaluation(  # noqa: PLR0917, PLR0913 - each is a flag.
    scenarios: list[str] | None,
    systems: list[str] | None,
    seeds: str | None,
    seconds: int | None,
    out: Path,
    cache: Path | None,
    validation: Path | None,
    series: list[str] | None,
    workers: int,
    *,
    is_full_cluster: bool,
    is_quick: bool,
    is_update: bool,
) -> None:
    """Runs it, and turns what was not possible into one line and an exit status."""
    console = Console(stderr=True)
    if is_quick:
        _refuse_beside_quick(
            {
                "--scenario": scenarios,
                "--system": systems,
                "--seeds": seeds,
                "--seconds": seconds,
                "--out": out != DEFAULT_OUT,
                "--plant-validation": validation,
                "--series": series,
                "--full-cluster": is_full_cluster,
            }
        )
    if is_update and not is_quick:
        raise typer.BadParameter("--update goes with --quick")
    try:
        wish = Wish(
            scenarios=tuple(scenarios or ()),
            systems=tuple(systems or ()),
            seeds=parse_seeds(seeds),
            seconds=seconds,
        )
        options = made.Options(
            wish=wish,
            out=out,
            cache=Cache(cache or default_folder()),
            workers=workers,
            series=tuple(series or ()),
            validation=validation,
            is_full_cluster=is_full_cluster,
        )
        if is_quick:
            _quick(options, console, is_update=is_update)
        else:
            _say(made.evaluate(options, console), out)
    except EvaluationError as error:
        typer.echo(f"evaluate: {error}", err=True)
        raise typer.Exit(1) from None


def _refuse_beside_quick(flags: Mapping[str, object]) -> None:
    given = [name for name, value in flags.items() if value]
    if given:
        why = "what it runs is fixed, and it writes no page"
        raise typer.BadParameter(f"{', '.join(given)}: not beside --quick: {why}")


def parse_seeds(text: str | None) -> tuple[int, ...]:
    """Reads seeds such as 1000-1009 or 0,1,5; without any, the registered ones.

    Raises:
        EvaluationError: They are written otherwise, or are too many.
    """
    if text is None:
        return registration.load().test_seeds.all()
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        if match is None:
            raise EvaluationError(f"--seeds {text}: must be like 1000-1009 or 1000,1003")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= SEEDS_MAX:
            raise EvaluationError(f"--seeds {text}: a range goes up, by at most {SEEDS_MAX}")
        seeds += range(first, last + 1)
    return tuple(seeds)


def _quick(options: made.Options, console: Console, *, is_update: bool) -> None:
    changes = made.evaluate_quick(options, console, is_update=is_update)
    if is_update:
        typer.echo("The quick result was stored anew.")
        return
    worse = [change for change in changes if change.is_worse]
    for change in worse:
        typer.echo(f"worse: {change}", err=True)
    moved = [change for change in changes if change.difference != 0 and not change.is_worse]
    for change in moved:
        typer.echo(f"changed, within the noise or better: {change}")
    if worse:
        typer.echo(f"MBCAS got worse; {quick.REMEDY}", err=True)
        raise typer.Exit(1)
    typer.echo(f"Nothing got worse: {len(changes)} figures compared, {len(moved)} moved.")


def _say(report: Report, out: Path) -> None:
    judged = [target for target in report.targets if target.is_reached is not None]
    missed = [target for target in judged if not target.is_reached]
    typer.echo(f"{report.kind.value}: {len(missed)} of {len(judged)} targets were not reached")
    for target in missed[:MOST_SHOWN]:
        typer.echo(f"  ✗ {target.asked}: {target.measured}")
    if len(missed) > MOST_SHOWN:
        typer.echo(f"  and {len(missed) - MOST_SHOWN} more")
    for label, error in list(report.failed.items())[:MOST_SHOWN]:
        typer.echo(f"  failed: {label}: {error}")
    if report.kind is Kind.TUNING:
        typer.echo("Best knobs on these seeds, for operating_points of preregistration.yaml:")
        for system, knobs in report.best_knobs.items():
            pairs = ", ".join(f"{tier}: {knob:g}" for tier, knob in knobs.items())
            typer.echo(f"  {system}: {{{pairs}}}")
    typer.echo(f"Page: {out / made.HTML_NAME}  figures: {out / made.JSON_NAME}")
