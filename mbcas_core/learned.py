"""What was learned, as plain arrays that outlive the server, and back.

The data is a dictionary of arrays without objects, as `numpy.savez` keeps them: "version", the keys
"pod_uid" and "container", and a column of n entries for each thing learned. What is restored waits
for its containers to appear, and what never appears costs nothing but memory, within the bound on
containers. Where the data comes from is not trusted: it is taken whole or not at all.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mbcas_core import recall
from mbcas_core.errors import FieldError, InvalidInputError
from mbcas_core.recall import COLUMNS, LONG_AGO_SECONDS, PURSE, REST_MAX_SECONDS, Learned
from mbcas_core.rounds import Rounds
from mbcas_core.state import Recalled, State
from mbcas_core.units import MAX_MILLICORES, BoolArray

VERSION = 2
KEYS = {"pod_uid": 128, "container": 253}
"""Names of the key columns, and the most characters of each."""
COUNT_MAX = 1 << 53  # What a float64 still counts one by one.
NAN_COLUMNS = frozenset({"bursts.quiet", "bursts.peaks", "windows.mean", PURSE.name})
"""NaN stands for "nothing yet" in these alone."""

Arrays = dict[str, NDArray[np.generic]]


def export(rounds: Rounds) -> Arrays:
    """Returns what was learned of every container that was measured."""
    state = rounds.state
    rows = state.fleet.row_ids()
    rows = rows[state.windows.seconds[rows] > 0]
    names = [state.fleet.names[row] for row in rows.tolist()]
    kept: Arrays = {
        "version": np.array([VERSION]),
        "pod_uid": np.array([name.pod_uid for name in names], np.str_),
        "container": np.array([name.container for name in names], np.str_),
    }
    for learned in COLUMNS:
        kept[learned.name] = recall.read(state, learned, rows, state.tick_time)
    return kept


def restore(rounds: Rounds, data: Mapping[str, NDArray[np.generic]]) -> int:
    """Remembers what an earlier server learned, for containers that appear from now on.

    Returns:
        How many containers are remembered.

    Raises:
        InvalidInputError: The data is not what `export` returns; nothing is remembered of it.
    """
    state = rounds.state
    errors = _check_shape(state, data) or _check_values(data)
    if errors:
        raise InvalidInputError(errors)
    keys = list(zip(data["pod_uid"].tolist(), data["container"].tolist(), strict=True))
    index = {key: at for at, key in enumerate(keys)}
    if len(index) != len(keys):
        raise InvalidInputError([FieldError("pod_uid", "and container name a row twice")])
    state.recalled = Recalled(
        index=index,
        columns={
            each.name: data[each.name].astype(recall.find(state, each).dtype) for each in COLUMNS
        },
    )
    return len(index)


def _check_shape(state: State, data: Mapping[str, NDArray[np.generic]]) -> list[FieldError]:
    """Whether everything is there, of the right kind and length."""
    version = data.get("version")
    if version is None or version.shape != (1,) or version.dtype.kind != "i":
        return [FieldError("version", "is missing or no whole number")]
    if int(version[0]) != VERSION:
        return [FieldError("version", f"is {version[0]}, must be {VERSION}")]
    missing = [name for name in (*KEYS, *(each.name for each in COLUMNS)) if name not in data]
    if missing:
        return [FieldError(name, "is missing") for name in missing]
    count = data["pod_uid"].size
    most = state.parameters.max_containers
    if count > most:
        return [FieldError("pod_uid", f"has {count} entries, must have at most {most}")]
    # Each character takes four bytes.
    errors = [
        FieldError(name, f"must be {count} strings of at most {longest} characters")
        for name, longest in KEYS.items()
        if data[name].dtype.kind != "U"
        or data[name].shape != (count,)
        or data[name].dtype.itemsize > 4 * longest
    ]
    return errors + _check_columns(state, data, count)


def _check_columns(
    state: State, data: Mapping[str, NDArray[np.generic]], count: int
) -> list[FieldError]:
    errors = []
    for learned in COLUMNS:
        own = recall.find(state, learned)
        shape, kind = (count, *own.shape[1:]), own.dtype.kind
        column = data[learned.name]
        if column.shape != shape or column.dtype.kind != kind:
            found = f"is {column.shape} of kind {column.dtype.kind!r}"
            errors.append(FieldError(learned.name, f"{found}, must be {shape} of kind {kind!r}"))
    return errors


def _check_values(data: Mapping[str, NDArray[np.generic]]) -> list[FieldError]:
    errors = []
    for learned in COLUMNS:
        bad = _find_bad(learned, data[learned.name])
        if bad.any():
            value = data[learned.name][np.unravel_index(int(bad.argmax()), bad.shape)]
            most = _find_most(learned, data[learned.name])
            errors.append(FieldError(learned.name, f"has {value}, must be from 0 to {most:g}"))
    return errors


def _find_bad(learned: Learned, column: NDArray[np.generic]) -> BoolArray:
    values = column.astype(np.float64)
    good: BoolArray = (values >= 0) & (values <= _find_most(learned, column))
    if learned.name in NAN_COLUMNS:
        good |= np.isnan(values)
    return ~good


def _find_most(learned: Learned, column: NDArray[np.generic]) -> float:
    if learned.is_time:
        return LONG_AGO_SECONDS
    if learned.is_deadline:
        return REST_MAX_SECONDS
    is_count = column.dtype.kind == "i" or learned is PURSE
    return float(COUNT_MAX if is_count else MAX_MILLICORES)
