"""What is learned of a container and outlives the server: which columns, and how a row gets them.

Enough that a new server does not cut what bursts every few minutes, or what used to need more than
in the first seconds it is seen: burst peaks, recent needs, ten minutes of means, and cuts that had
to be taken back. Seconds of usage are measured anew.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbcas_core.state import State
from mbcas_core.units import FloatArray, IntArray

LONG_AGO_SECONDS = 1e6
"""Ages are at most this."""


@dataclass(frozen=True, slots=True)
class Learned:
    """One column of what is learned."""

    table: str
    """Name of the table in `State`."""
    column: str
    is_time: bool = False
    """Kept as an age: clocks of two servers have nothing in common."""

    @property
    def name(self) -> str:
        return f"{self.table}.{self.column}"


COLUMNS = (
    Learned("agent", "caution"),
    Learned("agent", "caution_time", is_time=True),
    Learned("agent", "window_need"),
    Learned("agent", "window_before"),
    Learned("agent", "window_time", is_time=True),
    Learned("bursts", "quiet"),
    Learned("bursts", "peaks"),
    Learned("bursts", "bursts"),
    Learned("bursts", "since"),
    Learned("windows", "mean"),
    Learned("windows", "means"),
)


def find(state: State, learned: Learned) -> NDArray[np.generic]:
    """The array of a column, one entry for each row."""
    array: NDArray[np.generic] = getattr(getattr(state, learned.table), learned.column)
    return array


def read(state: State, learned: Learned, rows: IntArray, now_seconds: float) -> NDArray[np.generic]:
    """What these rows have of a column, as it is kept."""
    values = find(state, learned)[rows]
    if not learned.is_time:
        return values
    ages: FloatArray = now_seconds - values.astype(np.float64)
    return np.clip(ages, 0.0, LONG_AGO_SECONDS)


def apply(state: State, row: int, *, now_seconds: float) -> None:
    """Gives a new row what is remembered of its container, once."""
    names = state.fleet.names[row]
    at = state.recalled.index.pop((names.pod_uid, names.container), None)
    if at is None:
        return
    for learned in COLUMNS:
        value = state.recalled.columns[learned.name][at]
        find(state, learned)[row] = now_seconds - value if learned.is_time else value
    if not state.recalled.index:
        state.recalled.columns = {}
