from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from mbcas_core.units import FloatArray
from mbcas_loadtest.rivals.catalog import RIVALS
from mbcas_loadtest.simulation import mbcas
from mbcas_loadtest.simulation.system import Rival, Settings
from mbcas_loadtest.simulation.world import World
from tests.mbcas_loadtest.rivals.little_worlds import Lived, little_world, live, make, some_nodes

SHORT_SECONDS = 24
LONG_SECONDS = 70
"""For systems that are asked once a minute."""
SLOW_PERIODS = 100

CORES = {entry.name for entry in mbcas.ENTRIES}
"""Not asked step by step: the simulation tells the core reports and carries out its orders."""

every_entry = pytest.mark.parametrize("rival", RIVALS.values(), ids=RIVALS.keys())
every_rival = pytest.mark.parametrize(
    "rival", [one for one in RIVALS.values() if one.name not in CORES], ids=lambda one: one.name
)


@cache
def first_life(name: str) -> tuple[World, Lived]:
    """Returns a world and what a rival does in it at its default."""
    rival = RIVALS[name]
    world = little_world(seconds=SHORT_SECONDS)
    system = make(rival, world, rival.default)
    if rival.make is not None and system.interval_periods >= SLOW_PERIODS:
        world = little_world(seconds=LONG_SECONDS)
    return world, live(system, world)


def run(rival: Rival, world: World, knob: float | None = None) -> Lived:
    return live(make(rival, world, rival.default if knob is None else knob), world)


def parts(settings: Settings) -> tuple[FloatArray, FloatArray, FloatArray]:
    return settings.request_millicores, settings.limit_millicores, settings.burst_millicores


@every_entry
def test_an_entry_says_how_it_is_made_what_its_knob_is_and_where_its_rule_is_from(
    rival: Rival,
) -> None:
    assert (rival.make is None) != (rival.make_with_truth is None)
    assert bool(rival.knob) == bool(rival.sweep)
    assert not rival.sweep or rival.default in rival.sweep
    assert len(set(rival.sweep)) == len(rival.sweep)
    assert list(rival.sweep) in (sorted(rival.sweep), sorted(rival.sweep, reverse=True))
    assert rival.goods in {1, 2}
    assert rival.source


@every_rival
def test_what_a_rival_wants_can_be_set(
    rival: Rival,
) -> None:
    assert_settable(rival, *first_life(rival.name))


@every_rival
def test_what_a_rival_wants_at_the_ends_of_its_knob_can_be_set(
    rival: Rival,
) -> None:
    world, _ = first_life(rival.name)
    node = some_nodes(world, [0])
    for knob in {*rival.sweep[:1], *rival.sweep[-1:]} - {rival.default}:
        assert_settable(rival, node, run(rival, node, knob))


def assert_settable(rival: Rival, world: World, lived: Lived) -> None:
    for wanted in lived.wanted.values():
        request, limit, burst = parts(wanted)
        for part in (request, limit, burst):
            assert part.shape == world.shape
            assert part.dtype == np.float64
            assert not np.isnan(part).any()
        assert np.isfinite(request).all()
        assert np.isfinite(burst).all()
        assert (limit >= 10.0).all()
        assert (request > 0.0).all()
        assert (request <= limit).all()
        assert (burst >= 0.0).all()
        assert (burst <= limit).all()
        if rival.goods == 1:
            assert (request == limit).all()


@every_rival
def test_a_rival_writes_into_nothing_that_it_gave(rival: Rival) -> None:
    _, lived = first_life(rival.name)

    for period, copies in lived.copies.items():
        for now, then in zip(parts(lived.wanted[period]), copies, strict=True):
            assert np.array_equal(now, then), f"of period {period}"


@every_rival
def test_a_node_is_treated_the_same_in_any_row_beside_any_other(
    rival: Rival,
) -> None:
    world, lived = first_life(rival.name)

    turned = run(rival, some_nodes(world, [1, 0]))

    for node in (0, 1):
        assert_same_node(lived, node, turned, 1 - node)


@every_rival
def test_a_rival_knows_of_no_other_node_and_without_the_truth_of_no_future(
    rival: Rival,
) -> None:
    world, lived = first_life(rival.name)
    alone = some_nodes(world, [1])
    half = None
    if rival.make_with_truth is None:
        half = alone.arrivals_usec.shape[0] // 2
        arrivals = alone.arrivals_usec.copy()
        arrivals[half:] *= 2.0
        alone = replace(alone, arrivals_usec=arrivals)

    assert_same_node(lived, 1, run(rival, alone), 0, until=half)


def assert_same_node(
    one: Lived, node: int, other: Lived, place: int, *, until: int | None = None
) -> None:
    """Settings that a step leaves out are those of the step before."""
    last_one: Settings | None = None
    last_other: Settings | None = None
    for period in sorted(one.wanted.keys() | other.wanted.keys()):
        if until is not None and period > until:
            break
        last_one = one.wanted.get(period, last_one)
        last_other = other.wanted.get(period, last_other)
        if last_one is None or last_other is None:
            continue
        there = (one if period in one.exists else other).exists[period][0]
        for mine, theirs in zip(parts(last_one), parts(last_other), strict=True):
            assert np.array_equal(mine[node, there], theirs[place, there]), f"in period {period}"
