"""What is learned of a container and outlives the server: which columns, and how a row gets them.

Enough that a new server does not cut what bursts every few minutes, or what used to need more than
in the first seconds it is seen: burst peaks, recent needs, ten minutes of means, and cuts that had
to be taken back. Seconds of usage are measured anew. Neither does a new server cut short what was
promised, which is to leave alone whatever rests or was released, nor fill purses anew.
"""

from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from mbcas_core.state import State
from mbcas_core.units import FloatArray, IntArray

LONG_AGO_SECONDS = 1e6
"""Ages are at most this."""
REST_MAX_SECONDS = 86_400.0
"""Nothing is left alone for longer."""


@dataclass(frozen=True, slots=True)
class Learned:
    """One column of what is learned."""

    table: str
    """Name of the table in `State`, with dots."""
    column: str
    is_time: bool = False
    """Kept as an age: clocks of two servers have nothing in common."""
    is_deadline: bool = False
    """Kept as the seconds that remain."""
    owner: str = ""
    """Whose it is, if not the row's: the row's column with that one's id."""

    @property
    def name(self) -> str:
        return f"{self.table}.{self.column}"


PURSE = Learned("purses", "restored", owner="pod")
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
    Learned("ledger", "rest_until", is_deadline=True),
    Learned("ledger", "foreign_until", is_deadline=True),
    Learned("fleet.rows", "hold_until", is_deadline=True),
    Learned("fleet.namespaces", "rest_until", is_deadline=True, owner="namespace"),
    PURSE,
)


def find(state: State, learned: Learned) -> NDArray[np.generic]:
    """The array of a column, one entry for each row, pod or namespace."""
    array: NDArray[np.generic] = attrgetter(learned.name)(state)
    return array


def read(state: State, learned: Learned, rows: IntArray, now_seconds: float) -> NDArray[np.generic]:
    """What these rows have of a column, as it is kept."""
    owners = getattr(state.fleet.rows, learned.owner)[rows] if learned.owner else rows
    values = find(state, learned)[owners]
    if learned.is_time:
        ages: FloatArray = now_seconds - values.astype(np.float64)
        return np.clip(ages, 0.0, LONG_AGO_SECONDS)
    if learned.is_deadline:
        remaining: FloatArray = values.astype(np.float64) - now_seconds
        return np.clip(remaining, 0.0, REST_MAX_SECONDS)
    if learned is PURSE:
        return np.where(state.purses.endowed[owners], state.purses.balance[owners], values)
    return values


def apply(state: State, row: int, *, now_seconds: float) -> None:
    """Gives a new row what is remembered of its container, once."""
    names = state.fleet.names[row]
    at = state.recalled.index.pop((names.pod_uid, names.container), None)
    if at is None:
        return
    for learned in COLUMNS:
        value, column = state.recalled.columns[learned.name][at], find(state, learned)
        owner = int(getattr(state.fleet.rows, learned.owner)[row]) if learned.owner else row
        if learned.is_time:
            value = now_seconds - value
        elif learned.is_deadline:
            value = np.maximum(column[owner], now_seconds + value)
        column[owner] = value
    if not state.recalled.index:
        state.recalled.columns = {}
