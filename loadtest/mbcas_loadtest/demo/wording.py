"""How figures are written for people: one dash for what is not there, one minus sign."""

import math

DASH = "\u2013"  # The en dash.
MINUS = "\u2212"  # As wide as the plus sign.
_MOST_DECIMALS = 6


def number(value: float | None) -> float | None:
    """The value, or None where it is absent or not finite."""
    return value if value is not None and math.isfinite(value) else None


def fixed(value: float | None, decimals: int, unit: str = "") -> str:
    """A value with its unit, a dash where there is none."""
    if number(value) is None:
        return DASH
    return f"{value:,.{decimals}f}{unit}".replace("-", MINUS)


def percent(ratio: float | None, decimals: int = 1) -> str:
    """A ratio as a percentage."""
    return DASH if ratio is None else fixed(ratio * 100, decimals, " %")


def millicores(value: float | None) -> str:
    """CPU in millicores."""
    return fixed(value, 0, "m").replace(",", "")  # As Kubernetes writes it.


def milliseconds(value: float | None) -> str:
    """A delay; decimals only where they can be read."""
    present = number(value)
    return fixed(present, 1 if present is not None and present < 10 else 0, " ms")  # noqa: PLR2004  Two digits.


def apart(before: float, after: float, decimals: int, unit: str) -> tuple[str, str]:
    """Both values, with as many decimals as it takes to tell them apart."""
    for places in range(decimals, _MOST_DECIMALS + 1):
        texts = fixed(before, places, unit), fixed(after, places, unit)
        if texts[0] != texts[1]:
            return texts
    return f"{before!r}{unit}", f"{after!r}{unit}"


def relative(before: float | None, after: float | None) -> str:
    """The change as a signed percentage of what was before; a dash where that says nothing."""
    first, second = number(before), number(after)
    if first is None or second is None or first <= 0:
        return DASH
    change = (second / first - 1) * 100
    if abs(change) < 0.5:  # noqa: PLR2004  What rounds to nothing is called nothing.
        return "±0 %"
    return f"{change:+,.0f} %".replace("-", MINUS)


def points(before: float | None, after: float | None) -> str:
    """The change of a ratio in percentage points, signed."""
    first, second = number(before), number(after)
    if first is None or second is None:
        return DASH
    change = (second - first) * 100
    decimals = 1 if change == 0 or abs(change) >= 0.05 else 2  # noqa: PLR2004  Rounds to nothing.
    return f"{change:+.{decimals}f} pt".replace("-", MINUS)
