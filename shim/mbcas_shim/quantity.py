"""CPU quantities as Kubernetes writes them: 500m, 1.5, 2."""

import re
from decimal import Decimal

MAX_MILLICORES = 10_000_000  # 10,000 cores, the wire's bound.
_PATTERN = re.compile(r"(?P<number>\d{1,12}(\.\d{1,9})?)(?P<milli>m?)", re.ASCII)


def parse_millicores(value: object) -> int:
    """Parses a quantity of CPU.

    Raises:
        ValueError: It is none, negative, finer than 1m or above 10,000 cores.
    """
    text = str(value) if isinstance(value, int | float | str) else ""
    match = None if isinstance(value, bool) else _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{value!r} is no quantity of CPU; write 500m, 1.5 or 2")
    millicores = Decimal(match["number"]) * (1 if match["milli"] else 1000)
    if millicores != millicores.to_integral_value():
        raise ValueError(f"{text} is finer than 1m; round it to whole millicores")
    if millicores > MAX_MILLICORES:
        raise ValueError(f"{text} is more than {MAX_MILLICORES // 1000} cores")
    return int(millicores)
