"""One run to make: a system at one value of its knob, on one scenario, for some seeds."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mbcas_loadtest.errors import EvaluationError
from mbcas_loadtest.evaluation.versions import code_version
from mbcas_loadtest.rivals.catalog import RIVALS
from mbcas_loadtest.simulation.outcome import Outcome
from mbcas_loadtest.simulation.run import RunSettings, simulate
from mbcas_loadtest.simulation.system import Rival
from mbcas_loadtest.simulation.world import Declared, World
from mbcas_loadtest.workloads.catalog import SCENARIOS, draw

DEFAULT_CLUSTER_NODES = 60
_COMMON_MODULES = ("mbcas_loadtest.simulation.run", "mbcas_loadtest.workloads.catalog")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Job:
    """What to run. Sorted by scenario first, so that a world is drawn once for many systems."""

    scenario: str
    seeds: tuple[int, ...]
    cluster_nodes: int = DEFAULT_CLUSTER_NODES
    system: str
    knob: float = 0.0
    seconds: int | None = None
    """Fewer than the scenario's own."""
    series_node: int | None = None
    """Of which seed, by its place, to keep what happened each second."""

    @property
    def label(self) -> str:
        """Returns what people call it."""
        knob = f" at {self.knob:g}" if RIVALS[self.system].knob else ""
        nodes = f", {self.cluster_nodes} nodes"
        return f"{self.scenario}: {self.system}{knob}{nodes}"


def check_names(scenarios: Sequence[str], systems: Sequence[str]) -> None:
    """Refuses names that are in no catalog.

    Raises:
        EvaluationError: Names the first of them, and what there is.
    """
    for flag, given, known in (
        ("--scenario", scenarios, SCENARIOS),
        ("--system", systems, RIVALS),
    ):
        for name in given:
            if name not in known:
                raise EvaluationError(f"{flag} {name}: must be one of {', '.join(known)}")


def declared_of(scenario: str) -> Declared:
    """Returns what a scenario's first test node declares: names, priorities and which is batch."""
    return draw(scenario, (1000,), seconds=1).declared


def container_hours(job: Job) -> float:
    """Returns how much container time a job simulates."""
    seconds = job.seconds or SCENARIOS[job.scenario].seconds
    return len(declared_of(job.scenario).names) * len(job.seeds) * seconds / 3600.0


def key_of(job: Job) -> str:
    """Returns a hash of all that decides what comes out: parameters, code, numpy's version."""
    rival = RIVALS[job.system]
    content = {
        "job": asdict(job),
        "code": code_version((*_COMMON_MODULES, module_of(rival))),
        "numpy": np.__version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def module_of(rival: Rival) -> str:
    """Returns the module in which a system is written."""
    make = rival.make if rival.make is not None else rival.make_with_truth
    make = getattr(make, "func", make)  # Of a partial.
    return str(getattr(make, "__module__", "mbcas_loadtest.rivals.catalog"))


class Worlds:
    """Keeps the last world that was drawn: it may be a gigabyte, and jobs come sorted."""

    def __init__(self) -> None:
        self._last: tuple[object, World] | None = None

    def get(self, job: Job) -> World:
        """Returns the job's world."""
        wanted = (job.scenario, job.seeds, job.seconds)
        if self._last is None or self._last[0] != wanted:
            self._last = None  # Before the next one is drawn: two may not fit.
            self._last = (wanted, draw(job.scenario, job.seeds, seconds=job.seconds))
        return self._last[1]


def run_job(job: Job, worlds: Worlds) -> Outcome:
    """Runs one job."""
    settings = RunSettings(cluster_nodes=job.cluster_nodes, series_node=job.series_node)
    return simulate(worlds.get(job), RIVALS[job.system], job.knob, settings=settings)
