"""Arrays that grow together: what every table of the core is made of."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

FIRST_CAPACITY = 64  # Rows of a new table; it doubles from there.


@dataclass(frozen=True, slots=True)
class Column:
    """Declares one array of a table: an entry of this type and width per row."""

    dtype: DTypeLike
    fill: float
    width: tuple[int, ...]


def column(dtype: DTypeLike = np.int64, *, fill: float = 0, width: tuple[int, ...] = ()) -> Any:  # noqa: ANN401 - stands for the array it declares
    """Declares an array of a `Table`: shape (capacity, *width), new rows filled with `fill`."""
    return Column(dtype, fill, width)


class Table:
    """Arrays that grow together; entry i of each is about the same row."""

    COLUMNS: ClassVar[dict[str, Column]]

    def __init_subclass__(cls) -> None:
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Column)}
        cls.COLUMNS = getattr(cls, "COLUMNS", {}) | own

    def __init__(self) -> None:
        self.capacity = 0
        for name, spec in self.COLUMNS.items():
            setattr(self, name, np.full((0, *spec.width), spec.fill, spec.dtype))

    def grow(self, capacity: int) -> None:
        """Makes room for rows up to `capacity`, keeping what is there."""
        for name, spec in self.COLUMNS.items():
            array = np.full((capacity, *spec.width), spec.fill, spec.dtype)
            array[: self.capacity] = getattr(self, name)
            setattr(self, name, array)
        self.capacity = capacity

    def reset(self, rows: int | slice | NDArray[np.integer]) -> None:
        """Makes rows new again."""
        for name, spec in self.COLUMNS.items():
            getattr(self, name)[rows] = spec.fill

    def nbytes(self) -> int:
        """Memory of all arrays."""
        return sum(getattr(self, name).nbytes for name in self.COLUMNS)


class Slots:
    """Gives out small integers and takes them back; the tables on it grow when it runs out."""

    def __init__(self, tables: list[Table]) -> None:
        self._tables = tables
        self._free: list[int] = []
        self.capacity = 0
        self.used = 0

    def take(self) -> int:
        """Returns a free slot, reset in every table."""
        if not self._free:
            old, self.capacity = self.capacity, max(FIRST_CAPACITY, 2 * self.capacity)
            for table in self._tables:
                table.grow(self.capacity)
            self._free = list(range(self.capacity - 1, old - 1, -1))
        self.used += 1
        return self._free.pop()

    def give_back(self, slot: int) -> None:
        """Makes a slot free and new."""
        for table in self._tables:
            table.reset(slot)
        self._free.append(slot)
        self.used -= 1
