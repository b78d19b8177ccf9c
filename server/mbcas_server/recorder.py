"""Writes down what the core is told and what it answers, so that a run can be lived through again.

A file of lines, each a JSON object: first what this is, its version and the parameters, then, as it
happens, what was restored (`learned`), each event with its effects, or with what the core failed
on. `mbcas-loadtest replay-decisions FILE` tells a core all of it again and compares the answers.
The file grows by about a kilobyte for each report; at its bound recording ends, and says so.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbcas_core import transcript
from mbcas_core.effects import Effect
from mbcas_core.events import Event
from mbcas_core.rounds import Rounds
from mbcas_server.core import RoundsCore

logger = logging.getLogger(__name__)


class RecordingCore(RoundsCore):
    """The real core, with a pen. Only the core's thread calls `handle` and `restore_learned`."""

    def __init__(self, rounds: Rounds, path: Path, *, max_bytes: int) -> None:
        """Begins a new file.

        Raises:
            OSError: It cannot be written.
        """
        super().__init__(rounds)
        self._left_bytes = max_bytes
        self._path = path
        self._file = path.open("w", encoding="utf-8")
        parameters = transcript.tell_parameters(rounds.parameters)
        head = {"format": transcript.FORMAT, "version": transcript.VERSION}
        self._write({**head, "parameters": parameters})

    def handle(self, event: Event) -> list[Effect]:
        # Before the core takes it in, which may keep and change its arrays.
        told = transcript.tell_event(event)
        try:
            effects = super().handle(event)
        except Exception as error:
            self._write({"event": told, "failed": type(error).__name__})
            raise
        self._write({"event": told, "effects": transcript.tell_effects(effects)})
        return effects

    def restore_learned(self, arrays: Mapping[str, NDArray[np.generic]]) -> int:
        restored = super().restore_learned(arrays)
        self._write({"learned": transcript.tell_arrays(arrays)})
        return restored

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        """Appends a line; a disk that is full must not stop the server."""
        if self._left_bytes <= 0:
            return
        text = json.dumps(line, separators=(",", ":")) + "\n"
        self._left_bytes -= len(text)
        if self._left_bytes <= 0:
            logger.warning("recording ended path=%s: record_max_bytes are written", self._path)
            return
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            self._left_bytes = 0
            logger.warning("recording ended path=%s: %s", self._path, error)
