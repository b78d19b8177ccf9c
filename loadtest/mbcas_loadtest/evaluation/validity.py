"""Where the plant was held against a real kernel, and where it was off.

`mbcas-loadtest validate-plant --json FILE` writes what is read here.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from mbcas_loadtest.errors import EvaluationError


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantValidity:
    """What the comparison with a kernel gave."""

    source: str
    points: int
    valid_points: int
    regions: tuple[str, ...]
    """In words: where the model is off, and by how much."""


def read_validity(path: Path) -> PlantValidity:
    """Reads the JSON of `validate-plant`.

    Raises:
        EvaluationError: It is not such a file; the message names file and field.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: it cannot be read as JSON: {error}") from error
    try:
        return PlantValidity(
            source=path.name,
            points=int(content["points"]),
            valid_points=int(content["valid_points"]),
            regions=tuple(str(region) for region in content["invalid_regions"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path}: {error!r}: make it with mbcas-loadtest validate-plant --json"
        raise EvaluationError(message) from error
