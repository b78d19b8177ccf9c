"""What a market did with bids, as a picture of water that finds its level.

Each bid is a vessel. It is as wide as the bid's weight, and every area is CPU: 100m fill the same
area wherever they are. Below the base line hangs the floor, as far as the bid needs it: that is
given first. Above it stands the rest of the need, as high as need / weight. Into this the surplus
is poured. It stands at one level in all vessels, L = 1 / shadow price, except in those that are
full below it: that is all there is to weighted max-min. What is missing is the part of a vessel
above the level; where that is far above, the vessel is drawn torn off.

With a node, its own pods stand at the same level. `Allocate` answers for the given bids alone, so
only these are drawn, and the level that there was without them.
"""

import html
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbcas_server.ctl_client import UsageError
from mbcas_server.ctl_picture import Picture, Vessel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INSTALL = "--plot needs matplotlib: pip install 'mbcas[plot]'"
SUFFIXES = {".svg", ".png", ".pdf"}

INK, MUTED, RULE, CARD = "#1f2328", "#656d76", "#d0d7df", "#ffffff"
FLOOR, WATER, MISSING = "#8b949f", "#0072b2", "#d55e00"
LIGHT = {
    "ink": INK,
    "muted": MUTED,
    "rule": RULE,
    "card": CARD,
    "floor": FLOOR,
    "water": WATER,
    "missing": MISSING,
}
DARK = {
    "ink": "#e6edf3",
    "muted": "#9198a1",
    "rule": "#30363d",
    "card": "#0d1117",
    "floor": "#6e7681",
    "water": "#388bd0",
    "missing": "#ff7b3d",
}
FONT_STACK = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# Any: matplotlib types the keys as one literal of all its settings.
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mbcas",  # The same answer gives the same bytes.
    "svg.fonttype": "none",
    "text.parse_math": False,  # A name with dollar signs is a name.
    "hatch.linewidth": 1.0,
    "font.size": 11.0,
    "text.color": INK,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}

# All lengths are pixels: matplotlib's SVG has 72 units an inch.
_POINTS_PER_INCH = 72
_WIDTH, _HEIGHT = 900, 480
_LEFT, _RIGHT, _TOP = 30, 118, 92
_LABELS, _FOOT = 62, 34
_LETTER_ROTATED = 5.8
_GAP, _THINNEST = 3.0, 2.0
_LETTER, _LINE = 6.4, 14.0
_SLOT_ROTATED = 15.0
_TEETH, _TOOTH = 4, 5.0
_SEEN_ABOVE_LEVEL = 2.2
_SEEN_ABOVE_MEAN = 4.0
_SEEN_BEFORE = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where things are, in pixels from the lower left corner."""

    width: float
    height: float
    base: float
    per_unit: float
    """Pixels for each millicore per unit of weight."""
    top: float
    bottom: float
    lefts: tuple[float, ...]
    widths: tuple[float, ...]
    rotated: bool

    def up(self, millicores: float, weight: float) -> float:
        return self.base + millicores / weight * self.per_unit


def check_plot_path(path: Path) -> None:
    """Says what is missing before the server is asked.

    Raises:
        UsageError: The picture cannot be written in this form, or not here.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--plot {path}: must end in {', '.join(sorted(SUFFIXES))}")
    try:
        import matplotlib  # noqa: F401, ICN001, PLC0415 - an extra, only looked for here.
    except ImportError as error:
        raise UsageError(INSTALL) from error


