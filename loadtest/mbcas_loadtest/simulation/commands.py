"""The commands of the simulation: what they print, and how they end."""

from pathlib import Path

import typer

from mbcas_loadtest.errors import SimulationError
from mbcas_loadtest.simulation import recording

EXIT_UNUSABLE = 2


def replay_decisions(path: Path) -> None:
    """Prints how the replay went; exits with 1 at a difference, 2 where the file is unusable."""
    try:
        replayed = recording.replay_decisions(path)
    except (SimulationError, OSError) as error:
        typer.echo(f"mbcas-loadtest: {error}", err=True)
        raise typer.Exit(EXIT_UNUSABLE) from error
    told = f"{replayed.events} events, {replayed.orders} orders"
    if replayed.difference:
        typer.echo(f"{told}, then another decision: {replayed.difference}")
        raise typer.Exit(1)
    typer.echo(f"{told}: every decision is the same")
