"""Quantities as the API server writes them: 500m, 1.5, 100u, 1e-1, 64Mi."""

import functools
import re
from fractions import Fraction

_PATTERN = re.compile(
    r"(?P<number>[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40}))"
    r"([eE](?P<exponent>[+-]?\d{1,2})|(?P<suffix>[KMGTPE]i|[numkMGTPE])?)",
    re.ASCII,
)
_SCALES: dict[str | None, Fraction] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    None: Fraction(1),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", start=1)},
}
_REMEMBERED = 1024  # A node's pods share a few dozen quantities.


def parse_quantity(value: object) -> Fraction:
    """Parses a quantity, exactly.

    Raises:
        ValueError: It is none.
    """
    is_written = isinstance(value, int | float | str) and not isinstance(value, bool)
    return _parse(str(value) if is_written else "")


@functools.lru_cache(maxsize=_REMEMBERED)
def _parse(text: str) -> Fraction:
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no quantity")
    number = match["number"].rstrip(".")
    exponent = Fraction(f"1e{match['exponent'] or 0}")
    return Fraction(number) * _SCALES[match["suffix"]] * exponent
