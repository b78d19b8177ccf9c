"""Reads recorded series: CSV, plain or gzipped, `series_id,t_seconds,VALUE` in long format.

The unit is the name of the value's column: `cpu_millicores`, `rps` (requests per second), or
`level` (a shape without a unit). Wide files have further columns; one of these three counts, the
others are left alone. Lines of a series stand together, times ascend from 0 or later.

A step of more than one and a half median steps is a gap: samples are missing there, and unless the
reader allows it that is an error. Up to there a series is uneven, as recorders are: steps of 10, 20
and 30 s are in one of those that this was written for. Where most samples are missing, evenly, the
median is that of the rest, and nobody can tell.

Whatever is wrong ends in a TraceError that names the file, the line and the field.
"""

import contextlib
import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

import numpy as np

from mbcas_core.units import MAX_MILLICORES, FloatArray

Unit = Literal["cpu_millicores", "rps", "level"]

UNITS: tuple[Unit, ...] = ("cpu_millicores", "rps", "level")
KEY_COLUMNS = ("series_id", "t_seconds")
ROWS_MAX = 5_000_000
"""Of a file; the largest of the traces this was written for has a tenth of it."""
LINE_CHARACTERS_MAX = 10_000
CHARACTERS_MAX = 1 << 29
"""Of a file, unpacked: a hundred bytes a row; a small archive can hold far more."""
ID_CHARACTERS_MAX = 250
SHOWN_IDS_MAX = 5
SHOWN_CHARACTERS_MAX = 40
HEADER_CHARACTERS_MAX = 500
GAP_STEPS = 1.5
_ROUNDING_SECONDS = 1e-6
"""Of a step between times of a calendar."""
DAYS_MAX = 40
"""Of a series; the longest recorded one has 30. Replays keep every second of it in memory."""
_DURATION_MAX_SECONDS = DAYS_MAX * 86_400.0
_TIME_MAX = 1e10  # Three centuries: times may be those of a calendar.
_VALUE_MAX: dict[Unit, float] = {"cpu_millicores": MAX_MILLICORES, "rps": 1e9, "level": 1e12}


class TraceError(Exception):
    """A trace cannot be used; the message names file, line and field, and what is allowed."""


class GapError(TraceError):
    """Samples are missing, and the reader did not allow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Samples are missing before this line."""

    line: int
    from_seconds: float
    to_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Series:
    """One recorded series."""

    path: Path
    series_id: str
    unit: Unit
    t_seconds: FloatArray
    """(k,) ascending."""
    values: FloatArray
    """(k,) not negative, in the unit; each holds from its time until the next."""
    sample_seconds: float
    """Median step."""
    gaps: tuple[Gap, ...]

    @property
    def duration_seconds(self) -> float:
        """From the first sample to the end of the last."""
        return float(self.t_seconds[-1] - self.t_seconds[0] + self.sample_seconds)


def read_series(
    path: Path, series_id: str | None = None, *, column: Unit | None = None, may_gap: bool = False
) -> Series:
    """Reads one series.

    Args:
        path: A .csv or .csv.gz file.
        series_id: Which; may be left out where the file holds only one.
        column: Which unit, where a wide file has several.
        may_gap: Return a series with gaps; otherwise the first gap is an error.

    Raises:
        GapError: Samples are missing.
        TraceError: The file or the series cannot be used.
    """
    with _open(path) as text:
        rows = _rows(path, text)
        header = [name.strip() for name in next(rows, (1, []))[1]]
        unit = _find_unit(path, header, column)
        reading = _Reading(path, unit, [header.index(name) for name in (*KEY_COLUMNS, unit)])
        for line, row in rows:
            if len(row) != len(header):
                raise _error(
                    path, line, "line", f"has {len(row)} fields, the header has {len(header)}"
                )
            reading.add(line, row, series_id)
    return reading.finish(series_id, may_gap=may_gap)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    """Opens once: what comes through a pipe cannot be read again."""
    try:
        raw = path.open("rb")
        is_zipped = raw.peek(2)[:2] == b"\x1f\x8b"
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from error
    with raw:
        unpacked = gzip.GzipFile(fileobj=raw) if is_zipped else raw
        # With or without a byte order mark, which spreadsheets write.
        with io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="") as text:
            yield text


