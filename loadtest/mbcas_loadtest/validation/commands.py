"""What the command `validate-plant` does: runs the points, prints and writes."""

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console

from mbcas_loadtest.demo.host import run_folder, stop_on_signals
from mbcas_loadtest.errors import EXIT_INTERRUPTED, DemoError, Interrupted
from mbcas_loadtest.pages.files import write_atomically
from mbcas_loadtest.validation.points import Point
from mbcas_loadtest.validation.replay import Compared
from mbcas_loadtest.validation.report import document, picture, show, to_json
from mbcas_loadtest.validation.run import OVERHEAD_SECONDS, NoKernelError, choose, validate

EXIT_NO_KERNEL = 3
"""Nothing was measured: there is no kernel here that lets us."""


def validate_plant(
    count: int, seconds: float, seed: int, json_path: Path | None, picture_path: Path | None
) -> None:
    """Ends with status 1 where the load fails, 3 where no cgroup is writable, 130 after Ctrl-C."""
    for path in (json_path, picture_path):
        if path is not None and not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"{path}: there is no such folder to write it to")
    console = Console()
    try:
        results = _run(choose(count), seconds=seconds, seed=seed, console=console)
    except Interrupted:
        typer.echo("Interrupted: everything was cleaned up, nothing was written.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except NoKernelError as error:
        typer.echo(f"Nothing was measured: {error}", err=True)
        raise typer.Exit(EXIT_NO_KERNEL) from None
    except DemoError as error:
        typer.echo(f"The validation cannot go on: {error}", err=True)
        raise typer.Exit(1) from None
    if json_path is not None:
        write_atomically(json_path, to_json(document(results, seconds=seconds, seed=seed)))
    if picture_path is not None:
        write_atomically(picture_path, picture(results))
    show(results, console)


def _run(points: Sequence[Point], *, seconds: float, seed: int, console: Console) -> list[Compared]:
    minutes = len(points) * (seconds + OVERHEAD_SECONDS) / 60
    console.print(f"{len(points)} points of {seconds:g} s: about {minutes:.0f} minutes.")

    def tell(place: int, compared: Compared) -> None:
        console.print(f"[{place + 1}/{len(points)}] {compared.point.name}", markup=False)

    with stop_on_signals() as stop, run_folder() as folder:
        return validate(points, seconds=seconds, seed=seed, folder=folder, stop=stop, tell=tell)
