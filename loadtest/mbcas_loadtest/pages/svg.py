"""Drawings as SVG, in colours that follow the page's light or dark theme.

Every colour below is drawn by its light value and then replaced by a CSS variable that falls back
to it. The five data colours are Okabe and Ito's, which people with any colour vision can tell
apart; line style says the same again.
"""

import html
import io
import re
from typing import Any
from xml.etree import ElementTree as ET

from matplotlib.figure import Figure

INK, MUTED, RULE, WARM = "#1f2328", "#656d76", "#d0d7df", "#8b949f"
USAGE, RESERVATION, CEILING, THROTTLED = "#0072b2", "#009e73", "#b87700", "#d55e00"
VARIABLES = {
    "ink": INK,
    "muted": MUTED,
    "rule": RULE,
    "warm": WARM,
    "usage": USAGE,
    "reservation": RESERVATION,
    "ceiling": CEILING,
    "throttled": THROTTLED,
}
DARK_COLOURS = {
    "ink": "#e6edf3",
    "muted": "#9198a1",
    "rule": "#30363d",
    "warm": "#8b949f",
    "usage": "#56b4e9",
    "reservation": "#2fc99a",
    "ceiling": "#e69f00",
    "throttled": "#ff7b3d",
}
FONT_STACK = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# Any: matplotlib types the keys as one literal of all its settings.
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mbcas",  # The same run gives the same bytes.
    "svg.fonttype": "none",
    "text.parse_math": False,  # A name with dollar signs is a name.
    "font.size": 8.0,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.7,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 2.5,
    "ytick.major.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_SVG = "http://www.w3.org/2000/svg"


def labelled_svg(figure: Figure, title: str) -> str:
    """The figure as one <svg> element that says what it shows to who cannot see it."""
    label = html.escape(title)
    return bare_svg(figure).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def themed(svg: str) -> str:
    """Puts CSS variables in the place of the colours they fall back to."""
    for name, colour in VARIABLES.items():
        svg = svg.replace(f": {colour}", f": var(--{name}, {colour})")
    return re.sub(r"(font(?:-family)?:[^;\"]*?)'DejaVu Sans'[^;\"]*", rf"\1{FONT_STACK}", svg)


def bare_svg(figure: Figure) -> str:
    """The figure's <svg> element alone: no prologue, no metadata, no fixed size."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ET.fromstring(buffer.getvalue())  # noqa: S314  Matplotlib wrote it just now.
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    del root.attrib["width"], root.attrib["height"]
    return themed(ET.tostring(root, encoding="unicode"))