def _rows(path: Path, text: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yields line numbers and fields; empty lines are left out."""
    reader = csv.reader(_lines(path, text), strict=True)
    try:
        for count, row in enumerate(reader):
            if count > ROWS_MAX:
                raise _error(path, reader.line_num, "line", f"is beyond {ROWS_MAX} rows")
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise _error(path, reader.line_num, "line", f"is no CSV: {error}") from error
    except UnicodeDecodeError as error:
        before: bytes = error.object[: error.start]  # Of what was read ahead.
        line = reader.line_num + 1 + before.count(b"\n")
        raise _error(path, line, "line", "is not UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise _error(path, reader.line_num + 1, "line", f"cannot be unpacked: {error}") from error


def _lines(path: Path, text: TextIO) -> Iterator[str]:
    """Yields lines, none of them too long: a line without end would fill the memory."""
    number = 0
    left = CHARACTERS_MAX
    while line := text.readline(LINE_CHARACTERS_MAX + 1):
        number += 1
        left -= len(line)
        if len(line) > LINE_CHARACTERS_MAX:
            raise _error(path, number, "line", f"is longer than {LINE_CHARACTERS_MAX} characters")
        if left < 0:
            raise _error(path, number, "line", f"is beyond {CHARACTERS_MAX} characters of the file")
        yield line


def _find_unit(path: Path, header: Sequence[str], column: Unit | None) -> Unit:
    shown = ", ".join(header)[:HEADER_CHARACTERS_MAX]
    if not shown.isprintable():
        raise _error(path, 1, "header", f"is {shown[:SHOWN_CHARACTERS_MAX]!r}: is this a CSV?")
    for name in KEY_COLUMNS:
        if name not in header:
            raise _error(path, 1, name, f"is missing; the columns are {shown or 'none'}")
    if len(set(header)) < len(header):
        raise _error(path, 1, "header", "names a column twice")
    allowed = UNITS if column is None else (column,)
    found = [unit for unit in allowed if unit in header]
    if not found:
        raise _error(
            path,
            1,
            "header",
            f"has {shown}; the value's column must be one of {', '.join(allowed)}, "
            "in that unit (1000 millicores are one core)",
        )
    if len(found) > 1:
        raise _error(path, 1, "header", f"has {' and '.join(found)}: say which column")
    return found[0]


class _Reading:
    """The wanted series, as far as it was read."""

    def __init__(self, path: Path, unit: Unit, places: Sequence[int]) -> None:
        self._path, self._unit = path, unit
        self._id_at, self._time_at, self._value_at = places
        self._ids: dict[str, None] = {}
        self._last_id: str | None = None
        self._lines: list[int] = []
        self._times: list[float] = []
        self._values: list[float] = []

    def add(self, line: int, row: Sequence[str], series_id: str | None) -> None:
        found = row[self._id_at].strip()
        if found != self._last_id:
            self._begin(line, found)
        # Without a wanted one the first is read; a second is refused at the end.
        if found != (series_id or next(iter(self._ids))):
            return
        time = self._number(line, "t_seconds", row[self._time_at], _TIME_MAX)
        value = self._number(line, self._unit, row[self._value_at], _VALUE_MAX[self._unit])
        if self._times and not self._times[-1] < time <= self._times[0] + _DURATION_MAX_SECONDS:
            raise self._misplaced(line, time)
        self._lines.append(line)
        self._times.append(time)
        self._values.append(value)

    def _misplaced(self, line: int, time: float) -> TraceError:
        first, last = self._times[0], self._times[-1]
        if time <= last:
            what = f"is {time:.12g} after {last:.12g}; times must ascend"
        else:
            what = f"is {time:.12g}, the series began at {first:.12g}; it may last {DAYS_MAX} days"
        return _error(self._path, line, "t_seconds", what)

    def _begin(self, line: int, found: str) -> None:
        if not found:
            raise _error(self._path, line, "series_id", "is empty")
        if len(found) > ID_CHARACTERS_MAX or not found.isprintable():
            shown = repr(found[:SHOWN_CHARACTERS_MAX])
            what = f"is {shown}, must be up to {ID_CHARACTERS_MAX} characters that can be printed"
            raise _error(self._path, line, "series_id", what)
        if found in self._ids:
            raise _error(
                self._path, line, "series_id", f"is {found} again: its lines must stand together"
            )
        self._ids[found] = None
        self._last_id = found

    def _number(self, line: int, field: str, text: str, most: float) -> float:
        try:
            # Python would take 1_000 and the digits of every script.
            number = float(text if text.isascii() and "_" not in text else "")
        except ValueError:
            shown = repr(text[:SHOWN_CHARACTERS_MAX])
            raise _error(self._path, line, field, f"is {shown}, must be a plain number") from None
        if not math.isfinite(number) or not 0 <= number <= most:
            raise _error(self._path, line, field, f"is {text}, must be from 0 to {most:g}")
        return number

    def finish(self, series_id: str | None, *, may_gap: bool) -> Series:
        wanted = self._choose(series_id)
        if len(self._times) < 2:  # noqa: PLR2004 - one sample has no step.
            raise _error(self._path, self._lines[0], "series_id", f"{wanted} has a single sample")
        times = np.array(self._times)
        steps = np.diff(times)
        sample_seconds = float(np.median(steps))
        gaps = tuple(
            Gap(line=self._lines[i + 1], from_seconds=self._times[i], to_seconds=self._times[i + 1])
            for i in np.flatnonzero(steps > GAP_STEPS * sample_seconds + _ROUNDING_SECONDS)
        )
        if gaps and not may_gap:
            raise self._incomplete(gaps[0], wanted, sample_seconds)
        return Series(
            path=self._path,
            series_id=wanted,
            unit=self._unit,
            t_seconds=times,
            values=np.array(self._values),
            sample_seconds=sample_seconds,
            gaps=gaps,
        )

    def _incomplete(self, gap: Gap, wanted: str, sample_seconds: float) -> GapError:
        return GapError(
            f"{self._path}:{gap.line}: t_seconds: is {gap.to_seconds:.12g} after "
            f"{gap.from_seconds:.12g}: samples are missing, {wanted} has one every "
            f"{sample_seconds:g} s; {GAP_STEPS:g} times as long is the most that is not a gap"
        )

    def _choose(self, series_id: str | None) -> str:
        names = list(self._ids)
        shown = ", ".join(names[:SHOWN_IDS_MAX]) + (", ..." if len(names) > SHOWN_IDS_MAX else "")
        if not names:
            raise _error(self._path, 2, "line", "is missing: there are no samples")
        if series_id is None and len(names) > 1:
            raise _error(self._path, 1, "series_id", f"say which of {len(names)}: {shown}")
        if series_id is not None and series_id not in self._ids:
            raise _error(self._path, 1, "series_id", f"{series_id} is not in the file, but {shown}")
        return series_id or names[0]


def _error(path: Path, line: int, field: str, what: str) -> TraceError:
    return TraceError(f"{path}:{line}: {field}: {what}")
