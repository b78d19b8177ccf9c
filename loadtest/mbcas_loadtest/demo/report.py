"""The demo's report: JSON for programs, a page and a picture for people, a summary for terminals.

The JSON is fixed in the API's description. Where the demo lost, every form says so.
"""

import json
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mbcas_loadtest.demo import findings, goals, tabulation
from mbcas_loadtest.demo.record import ContainerResult, DaemonCost, DemoRecord, Phase
from mbcas_loadtest.pages import wording
from mbcas_loadtest.pages.files import write_atomically

SCHEMA = "mbcas.demo/1"
_Json = dict[str, object]


def write_json(record: DemoRecord, path: Path) -> None:
    """Writes the record for programs; the file is whole or not there."""
    text = json.dumps(to_json(record), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n")


def write_html(record: DemoRecord, path: Path) -> None:
    """Writes the record as one self-contained page."""
    from mbcas_loadtest.demo.page import page_html  # noqa: PLC0415 - matplotlib is slow to load.

    write_atomically(path, page_html(record))


def write_picture(record: DemoRecord, path: Path) -> None:
    """Writes the result as one SVG of 900 x 420 that suits light and dark pages."""
    from mbcas_loadtest.demo.picture import picture_svg  # noqa: PLC0415 - as above.

    write_atomically(path, picture_svg(record))


def to_json(record: DemoRecord) -> _Json:
    """The record as the API's description lays it down; what is absent or not finite is null."""
    return {
        "schema": SCHEMA,
        "environment": record.environment,
        "seed": record.seed,
        "policy": record.policy,
        "burst": record.burst,
        "static_burst": record.static_burst,
        "node_millicores": record.node_millicores,
        "warmup_seconds": record.warmup_seconds,
        "round_period_seconds": record.round_period_seconds,
        "startup_grace_seconds": record.startup_grace_seconds,
        "static_rule": record.static_rule,
        "phases": [_phase_json(phase) for phase in record.phases],
        "first_allocation_seconds": wording.number(record.first_allocation_seconds),
        "reaction_seconds": {
            "p50": wording.number(record.reaction_seconds.p50),
            "p95": wording.number(record.reaction_seconds.p95),
            "count": record.reaction_seconds.count,
        },
        "server": _daemon_json(record.server),
        "shim": _daemon_json(record.shim),
    }


def summary(record: DemoRecord) -> RenderableType:
    """The result for a terminal: the verdict, a table, and where MBCAS lost."""
    parts: list[RenderableType] = [
        Text(),
        Text(findings.verdict(record), style="bold"),
        Text(),
        _summary_table(record),
    ]
    parts.append(Text("all: sums; throttled is the mean of the services\n", style="dim"))
    for goal in goals.goals(record):
        mark, style = ("✓", "cyan") if goal.reached else ("✗", "bold yellow")
        parts.append(Text.assemble((f"{mark} ", style), f"{goal.asked}: ", (goal.measured, style)))
    lost = findings.losses(record)
    if findings.is_comparison(record):
        parts.append(Text("\nWhere MBCAS lost", style="bold"))
        if not lost:
            parts.append(Text("Nothing got worse."))
    for loss in lost:
        line = f"  {loss.container}: {loss.what} {loss.static} → {loss.mbcas}"
        parts.append(Text(line + ("" if loss.change == wording.DASH else f" ({loss.change})")))
    if record.environment == "model":
        parts.insert(1, Text("Measured on the built-in model, not on a kernel.", style="yellow"))
    return Group(*parts, Text())


def _phase_json(phase: Phase) -> _Json:
    return {
        "name": phase.name,
        "duration_seconds": phase.duration_seconds,
        "resizes": phase.resizes,
        "invariant_violations": phase.invariant_violations,
        "containers": [_container_json(container) for container in phase.containers],
    }


def _container_json(container: ContainerResult) -> _Json:
    return {
        "name": container.name,
        "role": container.role,
        "priority_class": container.priority_class,
        "admitted_millicores": container.admitted_millicores,
        "usage_core_seconds": wording.number(container.usage_core_seconds),
        "reserved_core_seconds": wording.number(container.reserved_core_seconds),
        "ceiling_core_seconds": wording.number(container.ceiling_core_seconds),
        "throttled_fraction": wording.number(container.throttled_fraction),
        "delay_p50_ms": wording.number(container.delay_p50_ms),
        "delay_p99_ms": wording.number(container.delay_p99_ms),
        "requests_arrived": container.requests_arrived,
        "requests_finished": container.requests_finished,
    }


def _daemon_json(cost: DaemonCost) -> _Json:
    return {"cpu_cores": wording.number(cost.cpu_cores), "rss_bytes": cost.rss_bytes}


def _summary_table(record: DemoRecord) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    for heading in ("throttled", "p99 delay", "reserved core·s", "used core·s"):
        table.add_column(heading, justify="right")
    for row in tabulation.rows(record):
        cells = [row.cells[key] for key in ("throttled", "p99", "reserved", "usage")]
        table.add_row(Text(row.name), *(_summary_cell(cell) for cell in cells))
    return table


def _summary_cell(cell: tabulation.Cell) -> Text:
    style = {"better": "cyan", "worse": "bold yellow"}.get(cell.judgement, "")
    if cell.static == cell.mbcas == wording.DASH:
        return Text(wording.DASH, style="dim")
    return Text.assemble((f"{cell.static} → ", "dim"), (cell.mbcas, style))
