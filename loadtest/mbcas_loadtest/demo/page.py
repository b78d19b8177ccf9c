"""The demo's report as one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from mbcas_loadtest.demo import findings, goals, tabulation
from mbcas_loadtest.demo.record import DemoRecord, Phase
from mbcas_loadtest.node.kinds import Environment
from mbcas_loadtest.pages import plots, svg, wording
from mbcas_loadtest.pages.series import ContainerSeries
from mbcas_loadtest.pages.template import template

_BYTES_PER_MIB = 1024 * 1024
_ENVIRONMENTS: dict[Environment, tuple[str, str]] = {
    "cgroup-v1": ("real kernel quotas", "Real processes under the kernel's quotas, cgroup v1"),
    "cgroup-v2": ("real kernel quotas", "Real processes under the kernel's quotas, cgroup v2"),
    "model": ("built-in model", "A model of the kernel's CFS bandwidth control, no real processes"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Card:
    """One headline figure."""

    label: str
    cell: tabulation.Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """One container over time, a drawing for each phase that ran."""

    name: str
    about: str
    drawings: Sequence[tuple[str, Markup]]


def page_html(record: DemoRecord) -> str:
    """The whole page; every text from the record is escaped."""
    rows = tabulation.rows(record)
    return template("mbcas_loadtest.demo", "report.html.j2").render(
        record=record,
        compared=findings.is_comparison(record),
        verdict=findings.verdict(record),
        cards=_cards(record, rows),
        goals=goals.goals(record),
        rows=rows,
        columns=tabulation.COLUMNS,
        losses=findings.losses(record),
        panels=_panels(record, rows),
        gauges=_gauges(record),
        burst=findings.burst_credit(record),
        command=findings.command(record),
        violations=sum(phase.invariant_violations for phase in record.phases),
        surges=findings.counted(record.reaction_seconds.count, "surge"),
        environment_name=_ENVIRONMENTS[record.environment][0],
        environment_sentence=_ENVIRONMENTS[record.environment][1],
        daemons=(("server", record.server), ("shim", record.shim)),
        colours=svg.DARK_COLOURS,
        wording=wording,
        mebibytes=_mebibytes,
    )


def _mebibytes(count: int) -> str:
    return wording.fixed(count / _BYTES_PER_MIB, 0, " MiB")


def _cards(record: DemoRecord, rows: Sequence[tabulation.Row]) -> list[_Card]:
    if not rows:
        return []
    total = rows[-1].cells
    cards = [
        _Card(label="services throttled, share of time", cell=_relative_throttling(record, total)),
        _Card(label="reserved, core-seconds", cell=total["reserved"]),
    ]
    names = {c.name for phase in record.phases for c in phase.containers if c.role == "batch"}
    cards += [
        _Card(label=f"work done by {row.name}, core-seconds", cell=row.cells["usage"])
        for row in rows[:-1]
        if row.name in names
    ]
    return cards


def _relative_throttling(
    record: DemoRecord, total: Mapping[str, tabulation.Cell]
) -> tabulation.Cell:
    """The services' throttled share with its change as the goal counts it, not in points."""
    static = findings.phase_named(record, "static")
    mbcas = findings.phase_named(record, "mbcas")
    if static is None or mbcas is None:
        return total["throttled"]
    shares = [findings.totals(phase).services_throttled_ratio for phase in (static, mbcas)]
    return replace(total["throttled"], change=wording.relative(*shares))


def _time_axis(record: DemoRecord) -> plots.TimeAxis:
    ends = [phase.series.seconds[-1] for phase in record.phases if phase.series.seconds]
    return plots.TimeAxis(warmup_seconds=record.warmup_seconds, end_seconds=max(ends, default=0.0))


def _panels(record: DemoRecord, rows: Sequence[tabulation.Row]) -> list[_Panel]:
    time = _time_axis(record)
    panels = []
    for row in rows[:-1]:
        found = [
            (phase, one)
            for phase in record.phases
            for one in phase.series.containers
            if one.name == row.name and phase.series.seconds
        ]
        top = plots.highest_millicores([one for _, one in found])
        drawings = [(phase.name, _drawing(phase, one, time, top)) for phase, one in found]
        if drawings:
            panels.append(_Panel(name=row.name, about=row.about, drawings=drawings))
    return panels


def _drawing(phase: Phase, one: ContainerSeries, time: plots.TimeAxis, top: float) -> Markup:
    title = f"{one.name} in the phase {phase.name}: CPU and throttling over time"
    drawing = plots.container_panel(
        phase.series.seconds, one, time=time, top_millicores=top, title=title
    )
    return Markup(drawing)  # noqa: S704  Written by matplotlib; the title is escaped there.


def _gauges(record: DemoRecord) -> list[tuple[str, Markup]]:
    phase = findings.phase_named(record, "mbcas")
    if phase is None:
        return []
    series, time = phase.series, _time_axis(record)
    drawn = (
        ("shadow price", series.shadow_price, False),
        ("shortage", series.shortage, True),
    )
    return [
        (
            name,
            Markup(  # noqa: S704  Written by matplotlib; the title is ours.
                plots.gauge_panel(
                    series.seconds, values, time=time, is_ratio=is_ratio, title=f"{name} over time"
                )
            ),
        )
        for name, values, is_ratio in drawn
        if values
    ]
