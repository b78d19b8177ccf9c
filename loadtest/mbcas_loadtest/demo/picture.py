"""The demo's result as one picture for a README: 900 x 420, on a card of its own colour."""

import html
import textwrap
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mbcas_loadtest.demo import findings
from mbcas_loadtest.demo.record import ContainerResult, DemoRecord, Phase
from mbcas_loadtest.pages import plots, wording
from mbcas_loadtest.pages.plots import TimeAxis, draw_container, draw_throttling, frame_time
from mbcas_loadtest.pages.series import ContainerSeries
from mbcas_loadtest.pages.svg import (
    CEILING,
    DARK_COLOURS,
    INK,
    MUTED,
    RULE,
    STYLE,
    THROTTLED,
    USAGE,
    WARM,
    bare_svg,
)

WIDTH, HEIGHT = 900, 420
_POINTS_PER_INCH = 72  # Matplotlib's SVG has 72 units an inch: one unit is one pixel here.
_MOST_BARS = 6
_LIGHT_CARD, _DARK_CARD = "#ffffff", "#0d1117"
_Pair = tuple[ContainerResult, ContainerResult]


def picture_svg(record: DemoRecord) -> str:
    """The services' throttled shares, and the most throttled service over time, in both phases."""
    with mpl.rc_context({**STYLE, "font.size": 11.0}):
        figure = Figure(figsize=(WIDTH / _POINTS_PER_INCH, HEIGHT / _POINTS_PER_INCH))
        figure.text(0.03, 0.945, _title(record), va="top", size=15, weight="bold", linespacing=1.35)
        pairs = _service_pairs(record)
        if pairs:
            _draw_bars(figure, pairs)
            _draw_service(figure, record, pairs[0][0].name)
        figure.text(0.03, 0.035, _footnote(record), color=MUTED, size=10)
        return _on_card(bare_svg(figure), findings.verdict(record))


def _title(record: DemoRecord) -> str:
    return textwrap.fill(findings.verdict(record), width=84, break_on_hyphens=False)


def _footnote(record: DemoRecord) -> str:
    where = (
        "the built-in model of CFS bandwidth control, not a kernel"
        if record.environment == "model"
        else "real processes under real kernel quotas"
    )
    return f"make demo: {where}, policy {record.policy}, seed {record.seed}"


def _service_pairs(record: DemoRecord) -> list[_Pair]:
    """The services of both phases, the one that `static` throttled most first."""
    found = [
        (before, after)
        for before, after in findings.pairs(record)
        if before is not None and after is not None and before.role == "service"
    ]
    found.sort(key=lambda pair: wording.number(pair[0].throttled_fraction) or 0.0, reverse=True)
    return found[:_MOST_BARS]


def _draw_bars(figure: Figure, pairs: Sequence[_Pair]) -> None:
    figure.text(0.03, 0.725, "Throttled share of time", weight="bold", size=11)
    axes = figure.add_axes((0.12, 0.13, 0.24, 0.57))
    top = max(0.01, *(share for pair in pairs for share in _shares(pair)))
    for place, pair in enumerate(pairs):
        for share, offset, colour, ink in zip(
            _shares(pair), (0.19, -0.19), (WARM, THROTTLED), (MUTED, INK), strict=True
        ):
            axes.barh(-place + offset, share, height=0.34, color=colour, lw=0)
            axes.text(
                share + top * 0.03,
                -place + offset,
                wording.percent(share),
                va="center_baseline",
                size=10.5,
                color=ink,
            )
    axes.set_xlim(0, top * 1.3)
    axes.set_ylim(-len(pairs) + 0.45, 0.55)
    axes.set_xticks([])
    axes.set_yticks([-place for place in range(len(pairs))], [p[0].name for p in pairs])
    axes.tick_params(axis="y", colors=INK, length=0)
    axes.spines["bottom"].set_visible(False)
    axes.axvline(0, color=RULE, lw=1)
    handles = [Patch(color=WARM, lw=0), Patch(color=THROTTLED, lw=0)]
    _legend(figure, handles, ["static", "mbcas"], left=0.215)


def _shares(pair: _Pair) -> tuple[float, float]:
    before, after = (wording.number(one.throttled_fraction) or 0.0 for one in pair)
    return before, after


def _draw_service(figure: Figure, record: DemoRecord, name: str) -> None:
    found = [
        (phase, one)
        for phase in record.phases
        for one in phase.series.containers
        if one.name == name and phase.series.seconds
    ]
    if not found:
        return
    figure.text(0.42, 0.725, f"{name} over time", weight="bold", size=11)
    top = plots.highest_millicores([one for _, one in found])
    time = TimeAxis(
        warmup_seconds=record.warmup_seconds,
        end_seconds=max(phase.series.seconds[-1] for phase, _ in found),
    )
    for (phase, one), bottom in zip(found, (0.455, 0.13), strict=False):
        axes = figure.add_axes((0.47, bottom + 0.035, 0.465, 0.2))
        strip = figure.add_axes((0.47, bottom, 0.465, 0.025), sharex=axes)
        _draw_phase(axes, strip, phase, one, top_millicores=top)
        frame_time(axes, strip, time)
    handles = [
        Patch(facecolor=USAGE, alpha=0.4, lw=0),
        Line2D([], [], color=CEILING, lw=2),
        Patch(color=THROTTLED, lw=0),
        Patch(facecolor=WARM, alpha=0.25, lw=0),
    ]
    _legend(figure, handles, ["usage", "ceiling", "throttled", "warm-up"], left=0.615)


def _draw_phase(
    axes: Axes, strip: Axes, phase: Phase, one: ContainerSeries, *, top_millicores: float
) -> None:
    seconds = phase.series.seconds
    draw_container(axes, seconds, one, top_millicores=top_millicores, has_reservation=False)
    draw_throttling(strip, seconds, one.throttled_ratio)
    axes.tick_params(labelsize=9.5)
    strip.tick_params(labelsize=9.5)
    axes.text(1.012, 0.5, phase.name, transform=axes.transAxes, va="center", rotation=270)


def _legend(
    figure: Figure, handles: Sequence[Artist], labels: Sequence[str], *, left: float
) -> None:
    figure.legend(
        handles,
        labels,
        loc="center left",
        bbox_to_anchor=(left, 0.735),
        ncols=len(labels),
        frameon=False,
        labelcolor=MUTED,
        fontsize=10,
        handlelength=1.2,
        handletextpad=0.4,
        columnspacing=1.0,
        borderpad=0,
    )


def _on_card(svg: str, label: str) -> str:
    """Gives the picture its own background: a viewer's theme need not be the page's."""
    dark = "; ".join(f"--{name}: {colour}" for name, colour in DARK_COLOURS.items())
    style = (
        f"<style>:root {{ --card: {_LIGHT_CARD} }} @media (prefers-color-scheme: dark) "
        f"{{ :root {{ --card: {_DARK_CARD}; {dark} }} }}</style>"
    )
    card = (
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10" '
        f'style="fill: var(--card, {_LIGHT_CARD}); stroke: var(--rule, {RULE})"/>'
    )
    opening, end, rest = svg.partition(">")
    sized = opening.replace(
        "<svg ",
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{html.escape(label)}" ',
        1,
    )
    return f"{sized}{end}{style}{card}{rest}"