def write_picture(picture: Picture, path: Path) -> None:
    """Writes it; a .svg follows its reader's light or dark theme.

    Raises:
        UsageError: The file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an extra: see `check_plot_path`.

    try:
        with mpl.rc_context(STYLE), warnings.catch_warnings():
            # Its own font lacks many scripts. An SVG's reader brings others; elsewhere, boxes.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            if path.suffix == ".svg":
                path.write_text(_themed(draw(picture), picture.title), encoding="utf-8")
            else:
                draw(picture).savefig(path, dpi=2 * _POINTS_PER_INCH, facecolor=CARD)
    except OSError as error:
        raise UsageError(f"--plot: cannot write {path}: {error}") from error


def draw(picture: Picture) -> "Figure":
    """Draws on one pair of axes, in pixels."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra: see `check_plot_path`.

    layout = _lay_out(picture)
    figure = Figure(figsize=(layout.width / _POINTS_PER_INCH, layout.height / _POINTS_PER_INCH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, layout.width)
    axes.set_ylim(0, layout.height)
    axes.text(_LEFT, layout.height - 22, picture.title, va="top", size=15, weight="bold")
    axes.text(_LEFT, layout.height - 46, picture.note, va="top", color=MUTED, linespacing=1.35)
    axes.text(_LEFT, 14, picture.footer, color=MUTED)
    for vessel, left, width in zip(picture.vessels, layout.lefts, layout.widths, strict=True):
        _draw_vessel(axes, layout, vessel, (left, left + width))
    _draw_levels(axes, layout, picture)
    _draw_labels(axes, layout, picture)
    return figure


def _lay_out(picture: Picture) -> _Layout:
    vessels = picture.vessels
    weight = sum(vessel.weight for vessel in vessels)
    above, below = _seen(picture)
    rotated = sum(_label_width(vessel) for vessel in vessels) > _WIDTH - _LEFT - _RIGHT
    wide = len(vessels) * _SLOT_ROTATED if rotated else 0.0
    room = max(_WIDTH - _LEFT - _RIGHT, wide)
    longest = max(len(_label(vessel)) for vessel in vessels) * _LETTER_ROTATED
    labels = max(longest + 24, _LABELS) if rotated else _LABELS
    height = round(_HEIGHT - _LABELS + labels)
    bottom = _FOOT + labels
    tall = height - _TOP - bottom
    per_unit = tall / (above + below) if above + below > 0 else 1.0
    inner = room - _GAP * (len(vessels) - 1)
    widths = [max(inner * vessel.weight / weight, _THINNEST) for vessel in vessels]
    widths = [width * inner / sum(widths) for width in widths]
    lefts = [_LEFT + sum(widths[:index]) + _GAP * index for index in range(len(vessels))]
    return _Layout(
        width=room + _LEFT + _RIGHT,
        height=height,
        base=bottom + below * per_unit,
        per_unit=per_unit,
        top=height - _TOP,
        bottom=bottom,
        lefts=tuple(lefts),
        widths=tuple(widths),
        rotated=rotated,
    )


def _seen(picture: Picture) -> tuple[float, float]:
    """Returns how much is shown above and below the base line, in millicores per unit of weight."""
    vessels = picture.vessels
    weight = sum(vessel.weight for vessel in vessels)
    surplus = sum(vessel.need - vessel.floor for vessel in vessels)
    highest = max((vessel.need - vessel.floor) / vessel.weight for vessel in vessels)
    deepest = max((vessel.floor + vessel.unused) / vessel.weight for vessel in vessels)
    if picture.level:
        above = min(highest, _SEEN_ABOVE_LEVEL * picture.level)
        before = picture.level_before or 0.0
        if above < before <= _SEEN_BEFORE * picture.level:
            above = before * 1.05
    else:
        above = min(highest, _SEEN_ABOVE_MEAN * surplus / weight)
    return above, min(deepest, above) if above > 0 else deepest


def _draw_vessel(axes: "Axes", layout: _Layout, vessel: Vessel, sides: tuple[float, float]) -> None:
    floor_given = min(vessel.floor, vessel.got)
    poured = vessel.got - floor_given
    missing = vessel.need - vessel.got
    floor_end = max(layout.up(-vessel.floor, vessel.weight), layout.bottom)
    surface = min(layout.up(poured, vessel.weight), layout.top)
    brim = min(layout.up(vessel.need - vessel.floor, vessel.weight), layout.top)
    is_torn = layout.up(vessel.need - vessel.floor, vessel.weight) > layout.top + 1e-6
    is_torn_below = layout.up(-vessel.floor, vessel.weight) < layout.bottom - 1e-6
    promised_end = max(layout.up(-vessel.floor - vessel.unused, vessel.weight), layout.bottom)
    _fill(axes, sides, (layout.base, floor_end), torn=is_torn_below, facecolor=FLOOR)
    unused = {"facecolor": "none", "edgecolor": FLOOR, "linestyle": (0, (3, 3))}
    _fill(axes, sides, (floor_end, promised_end), torn=False, **unused)
    _fill(axes, sides, (layout.base, surface), torn=False, facecolor=WATER)
    style = {"facecolor": "none", "edgecolor": MISSING, "hatch": "///", "alpha": 0.75}
    _fill(axes, sides, (surface, brim), torn=is_torn, **style)
    _number(axes, sides, (floor_end, layout.base), f"{floor_given}m", CARD)
    _number(axes, sides, (layout.base, surface), f"+{poured}m", CARD)
    _number(axes, sides, (promised_end, floor_end), f"{vessel.unused}m not needed", MUTED)
    _number(axes, sides, (surface, brim), f"{missing}m short", MISSING)


def _fill(
    axes: "Axes",
    sides: tuple[float, float],
    ends: tuple[float, float],
    *,
    torn: bool,
    **style: Any,  # noqa: ANN401 - as matplotlib takes them.
) -> None:
    """Fills between two heights; a torn end has teeth."""
    from matplotlib.patches import Polygon  # noqa: PLC0415 - an extra: see `check_plot_path`.

    start, end = ends
    if abs(end - start) < 0.1:  # noqa: PLR2004 - a tenth of a pixel.
        return
    left, right = sides
    far = [(right, end), (left, end)]
    if torn:
        inward = _TOOTH if end < start else -_TOOTH
        steps = range(2 * _TEETH + 1)
        far = [
            (right + (left - right) * step / (2 * _TEETH), end + inward * (step % 2))
            for step in steps
        ]
    axes.add_patch(Polygon([(left, start), (right, start), *far], lw=0.8, **style))


def _number(
    axes: "Axes", sides: tuple[float, float], ends: tuple[float, float], text: str, colour: str
) -> None:
    """Writes into an area, where it fits."""
    fits = sides[1] - sides[0] >= len(text) * _LETTER + 4 and ends[1] - ends[0] >= _LINE + 2
    if not fits:
        return
    box = {"boxstyle": "round,pad=0.15", "facecolor": CARD, "edgecolor": "none"}
    axes.text(
        sum(sides) / 2,
        sum(ends) / 2,
        text,
        ha="center",
        va="center_baseline",
        color=colour,
        size=10.5,
        weight="bold",
        bbox=box if colour == MISSING else None,
    )


def _draw_levels(axes: "Axes", layout: _Layout, picture: Picture) -> None:
    right = layout.width - _RIGHT + 8
    axes.plot([_LEFT - 8, right], [layout.base, layout.base], color=INK, lw=1.0)
    taken = [layout.base]
    axes.text(right + 4, layout.base, "floors", color=MUTED, va="center")
    for level, words, dashes in (
        (picture.level, "level", "solid"),
        (picture.level_before, "level without\nthese bids", (0, (4, 3))),
    ):
        height = layout.base + (level or 0.0) * layout.per_unit
        if level is None or height > layout.top:
            continue
        axes.plot([_LEFT - 8, right], [height, height], color=INK, lw=1.4, ls=dashes)
        text = f"{words}\n{level:.3g}m per unit\nof weight"
        clear = max(height, max(taken) + 3 * _LINE)
        taken.append(clear)
        axes.text(right + 4, clear, text, va="center", size=10)


def _draw_labels(axes: "Axes", layout: _Layout, picture: Picture) -> None:
    """Writes name, got and need under each vessel, side by side even where vessels are thin."""
    centres = [left + width / 2 for left, width in zip(layout.lefts, layout.widths, strict=True)]
    needed = [
        _SLOT_ROTATED if layout.rotated else _label_width(vessel) for vessel in picture.vessels
    ]
    ends = (_LEFT - 8.0, layout.width - _RIGHT + 8.0)
    y = layout.bottom - 18
    places = _spread(centres, needed, ends)
    for vessel, centre, place in zip(picture.vessels, centres, places, strict=True):
        depth = layout.up(-vessel.floor - vessel.unused, vessel.weight)
        bends = [max(depth, layout.bottom) - 3, layout.bottom - 3, y + 2]
        axes.plot([centre, centre, place], bends, color=RULE, lw=0.8)
        if layout.rotated:
            axes.text(place, y, _label(vessel), rotation=90, ha="center", va="top", size=9.5)
            continue
        axes.text(place, y, vessel.name, ha="center", va="top", weight="bold")
        got = _amounts(vessel)
        axes.text(place, y - _LINE - 1, got, ha="center", va="top", size=10, color=MUTED)


def _amounts(vessel: Vessel) -> str:
    return f"{vessel.got}m of {vessel.need}m"


def _label(vessel: Vessel) -> str:
    return f"{vessel.name}  {_amounts(vessel)}"


def _label_width(vessel: Vessel) -> float:
    return (max(len(vessel.name) * 1.12, len(_amounts(vessel))) + 1.5) * _LETTER


def _spread(centres: list[float], widths: list[float], ends: tuple[float, float]) -> list[float]:
    """Moves labels apart as little as is needed, inside the ends."""
    places = []
    edge = ends[0]
    for centre, width in zip(centres, widths, strict=True):
        places.append(max(centre, edge + width / 2))
        edge = places[-1] + width / 2
    edge = ends[1]
    for index in reversed(range(len(places))):
        places[index] = min(places[index], edge - widths[index] / 2)
        edge = places[index] - widths[index] / 2
    return places


def _themed(figure: "Figure", title: str) -> str:
    """Returns the SVG on a card of its own, its colours as variables that follow the theme."""
    figure.patch.set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    for name, colour in LIGHT.items():
        svg = svg.replace(f": {colour}", f": var(--{name}, {colour})")
    svg = re.sub(r"(font(?:-family)?:[^;\"]*?)'DejaVu Sans'[^;\"]*", rf"\1{FONT_STACK}", svg)
    dark = "; ".join(f"--{name}: {colour}" for name, colour in DARK.items())
    style = f"<style>@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}</style>"
    card = (
        '<rect x="0.5" y="0.5" width="calc(100% - 1px)" height="calc(100% - 1px)" rx="10" '
        f'style="fill: var(--card, {CARD}); stroke: var(--rule, {RULE})"/>'
    )
    opening, end, rest = svg.partition(">")
    label = html.escape(title)
    opening = re.sub(r'(width|height)="([0-9.]+)pt"', r'\1="\2"', opening)
    opening = opening.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return f"{opening}{end}{style}{card}{rest}"
