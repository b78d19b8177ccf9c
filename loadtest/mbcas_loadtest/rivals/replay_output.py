"""A replay as a short table and as JSON."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mbcas_loadtest.rivals.replay import Replay

SHOWN_ROWS = 24
SHOWN_MILLICORES_MAX = 10_000_000


def to_json(done: Replay) -> dict[str, Any]:
    """Returns the whole run; a row has lower, target and upper only where there are any."""
    found = dataclasses.asdict(done)
    if done.rows and done.rows[0].target is None:
        for row in found["rows"]:
            del row["lower"], row["target"], row["upper"]
    return found


def show(done: Replay, path: Path | None) -> None:
    """Prints some of the minutes, evenly spread, and where all of them are."""
    is_vpa = bool(done.rows) and done.rows[0].target is not None
    is_one_number = all(row.request_millicores == row.limit_millicores for row in done.rows)
    set_names = ["req.=limit"] if is_one_number else ["request", "limit"]
    table = Table()
    bounds = ["lower", "target", "upper"] if is_vpa else []
    for name in ["minute", "usage", "thr.", *set_names, "chg.", *bounds]:
        table.add_column(name, justify="right", no_wrap=True)
    before = 0
    for place in np.unique(np.linspace(0, len(done.rows) - 1, SHOWN_ROWS).round().astype(int)):
        row = done.rows[place]
        changes = sum(each.changes for each in done.rows[before : place + 1])
        before = place + 1
        numbers = [row.limit_millicores]
        if not is_one_number:
            numbers.insert(0, row.request_millicores)
        table.add_row(
            f"{row.samples}",
            f"{row.usage_millicores:.0f}",
            f"{row.throttled_ratio:.0%}",
            *map(_short, numbers),
            f"{changes}",
            *map(_short, [row.lower, row.target, row.upper] if is_vpa else []),
        )
    console = Console()
    title = f"{done.rival} (knob {done.knob:g}) over {done.series_id}, in millicores;"
    console.print(title, markup=False, emoji=False)
    console.print("thr.: periods above the limit; chg.: changes since the row above")
    console.print(table)
    if path is not None:
        console.print(
            f"All {len(done.rows)} minutes: {path}", soft_wrap=True, markup=False, emoji=False
        )


def _short(millicores: int | None) -> str:
    """Returns a number for a narrow column; the whole one is in the JSON."""
    if millicores is None:
        return "none"
    return f"{millicores}" if millicores < SHOWN_MILLICORES_MAX else f"{millicores:.1e}"
