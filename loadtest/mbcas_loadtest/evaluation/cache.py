"""Outcomes kept between runs, by a hash of all that they depend on, in a folder of the user.

An entry is written at once or not at all. One that cannot be read is ignored, with its reason said,
and made anew. The folder's size is bounded: what was used longest ago goes first.
"""

import contextlib
import json
import math
import os
from pathlib import Path

from mbcas_loadtest.errors import SimulationError
from mbcas_loadtest.pages.files import write_atomically
from mbcas_loadtest.simulation.outcome import Outcome, load

BYTES_MAX = 2 * 1024**3
"""A full run is a tenth of this; old code versions fill the rest."""
_SPEEDS = "speeds.json"
_SPEED_MEMORY = 0.7
"""Weight of what was measured before the last run: machines and code change."""


def default_folder() -> Path:
    """Returns where outcomes are kept unless somebody says otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "mbcas" / "evaluation"


class Cache:
    """A folder of outcomes."""

    def __init__(self, folder: Path, *, bytes_max: int = BYTES_MAX) -> None:
        self.folder = folder
        self._bytes_max = bytes_max
        self.ignored: list[str] = []
        """Entries that were there and not usable, and why."""

    def load(self, key: str) -> Outcome | None:
        """Returns an outcome, None where there is none that can be used."""
        path = self._path(key)
        try:
            outcome = load(path)
            path.touch()
        except FileNotFoundError:
            return None
        except (SimulationError, OSError) as error:
            self.ignored.append(str(error))
            return None
        return outcome

    def has(self, key: str) -> bool:
        """Whether there is an entry; it may still prove unusable."""
        return self._path(key).is_file()

    def store(self, key: str, outcome: Outcome) -> None:
        """Keeps an outcome."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        outcome.save(path)

    def speeds(self) -> dict[str, float]:
        """Returns CPU seconds per container-hour of each system, as measured here before."""
        try:
            content = json.loads((self.folder / _SPEEDS).read_text(encoding="utf-8"))
            found = {str(name): float(value) for name, value in content.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            self.ignored.append(f"{self.folder / _SPEEDS}: {error}; times are guessed")
            return {}
        return {name: value for name, value in found.items() if math.isfinite(value) and value > 0}

    def store_speeds(self, measured: dict[str, float]) -> None:
        """Remembers CPU seconds per container-hour of each system."""
        known = self.speeds()
        for name, value in measured.items():
            old = known.get(name, value)
            known[name] = _SPEED_MEMORY * old + (1 - _SPEED_MEMORY) * value
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / _SPEEDS, json.dumps(known, indent=1, sort_keys=True))

    def prune(self) -> int:
        """Removes what was used longest ago until the rest fits; returns how many entries went."""
        entries = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # Another run may prune, too.
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        entries.sort()
        excess, removed = sum(size for _, size, _ in entries) - self._bytes_max, 0
        for _, size, path in entries:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess, removed = excess - size, removed + 1
        return removed

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"
