"""Three gauges of scarcity per market."""

from dataclasses import dataclass

from mbcas_core.units import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prices:
    """The gauges of m markets, shape (m,) each."""

    shadow_price: FloatArray
    shadow_price_normalized: FloatArray
    shortage: FloatArray
