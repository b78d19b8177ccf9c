"""What the command `replay` does: finds the system, reads the trace, prints and writes."""

import json
import sys
from pathlib import Path

import typer

from mbcas_core.units import MAX_MILLICORES
from mbcas_loadtest.rivals.catalog import RIVALS
from mbcas_loadtest.rivals.replay import replay
from mbcas_loadtest.rivals.replay_output import show, to_json
from mbcas_loadtest.simulation.system import Rival
from mbcas_loadtest.workloads.traces import GapError, Series, TraceError, read_series


def replay_trace(  # noqa: PLR0917 - each is a flag.
    rival_name: str,
    trace: Path,
    series_id: str | None,
    knob: float | None,
    declared_millicores: int | None,
    minutes: int | None,
    json_path: Path | None,
    *,
    may_gap: bool,
) -> None:
    """Replays one series; bad input ends with status 2 (flags) or 1 (the trace), and a message."""
    if rival_name not in RIVALS:
        known = ", ".join(sorted(RIVALS))
        raise typer.BadParameter(f"--rival {rival_name}: there are {known}")
    rival = RIVALS[rival_name]
    _check_numbers(rival, knob, declared_millicores)
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise typer.BadParameter(f"--json {json_path}: there is no such folder to write it to")
    series = _read(trace, series_id, may_gap=may_gap)
    try:
        done = replay(
            rival,
            series,
            knob=knob,
            declared_millicores=declared_millicores,
            minutes=minutes,
            progress_to=sys.stderr if sys.stderr.isatty() else None,
        )
    except MemoryError:
        size = f"{series.duration_seconds / 60:.0f} minutes of {series.series_id}"
        message = f"{trace}: {size} are too much for the memory with {rival.name}; see --minutes"
        typer.echo(message, err=True)
        raise typer.Exit(1) from None
    if json_path is not None:
        try:
            json_path.write_text(json.dumps(to_json(done)) + "\n", encoding="utf-8")
        except OSError as error:
            typer.echo(f"{json_path}: cannot be written: {error.strerror}", err=True)
            raise typer.Exit(1) from None
    show(done, json_path)


def _read(trace: Path, series_id: str | None, *, may_gap: bool) -> Series:
    try:
        return read_series(trace, series_id, column="cpu_millicores", may_gap=may_gap)
    except GapError as error:
        typer.echo(f"{error}; --may-gap replays it all the same", err=True)
        raise typer.Exit(1) from None
    except TraceError as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None


def _check_numbers(rival: Rival, knob: float | None, declared_millicores: int | None) -> None:
    if knob is not None and not rival.sweep:
        raise typer.BadParameter(f"--knob {knob:g}: {rival.name} has none")
    if knob is not None and not min(rival.sweep) <= knob <= max(rival.sweep):
        allowed = f"from {min(rival.sweep):g} to {max(rival.sweep):g}"
        raise typer.BadParameter(f"--knob {knob:g}: {rival.knob} must be {allowed}")
    if declared_millicores is not None and declared_millicores > MAX_MILLICORES:
        raise typer.BadParameter(
            f"--declared {declared_millicores}: must be up to {MAX_MILLICORES} millicores"
        )
