"""Drawings of the scoreboard: frontiers, and a run over time."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mbcas_loadtest.evaluation import frontier
from mbcas_loadtest.evaluation.standings import ScenarioStandings, Standing
from mbcas_loadtest.pages import plots
from mbcas_loadtest.pages.series import ContainerSeries
from mbcas_loadtest.pages.svg import (
    CEILING,
    INK,
    MUTED,
    RESERVATION,
    RULE,
    STYLE,
    THROTTLED,
    USAGE,
    WARM,
    labelled_svg,
)
from mbcas_loadtest.simulation.outcome import Outcome, Series

_INCHES = (5.4, 3.4)
_MOST_THROTTLED = 0.25
"""Where the drawing ends: beyond it nobody wants to be."""
_DASHES = (0, (3, 2))
_STYLES: tuple[tuple[str, str, Any], ...] = (
    (USAGE, "o", "solid"),
    (RESERVATION, "^", "solid"),
    (CEILING, "s", "solid"),
    (INK, "D", _DASHES),
)
"""Colour, marker and line of the systems that stand out, in their order; the others are grey."""
_GREY = (WARM, ".", "solid")


def frontier_svg(found: ScenarioStandings, *, main: Sequence[str], share: float) -> str:
    """All systems of a scenario: each point a value of a knob, lines along the frontiers."""
    styles = dict(zip(main, _STYLES, strict=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=_INCHES)
        axes = figure.add_axes((0.11, 0.13, 0.62, 0.82))
        axes.axvline(share, color=THROTTLED, lw=0.8, ls=(0, (2, 3)))
        axes.text(share, 1.01, f" {share:.0%}", color=MUTED, va="bottom", ha="center", size=7)
        for standing in found.standings:
            if standing.system not in styles:
                _draw(axes, standing, _GREY)
        ends = [
            (_draw(axes, standing, styles[standing.system]), standing.system)
            for standing in found.standings
            if standing.system in styles
        ]
        _label_ends(axes, [(end, name, styles[name][0]) for end, name in ends])
        axes.set_xlim(0, _MOST_THROTTLED)
        axes.set_ylim(0, 1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.0f} %"))
        axes.grid(axis="y", color=RULE, lw=0.5, alpha=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("throttled share of wall time")
        axes.set_ylabel("waste")
        return labelled_svg(figure, f"{found.scenario.name}: waste against throttled share")


def series_svgs(outcome: Outcome, names: Sequence[str], warmup_seconds: float) -> list[str]:
    """One drawing for each container of the node whose series was kept."""
    series = outcome.series
    assert series is not None, "asked for when it ran"
    seconds = [float(second) for second in range(1, len(series.usage_millicores) + 1)]
    time = plots.TimeAxis(warmup_seconds=warmup_seconds, end_seconds=seconds[-1])
    drawn = []
    for index, name in enumerate(names):
        container = _container_series(series, index, name, cpus=outcome.cpus)
        drawn.append(
            plots.container_panel(
                seconds,
                container,
                time=time,
                top_millicores=plots.highest_millicores([container]),
                title=f"{name} under {outcome.system}: CPU and throttling over time",
            )
        )
    return drawn


def _draw(
    axes: Axes, standing: Standing, style: tuple[str, str, Any]
) -> tuple[float, float] | None:
    """Draws one system; returns where its line ends, or leaves the drawing."""
    colour, marker, line = style
    throttled = np.array([point.figures["throttled"] for point in standing.points])
    waste = np.array([point.figures["waste"] for point in standing.points])
    is_main = style is not _GREY
    axes.plot(
        throttled,
        waste,
        linestyle="none",
        marker=marker,
        ms=4 if is_main else 3,
        color=colour,
        mfc="none" if standing.goods > 1 else colour,
        alpha=1.0 if is_main else 0.5,
        zorder=3 if is_main else 2,
        clip_on=True,
    )
    chosen = frontier.frontier(throttled, waste)
    axes.plot(
        throttled[chosen],
        waste[chosen],
        color=colour,
        ls=line,
        lw=1.4 if is_main else 0.6,
        alpha=1.0 if is_main else 0.5,
        zorder=3 if is_main else 2,
    )
    x, y = throttled[chosen], waste[chosen]
    if not len(x) or x[0] > _MOST_THROTTLED:
        return None
    end = min(float(x[-1]), _MOST_THROTTLED)
    return end, float(np.interp(end, x, y))


def _label_ends(axes: Axes, ends: Sequence[tuple[tuple[float, float] | None, str, str]]) -> None:
    """Writes the names beside the drawing, apart from each other, with a hair line to each end."""
    drawn = [(end, name, colour) for end, name, colour in ends if end is not None]
    lowest = 1.0
    for (x, y), name, colour in sorted(drawn, key=lambda each: -each[0][1]):
        at = min(y, lowest)
        lowest = at - 0.06
        axes.plot(
            (x, _MOST_THROTTLED, _MOST_THROTTLED * 1.015),
            (y, y, at),
            color=colour,
            lw=0.5,
            ls=(0, (1, 3)),
            clip_on=False,
        )
        axes.text(
            _MOST_THROTTLED * 1.02,
            at,
            name,
            color=colour,
            va="center",
            ha="left",
            size=8,
            clip_on=False,
        )


def _container_series(series: Series, index: int, name: str, *, cpus: int) -> ContainerSeries:
    top = cpus * 1000.0  # A limit above the node's CPUs limits nothing, as none does.
    return ContainerSeries(
        name=name,
        usage_millicores=[float(value) for value in series.usage_millicores[:, index]],
        reservation_millicores=[
            min(float(value), top) for value in series.request_millicores[:, index]
        ],
        ceiling_millicores=[min(float(value), top) for value in series.limit_millicores[:, index]],
        throttled_ratio=[float(value) for value in series.throttled_ratio[:, index]],
    )
