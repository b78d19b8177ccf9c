"""The demo without a terminal: a line every few seconds."""

from types import TracebackType
from typing import Self

import typer
from rich.console import Console

from mbcas_loadtest.demo.record import DemoRecord
from mbcas_loadtest.demo.report import summary
from mbcas_loadtest.demo.snapshot import Snapshot

LINE_EVERY_SECONDS = 5


class LineView:
    """Writes plain lines to standard output."""

    def __init__(self) -> None:
        self._next_seconds = 0.0
        self._phase: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def announce(self, text: str) -> None:
        typer.echo(text)

    def update(self, snapshot: Snapshot) -> None:
        if snapshot.phase != self._phase:
            self._phase, self._next_seconds = snapshot.phase, 0.0
            for note in snapshot.notes:
                typer.echo(f"  {note}")
        if snapshot.elapsed_seconds < self._next_seconds:
            return
        self._next_seconds = snapshot.elapsed_seconds + LINE_EVERY_SECONDS
        rows = "  ".join(
            f"{row.name} {row.usage_millicores:.0f}/{row.ceiling_millicores or 0:.0f}m"
            f" {row.throttled_ratio:.0%}"
            for row in snapshot.rows
        )
        typer.echo(f"{snapshot.phase} {snapshot.elapsed_seconds:4.0f} s  {rows}  [{snapshot.now}]")

    def finish(self, record: DemoRecord) -> None:
        Console(width=110).print(summary(record))
