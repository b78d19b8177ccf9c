"""Kubernetes quantities as numbers, and back in the form the API server writes them."""

from decimal import ROUND_CEILING, Decimal

BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
DECIMAL = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal("1e3"),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
}


def number_of(text: str | float) -> Decimal:
    """Returns a quantity as a number of its unit: cores, bytes.

    Raises:
        ArithmeticError: it is none.
    """
    text = str(text)
    for suffix, factor in BINARY.items():
        if text.endswith(suffix):
            return Decimal(text.removesuffix(suffix)) * factor
    digits = text.rstrip("numkMG")
    return Decimal(digits) * DECIMAL[text[len(digits) :]]


def millicores_of(text: str) -> int:
    """Returns a CPU quantity in millicores, rounded up as Kubernetes does."""
    return int((number_of(text) * 1000).to_integral_value(ROUND_CEILING))


def canonical(text: str | float) -> str:
    """Writes a quantity as the API server does: 1000m as 1, 0.5 as 500m, 1024Ki as 1Mi."""
    text = str(text)
    suffix = next((suffix for suffix in BINARY if text.endswith(suffix)), None)
    value = number_of(text)
    if suffix is None:
        whole = value == value.to_integral_value()
        return str(int(value)) if whole else f"{millicores_of(text)}m"
    for larger, factor in reversed(BINARY.items()):
        if value % factor == 0:
            return f"{int(value / factor)}{larger}"
    return str(int(value))
