"""Which jobs an evaluation is made of, so that a full one fits into an hour and a half.

The system that the page is about, its family and the oracle run at every value of their knobs in
every scenario. The others run at their default, their best and its neighbours in tiers 1 and 2 (at
a handful of values from end to end before the best is known), and at default and best elsewhere.
Systems that differ from others only in how they share a full node run where nodes are full. All
this is on a cluster of 60 nodes; larger ones are a sample of nodes with its share of the budget, at
the best knob. `--quick` is a fixed small part.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mbcas_loadtest.evaluation.jobs import DEFAULT_CLUSTER_NODES, Job, find_scenario
from mbcas_loadtest.evaluation.prototype import COLUMNS
from mbcas_loadtest.evaluation.registration import Registration
from mbcas_loadtest.evaluation.targets import BURST
from mbcas_loadtest.rivals.catalog import RIVALS
from mbcas_loadtest.simulation.system import Rival
from mbcas_loadtest.workloads.catalog import SCENARIOS
from mbcas_loadtest.workloads.scenario import Scenario, Tier

CLUSTERS = (60, 600, 5_000)
THINNED_COUNT = 4
"""Values of a knob of those that are not in the first row; the default comes on top."""
SHARING_SYSTEMS = frozenset(
    {
        "mbcas-kelly",
        "mbcas-vcg",
        "mbcas-karma",
        "max-min-truth",
        "oracle-contention",
        "oracle-contention-burst",
    }
)
FULL_NODES = frozenset(
    {
        "competition-0.8",
        "competition-1.0",
        "competition-1.3",
        "competition-2.0",
        "noisy-neighbour",
        "batch-and-services",
        "quota-namespaces",
        "cascading-failure",
    }
)
SWEPT_TIERS = frozenset({Tier.MUST, Tier.SHOULD, Tier.CUSTOM})
LONG_SECONDS = 3600
"""Longer scenarios cost too much for everybody's whole sweep."""
QUICK_SCENARIOS = ("constant", "bursty", "competition-1.3", "periodic-300s")
QUICK_SEED_COUNT = 10
QUICK_SECONDS = 1_800
"""Twenty minutes are counted."""
FULL_CLUSTER_NODES = 5_000
FULL_CLUSTER_SCENARIO = "bursty"
FULL_CLUSTER_SECONDS = 900
"""Five minutes are counted: 5,000 nodes of arrivals are 720 MB for each quarter of an hour."""
FIRST_FULL_CLUSTER_SEED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody asked for; empty: all."""

    scenarios: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    seeds: tuple[int, ...]
    seconds: int | None = None
    """At most so much of each scenario, on one size of cluster; None: all."""


def plan(wish: Wish, registration: Registration) -> list[Job]:
    """Lists the jobs of an evaluation, each once."""
    scenarios = wish.scenarios or tuple(SCENARIOS)
    systems = wish.systems or tuple(RIVALS)
    jobs = {
        Job(
            scenario=scenario,
            system=system,
            knob=knob,
            seeds=wish.seeds,
            seconds=_shorter(find_scenario(scenario), wish.seconds),
        )
        for scenario in scenarios
        for system in systems
        for knob in _knobs(RIVALS[system], find_scenario(scenario), registration)
    }
    if wish.seconds is None:
        jobs |= set(_larger_clusters(scenarios, systems, wish.seeds, registration))
    return sorted(jobs)


def _shorter(scenario: Scenario, seconds: int | None) -> int | None:
    return None if seconds is None else min(seconds, scenario.seconds)


def plan_quick(registration: Registration) -> list[Job]:
    """Lists the jobs of `--quick`: MBCAS at all its knobs, its rivals at their best."""
    seeds = registration.tuning_seeds.all()[:QUICK_SEED_COUNT]
    jobs = set()
    for scenario in QUICK_SCENARIOS:
        tier = find_scenario(scenario).tier.value
        for system in (registration.system, *registration.family):
            sweep = RIVALS[system].sweep if system == registration.system else ()
            for knob in {*sweep, _operating_point(system, tier, registration)}:
                jobs.add(
                    Job(
                        scenario=scenario,
                        system=system,
                        knob=knob,
                        seeds=seeds,
                        seconds=QUICK_SECONDS,
                    )
                )
    return sorted(jobs)


def full_cluster_jobs(registration: Registration) -> list[Job]:
    """Lists one run of every node of a large cluster, and the sample it is held against."""
    system, scenario = registration.system, FULL_CLUSTER_SCENARIO
    knob = _operating_point(system, find_scenario(scenario).tier.value, registration)
    first = FIRST_FULL_CLUSTER_SEED
    return [
        Job(
            scenario=scenario,
            system=system,
            knob=knob,
            seeds=tuple(range(first, first + count)),
            cluster_nodes=FULL_CLUSTER_NODES,
            seconds=FULL_CLUSTER_SECONDS,
        )
        for count in (FULL_CLUSTER_NODES, len(registration.test_seeds.all()))
    ]


def _knobs(rival: Rival, scenario: Scenario, registration: Registration) -> tuple[float, ...]:
    """Returns the values of a knob to run; none where the system has nothing to show."""
    first_row = {registration.system, *registration.family, registration.base, registration.oracle}
    if scenario.tier is Tier.TABLE_2:
        first_row.add(BURST)  # A target asks for its frontier there.
    if rival.name in SHARING_SYSTEMS and scenario.name not in FULL_NODES:
        return ()
    chosen = {rival.default, _operating_point(rival.name, scenario.tier.value, registration)}
    if rival.name in first_row:
        chosen |= {*rival.sweep, *registration.sweeps.get(rival.name, ())}
    elif scenario.tier in SWEPT_TIERS and scenario.seconds <= LONG_SECONDS:
        point = registration.operating_points.get(rival.name, {}).get(scenario.tier.value)
        chosen |= set(_thinned(rival.sweep) if point is None else _around(rival.sweep, point))
    if scenario.tier is Tier.TABLE_2:
        chosen |= {knob for _, system, knob in COLUMNS if system == rival.name}
    return tuple(sorted(chosen))


def _around(sweep: Sequence[float], point: float) -> tuple[float, ...]:
    """Returns the best value on tuning seeds and its neighbours, between which 5 % should lie."""
    values = sorted({*sweep, point})
    place = values.index(point)
    return tuple(values[max(place - 1, 0) : place + 2])


def _thinned(sweep: Sequence[float]) -> tuple[float, ...]:
    """Returns some values from end to end."""
    if len(sweep) <= THINNED_COUNT:
        return tuple(sweep)
    last = len(sweep) - 1
    places = {round(place * last / (THINNED_COUNT - 1)) for place in range(THINNED_COUNT)}
    return tuple(sweep[place] for place in sorted(places))


def _larger_clusters(
    scenarios: Iterable[str],
    systems: Sequence[str],
    seeds: tuple[int, ...],
    registration: Registration,
) -> Iterable[Job]:
    for scenario in scenarios:
        tier = find_scenario(scenario).tier
        if tier is Tier.TABLE_2:
            continue
        for system in (registration.system, *registration.family):
            if system not in systems:
                continue
            for nodes in CLUSTERS:
                if nodes != DEFAULT_CLUSTER_NODES:
                    yield Job(
                        scenario=scenario,
                        system=system,
                        knob=_operating_point(system, tier.value, registration),
                        seeds=seeds,
                        cluster_nodes=nodes,
                    )


def _operating_point(system: str, tier: str, registration: Registration) -> float:
    points = registration.operating_points.get(system, {})
    return points.get(tier, RIVALS[system].default)
