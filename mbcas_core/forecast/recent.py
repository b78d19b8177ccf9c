"""The forecast that assumes nothing: demand stays what it was over the last 15 s."""

from mbcas_core.signals.windows import MEAN_SECONDS, WindowTable, mean_demand
from mbcas_core.units import FloatArray, IntArray

NAME = "mean of the last 15 s"


def forecast(table: WindowTable, rows: IntArray) -> FloatArray:
    """Expected demand of each row until its next round, in millicores, shape (n,)."""
    return mean_demand(table, rows, seconds=MEAN_SECONDS)
