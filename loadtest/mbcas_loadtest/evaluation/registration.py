"""What was laid down before the test seeds ran: endpoints, family, margins, systems, knobs, seeds.

It stands in `preregistration.yaml`. A result may be called preregistered only if that file is one
of those whose SHA-256 was written to `preregistration.sha256` beforehand, and if what ran is what
the file says. Everything else is exploratory; runs with tuning seeds are tuning.
"""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mbcas_loadtest.errors import EvaluationError

TUNING_SEED_MAX = 99
TEST_SEED_MIN = 1000
FOLDER = Path(__file__).parent
FILE = FOLDER / "preregistration.yaml"
FROZEN_FILE = FOLDER / "preregistration.sha256"

Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]


class Kind(StrEnum):
    """What a result may be called."""

    PREREGISTERED = "preregistered"
    EXPLORATORY = "exploratory"
    TUNING = "tuning"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Endpoint(_Model):
    """One of the quantities that are tested; the less, the better."""

    name: str
    """A key of `figures.QUANTITIES`."""
    compared: Literal["difference", "ratio"]
    """`ratio`: logarithms are compared, and the margin is relative."""
    margin: Annotated[float, Field(gt=0.0)] | None = None
    """Up to which a higher value still counts as not inferior; None: not asked."""


class Seeds(_Model):
    """Consecutive seeds."""

    first: Annotated[int, Field(ge=0)]
    count: Annotated[int, Field(ge=1, le=1000)]

    def all(self) -> tuple[int, ...]:
        return tuple(range(self.first, self.first + self.count))


class Registration(_Model):
    """The content of the file."""

    schema_name: Annotated[Literal["mbcas.preregistration/1"], Field(alias="schema")]
    alpha: Ratio
    matched_throttled_ratio: Ratio
    hypervolume_reference: tuple[Ratio, Ratio]
    """Throttled share, waste."""
    test_seeds: Seeds
    tuning_seeds: Seeds
    system: Name
    family: Annotated[tuple[Name, ...], Field(min_length=1)]
    """The rivals against which the endpoints are tested."""
    base: Name
    """From whose waste the gap to the oracle is measured."""
    oracle: Name
    endpoints: Annotated[tuple[Endpoint, ...], Field(min_length=1)]
    scenarios: Mapping[str, tuple[Name, ...]]
    """Of each tier."""
    short_of_cpu: tuple[Name, ...] = ()
    """Scenarios in which no knob avoids throttling: they take no part in the choice of knobs."""
    sweeps: Mapping[Name, tuple[float, ...]]
    """Values of the knobs of the system and the family."""
    operating_points: Mapping[Name, Mapping[str, float]] = Field(default_factory=dict)
    """Of a system and tier: its best value on the tuning seeds. Where absent, its default."""

    def tier_of(self, scenario: str) -> str | None:
        """Returns the tier that a scenario belongs to, None where it is not registered."""
        return next((tier for tier, names in self.scenarios.items() if scenario in names), None)


def load(path: Path = FILE) -> Registration:
    """Reads a registration.

    Raises:
        EvaluationError: It is not one; the message names file and field.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EvaluationError(f"{path}: it cannot be read as YAML: {error}") from error
    try:
        return Registration.model_validate(content)
    except ValidationError as error:
        raise EvaluationError(f"{path}: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """Returns the first of a validation's complaints: the field, and what is wrong with it."""
    fault = error.errors()[0]
    place = ".".join(str(part) for part in fault["loc"]) or "the whole"
    return f"{place}: {fault['msg']}, found {fault['input']!r:.80}"


def sha256(path: Path = FILE) -> str:
    """Returns the hash of the file as it stands."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def frozen_hashes(path: Path = FROZEN_FILE) -> dict[str, str]:
    """Returns when each frozen file was frozen, by hash: lines of hash and date."""
    pairs = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) >= 2}  # noqa: PLR2004 - a pair.


def check_seeds(seeds: Sequence[int]) -> Kind:
    """Returns whether these are tuning seeds or may count as a test.

    Raises:
        EvaluationError: They are neither, or both, or the same twice.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise EvaluationError(f"seeds {_short(seeds)}: each once, and at least one")
    if all(0 <= seed <= TUNING_SEED_MAX for seed in seeds):
        return Kind.TUNING
    if all(seed >= TEST_SEED_MIN for seed in seeds):
        return Kind.EXPLORATORY
    allowed = f"0 to {TUNING_SEED_MAX} for tuning or {TEST_SEED_MIN} and up for results"
    raise EvaluationError(f"seeds {_short(seeds)}: must all be {allowed}, never both")


def kind_of(seeds: Sequence[int], deviations: Sequence[str]) -> Kind:
    """Returns what a result with these seeds may be called.

    Raises:
        EvaluationError: As `check_seeds`.
    """
    kind = check_seeds(seeds)
    return Kind.PREREGISTERED if kind is Kind.EXPLORATORY and not deviations else kind


def find_deviations(
    registration: Registration,
    *,
    file_hash: str,
    frozen: Mapping[str, str],
    seeds: Sequence[int],
    seconds: int | None,
    ran: Mapping[tuple[str, str], Sequence[float]],
) -> list[str]:
    """Says why a run is not the registered one; empty: it may be called preregistered.

    Args:
        registration: As read.
        file_hash: SHA-256 of its file.
        frozen: Hashes that were frozen.
        seeds: That ran.
        seconds: At most so much of each scenario, without larger clusters; None: all.
        ran: Values of the knob that ran to their end, of each (scenario, system).
    """
    found = []
    if file_hash not in frozen:
        found.append(f"preregistration.yaml ({file_hash[:12]}) is not among the frozen ones")
    if tuple(seeds) != registration.test_seeds.all():
        found.append(f"the seeds are {_short(seeds)}, not {_short(registration.test_seeds.all())}")
    if seconds is not None:
        found.append(f"no scenario ran beyond {seconds:,} s, and no larger cluster")
    for scenario in (name for names in registration.scenarios.values() for name in names):
        for system in (registration.system, *registration.family):
            wanted = set(registration.sweeps.get(system, ()))
            missing = wanted - set(ran.get((scenario, system), ()))
            if missing:
                values = ", ".join(f"{value:g}" for value in sorted(missing))
                found.append(f"{scenario}: {system} did not run at {values}")
    return found


def _short(seeds: Sequence[int]) -> str:
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(str(seed) for seed in seeds) or "none"
