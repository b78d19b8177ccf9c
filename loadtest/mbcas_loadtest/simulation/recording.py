"""Lives through what a server recorded (`record_path`), and compares every decision.

The core has no clock and no chance in it: told the same, it must answer the same, to the byte. A
difference means that the recording is of another version of the core, or that the core is broken.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mbcas_core import learned, transcript
from mbcas_core.errors import InvalidInputError
from mbcas_core.events import Event
from mbcas_core.rounds import Rounds
from mbcas_core.transcript import FORMAT, VERSION
from mbcas_loadtest.errors import SimulationError

LINE_MAX_BYTES = 64 << 20
"""A report of a node with its thousand containers takes a hundredth of it."""
Line = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """How the replay of a recording went."""

    events: int
    orders: int
    """In the answers that were compared."""
    difference: str
    """Of the first answer that was another; empty: none was."""


def replay_decisions(path: Path) -> Replayed:
    """Tells a core what is recorded and compares its answers, up to the first difference.

    Raises:
        SimulationError: The file is no recording; the message names line and field.
        OSError: It cannot be read.
    """
    lines = _read_lines(path)
    rounds = _begin(path, lines)
    events = orders = 0
    for number, line in lines:
        where = f"{path}, line {number}"
        try:
            if "learned" in line:
                learned.restore(rounds, transcript.read_arrays(line["learned"]))
                continue
            event = transcript.read_event(line.get("event"))
        except InvalidInputError as error:
            raise SimulationError(f"{where}: {error}") from error
        events += 1
        said = _answer(rounds, event, is_failing="failed" in line)
        written = _write(line.get("effects", line.get("failed")))
        if said != written:
            difference = f"{where}: {_show_difference(said, written)}"
            return Replayed(events=events, orders=orders, difference=difference)
        orders += said.count('"order_id"')
    return Replayed(events=events, orders=orders, difference="")


def _begin(path: Path, lines: Iterator[tuple[int, Line]]) -> Rounds:
    """Returns a core with the parameters of the first line."""
    number, head = next(lines, (1, {}))
    found = (head.get("format"), head.get("version"))
    if found != (FORMAT, VERSION):
        raise SimulationError(
            f"{path}, line {number}: format and version are {found[0]!r} and {found[1]!r}, must be "
            f"{FORMAT!r} and {VERSION}; record one with `mbcas-server --record-path FILE`"
        )
    try:
        return Rounds(transcript.read_parameters(head.get("parameters")))
    except InvalidInputError as error:
        raise SimulationError(f"{path}, line {number}: {error}") from error


def _read_lines(path: Path) -> Iterator[tuple[int, Line]]:
    """Yields the lines; one that a server was stopped in the middle of is the end."""
    with path.open("rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(LINE_MAX_BYTES), b""), 1):
            if not raw.endswith(b"\n"):
                if len(raw) >= LINE_MAX_BYTES:
                    raise SimulationError(f"{path}, line {number}: longer than any that is written")
                return
            try:
                line = json.loads(raw)
            except ValueError as error:
                raise SimulationError(f"{path}, line {number}: is no JSON: {error}") from error
            if not isinstance(line, dict):
                raise SimulationError(f"{path}, line {number}: must be an object")
            yield number, cast("Line", line)


def _answer(rounds: Rounds, event: Event, *, is_failing: bool) -> str:
    """Returns what the core answers, as it is written down."""
    try:
        return _write(transcript.tell_effects(rounds.handle(event)))
    except Exception as error:
        if not is_failing:
            raise
        return _write(type(error).__name__)


def _write(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _show_difference(said: str, written: str) -> str:
    """Returns both answers, from a little before they part."""
    pairs = enumerate(zip(said, written, strict=False))
    first = next((i for i, (a, b) in pairs if a != b), min(len(said), len(written)))
    start = max(first - 80, 0)
    end = first + 80
    return f"recorded ...{written[start:end]}... but now ...{said[start:end]}..."
