"""One run to make: a system at one value of its knob, on one scenario, for some seeds."""

import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mbcas_loadtest.errors import EvaluationError
from mbcas_loadtest.rivals.catalog import RIVALS
from mbcas_loadtest.simulation import mbcas
from mbcas_loadtest.simulation.outcome import Outcome
from mbcas_loadtest.simulation.run import RunSettings, simulate_together
from mbcas_loadtest.simulation.system import Rival
from mbcas_loadtest.simulation.world import Declared, World
from mbcas_loadtest.versions import code_version
from mbcas_loadtest.workloads.catalog import SCENARIOS
from mbcas_loadtest.workloads.files import read_scenario
from mbcas_loadtest.workloads.rates import AUTOTHROTTLE, find_traces
from mbcas_loadtest.workloads.scenario import Scenario, Tier, draw_world
from mbcas_loadtest.workloads.yaml_lines import ScenarioFileError

DEFAULT_CLUSTER_NODES = 60
BATCH_WORLDS = 13
"""Simulated together: half of the registered scenarios, so that an interrupted run loses little."""
AUDIT_SHARE = 0.2
"""Of MBCAS's rounds; audits change nothing, and those of all rounds cost a fifth of the time."""
WORLDS_BYTES_MAX = 1 << 30
CORE_SYSTEMS = frozenset(entry.name for entry in mbcas.ENTRIES)
FILE_SUFFIXES = (".yaml", ".yml")
_RATES_OF_A_FILE = frozenset({"autothrottle-bursty", "autothrottle-diurnal", "table-2-diurnal"})
"""The other two of these rates are drawn to statistics."""
_COMMON_MODULES = (
    "mbcas_loadtest.simulation.run",
    "mbcas_loadtest.workloads.catalog",
    "mbcas_loadtest.workloads.files",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to run. Sorted by scenario first, so that a world is drawn once for many systems."""

    scenario: str
    """A name of the catalog, or the path of a scenario file."""
    seeds: tuple[int, ...]
    cluster_nodes: int = DEFAULT_CLUSTER_NODES
    system: str
    knob: float = 0.0
    seconds: int | None = None
    """Fewer than the scenario's own."""
    series_node: int | None = None
    """Of which seed, by its place, to keep what happened each second."""

    def __lt__(self, other: "Job") -> bool:
        return self._place < other._place

    @property
    def _place(self) -> tuple[object, ...]:
        rest = (self.cluster_nodes, self.system, self.knob, self.seconds or 0)
        return (
            self.scenario,
            self.seeds,
            *rest,
            -1 if self.series_node is None else self.series_node,
        )

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
    for name in scenarios:
        find_scenario(name)
    for name in systems:
        if name not in RIVALS:
            raise EvaluationError(f"--system {name}: must be one of {', '.join(RIVALS)}")


@functools.cache
def find_scenario(name: str) -> Scenario:
    """Returns a scenario of the catalog or of a file.

    Raises:
        EvaluationError: There is none; the message says which there are, or what is wrong in it.
    """
    if name in SCENARIOS:
        return SCENARIOS[name]
    if not name.endswith(FILE_SUFFIXES):
        known = f"one of {', '.join(SCENARIOS)}, or a file that ends in .yaml"
        raise EvaluationError(f"--scenario {name}: must be {known}")
    try:
        return read_scenario(Path(name))
    except ScenarioFileError as error:
        raise EvaluationError(str(error)) from error


@functools.cache
def declared_of(scenario: str) -> Declared:
    """Returns what a scenario's first node declares: names, priorities and which is batch."""
    return draw_world(find_scenario(scenario), (0,), seconds=1).declared


def container_hours(job: Job) -> float:
    """Returns how much container time a job simulates."""
    seconds = job.seconds or find_scenario(job.scenario).seconds
    return len(declared_of(job.scenario).names) * len(job.seeds) * seconds / 3600.0


def key_of(job: Job) -> str:
    """Returns a hash of all that decides what comes out: parameters, code, numpy's version."""
    rival = RIVALS[job.system]
    content = {
        "job": asdict(job),
        "data": _data_version(job.scenario),
        "code": code_version((*_COMMON_MODULES, module_of(rival))),
        "numpy": np.__version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@functools.cache
def _data_version(name: str) -> str:
    """Returns a hash of the files that a scenario is made of, and of the first minute of a draw."""
    world = draw_world(find_scenario(name), (0, 1), seconds=60)
    digest = hashlib.sha256(world.arrivals_usec.tobytes())
    for path in files_of(name):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def files_of(name: str) -> tuple[Path, ...]:
    """Returns the files that a scenario is read from: its own, or the trace that it replays."""
    scenario = find_scenario(name)
    if name not in SCENARIOS:
        return (Path(name),)
    if isinstance(scenario.draw_node, functools.partial) and scenario.tier is Tier.RECORDED:
        return (Path(scenario.draw_node.keywords["path"]),)
    return (find_traces() / AUTOTHROTTLE,) if name in _RATES_OF_A_FILE else ()


def module_of(rival: Rival) -> str:
    """Returns the module in which a system is written."""
    make = rival.make if rival.make is not None else rival.make_with_truth
    make = getattr(make, "func", make)  # Of a partial.
    return str(getattr(make, "__module__", "mbcas_loadtest.rivals.catalog"))


class Worlds:
    """Keeps the worlds that were drawn last: many jobs ask for the same."""

    def __init__(self, *, bytes_max: int = WORLDS_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._known: dict[object, World] = {}
        """By what was asked for, the one that was used last at the end."""

    def get(self, job: Job) -> World:
        """Returns the job's world."""
        wanted = (job.scenario, job.seeds, job.seconds)
        world = self._known.pop(wanted, None)
        if world is None:
            while sum(one.arrivals_usec.nbytes for one in self._known.values()) > self._bytes_max:
                self._known.pop(next(iter(self._known)))
            world = draw_world(find_scenario(job.scenario), job.seeds, seconds=job.seconds)
        self._known[wanted] = world
        return world


def run_jobs_together(jobs: Sequence[Job], worlds: Worlds) -> list[Outcome]:
    """Runs jobs that are alike but for their scenario: see `batches`."""
    one = jobs[0]
    settings = RunSettings(
        cluster_nodes=one.cluster_nodes, series_node=one.series_node, audit_share=AUDIT_SHARE
    )
    drawn = [worlds.get(job) for job in jobs]
    return simulate_together(drawn, RIVALS[one.system], one.knob, settings=settings)


def batches(jobs: Iterable[Job]) -> list[tuple[Job, ...]]:
    """Sorts jobs into such as are run together: MBCAS decides for several worlds at once.

    The batches come first, since they take long.
    """
    alike: dict[object, list[Job]] = defaultdict(list)
    alone: list[tuple[Job, ...]] = []
    for job in sorted(jobs):
        if job.system in CORE_SYSTEMS and job.series_node is None:
            alike[job.system, job.knob, job.cluster_nodes, job.seeds, job.seconds].append(job)
        else:
            alone.append((job,))
    together = [
        tuple(own[start : start + BATCH_WORLDS])
        for own in alike.values()
        for start in range(0, len(own), BATCH_WORLDS)
    ]
    return together + alone
