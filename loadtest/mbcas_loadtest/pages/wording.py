"""How figures are written for people: one dash for what is not there, one minus sign."""

import math

DASH = "\u2013"  # The en dash.
MINUS = "\u2212"  # As wide as the plus sign.
_MOST_DECIMALS = 6
# Below these a figure would be rounded to nothing, and is called nothing or gets another decimal.
_LEAST_PERCENT = 0.5
_LEAST_POINTS, _LEAST_POINTS_WITH_TWO_DECIMALS = 0.05, 0.005
_LEAST_DELAY_WITHOUT_DECIMALS_MS = 10


def number(value: float | None) -> float | None:
    """The value, or None where it is absent or not finite."""
    return value if value is not None and math.isfinite(value) else None


def is_more(value: float, than: float) -> bool:
    """Whether a figure is higher by more than the last bits that summing floats leaves."""
    return value > than and not math.isclose(value, than, rel_tol=1e-9, abs_tol=1e-12)


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
    is_short = present is not None and present < _LEAST_DELAY_WITHOUT_DECIMALS_MS
    return fixed(present, 1 if is_short else 0, " ms")


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
    if abs(change) < _LEAST_PERCENT:
        return "±0 %"
    return f"{change:+,.0f} %".replace("-", MINUS)


def points(before: float | None, after: float | None) -> str:
    """The change of a ratio in percentage points, signed."""
    first, second = number(before), number(after)
    if first is None or second is None:
        return DASH
    change = (second - first) * 100
    if abs(change) < _LEAST_POINTS_WITH_TWO_DECIMALS:
        return "±0.0 pt"
    decimals = 1 if abs(change) >= _LEAST_POINTS else 2
    return f"{change:+.{decimals}f} pt".replace("-", MINUS)
