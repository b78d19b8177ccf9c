"""Drawings over time: a container, or a gauge."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mbcas_loadtest.pages import wording
from mbcas_loadtest.pages.series import ContainerSeries
from mbcas_loadtest.pages.svg import (
    CEILING,
    INK,
    RESERVATION,
    RULE,
    STYLE,
    THROTTLED,
    USAGE,
    WARM,
    labelled_svg,
)

_THROTTLE_LEVELS = 4
_PANEL_INCHES = (5.4, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAxis:
    """The seconds that every drawing of a run shares."""

    warmup_seconds: float
    end_seconds: float


def highest_millicores(series: Sequence[ContainerSeries]) -> float:
    """The top of a scale on which all of these fit."""
    values = [
        value
        for one in series
        for line in (one.usage_millicores, one.reservation_millicores, one.ceiling_millicores)
        for value in line
        if wording.number(value) is not None
    ]
    return max([*values, 10.0]) * 1.08


def container_panel(
    seconds: Sequence[float],
    container: ContainerSeries,
    *,
    time: TimeAxis,
    top_millicores: float,
    title: str,
) -> str:
    """One container: usage, reservation, ceiling, and where it was throttled."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=_PANEL_INCHES)
        axes = figure.add_axes((0.095, 0.30, 0.87, 0.62))
        strip = figure.add_axes((0.095, 0.17, 0.87, 0.075), sharex=axes)
        draw_container(axes, seconds, container, top_millicores=top_millicores)
        draw_throttling(strip, seconds, container.throttled_ratio)
        frame_time(axes, strip, time)
        return labelled_svg(figure, title)


def gauge_panel(
    seconds: Sequence[float],
    values: Sequence[float],
    *,
    time: TimeAxis,
    is_ratio: bool,
    title: str,
) -> str:
    """One gauge of the market over time."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_PANEL_INCHES[0], 1.5))
        axes = figure.add_axes((0.095, 0.25, 0.87, 0.66))
        count = min(len(seconds), len(values))
        axes.plot(seconds[:count], values[:count], color=INK, lw=1.1, drawstyle="steps-post")
        finite = [v for v in values[:count] if wording.number(v) is not None]
        axes.set_ylim(0, max([*finite, 0.1]) * 1.1)
        if is_ratio:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y * 100:.0f} %"))
        _frame_values(axes, ticks=3)
        frame_time(axes, axes, time)
        return labelled_svg(figure, title)


def draw_container(
    axes: Axes,
    seconds: Sequence[float],
    container: ContainerSeries,
    *,
    top_millicores: float,
    has_reservation: bool = True,
) -> None:
    """Usage as an area, ceiling solid and reservation dashed, as steps."""
    # A second's usage belongs to the second before its reading; a setting holds from its reading.
    usage = container.usage_millicores[: len(seconds)]
    times, usage = [0.0, *seconds[: len(usage)]], [*usage[:1], *usage]
    times = times[: len(usage)]
    axes.fill_between(times, usage, step="pre", color=USAGE, alpha=0.28, lw=0)
    axes.plot(times, usage, color=USAGE, lw=0.9, drawstyle="steps-pre")
    dashed = (0, (3, 4))  # Where both are equal, the ceiling shows between the dashes.
    for values, colour, width, dashes in (
        (container.ceiling_millicores, CEILING, 2.0, "solid"),
        (container.reservation_millicores if has_reservation else [], RESERVATION, 1.4, dashed),
    ):
        count = min(len(seconds), len(values))
        axes.plot(
            seconds[:count],
            values[:count],
            color=colour,
            lw=width,
            ls=dashes,
            drawstyle="steps-post",
        )
    axes.set_ylim(0, top_millicores)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0f}m"))
    _frame_values(axes, ticks=4)


def draw_throttling(axes: Axes, seconds: Sequence[float], ratios: Sequence[float]) -> None:
    """A strip in which each second is the darker, the more of its periods were throttled."""
    starts = [0.0, *seconds[:-1]]
    levels = [
        (start, end, _level(ratio))
        for start, end, ratio in zip(starts, seconds, ratios, strict=False)
    ]
    for level, run in groupby(levels, key=lambda entry: entry[2]):
        spans = list(run)
        if level:
            axes.axvspan(
                spans[0][0], spans[-1][1], color=THROTTLED, alpha=level / _THROTTLE_LEVELS, lw=0
            )
    axes.axhspan(0, 1, facecolor=WARM, alpha=0.10, lw=0, zorder=0)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.spines["bottom"].set_visible(False)


def frame_time(axes: Axes, lowest: Axes, time: TimeAxis) -> None:
    """Puts the time on the lowest of the axes, and greys what is shown but not counted."""
    if time.warmup_seconds > 0:
        axes.axvspan(0, time.warmup_seconds, facecolor=WARM, alpha=0.20, lw=0, zorder=0)
    axes.set_xlim(0, max(time.end_seconds, 1.0))
    if lowest is not axes:
        axes.tick_params(axis="x", labelbottom=False, length=0)
    lowest.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f} s"))


def _frame_values(axes: Axes, *, ticks: int) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="y", color=RULE, lw=0.5, alpha=0.8)
    axes.set_axisbelow(True)


def _level(ratio: float) -> int:
    present = wording.number(ratio)
    if present is None or present <= 0:
        return 0
    return min(_THROTTLE_LEVELS, int(present * _THROTTLE_LEVELS * 0.999) + 1)
