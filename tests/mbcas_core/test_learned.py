from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_core import learned
from mbcas_core.effects import Reason
from mbcas_core.errors import InvalidInputError
from mbcas_core.learned import Arrays
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds
from tests.mbcas_core.kube_world import KUBE_PARAMETERS, KubeWorld
from tests.mbcas_core.test_kube_decisions import empty, seen, started


@pytest.fixture(scope="module")
def data() -> Arrays:
    return learned.export(KubeWorld(1).quiet(30).rounds)


def test_what_was_exported_is_exported_again(data: Arrays) -> None:
    world = KubeWorld(1)
    world.rounds = Rounds(KUBE_PARAMETERS)

    assert learned.restore(world.rounds, data) == data["pod_uid"].size
    world.attach()
    world.quiet(3)
    again = learned.export(world.rounds)

    assert again.keys() == data.keys()
    order = [again["pod_uid"].tolist().index(uid) for uid in data["pod_uid"].tolist()]
    assert np.all(again["windows.means"][order] == data["windows.means"])
    same = again["bursts.bursts"][order] == data["bursts.bursts"]
    peaks = again["bursts.peaks"][order][same], data["bursts.peaks"][same]
    assert same.any()
    assert np.array_equal(*peaks, equal_nan=True)


def test_nothing_is_learned_from_nothing() -> None:
    rounds = Rounds(Parameters())

    assert learned.restore(rounds, learned.export(rounds)) == 0


@pytest.mark.parametrize(
    ("name", "spoilt", "says"),
    [
        ("version", np.array([1]), "version: is 1, must be 2"),
        ("version", None, "version: is missing"),
        ("agent.caution", None, "agent.caution: is missing"),
        ("agent.caution", np.zeros(1), "agent.caution: is"),
        ("agent.window_need", np.nan, "agent.window_need: has nan"),
        ("agent.window_need", np.inf, "agent.window_need: has inf"),
        ("agent.caution", -1, "agent.caution: has -1"),
        ("bursts.peaks", -5.0, "bursts.peaks: has -5"),
        (
            "fleet.rows.hold_until",
            1e5,
            "fleet.rows.hold_until: has 100000.0, must be from 0 to 864",
        ),
        ("ledger.foreign_until", np.nan, "ledger.foreign_until: has nan"),
        ("purses.restored", np.inf, "purses.restored: has inf"),
        ("pod_uid", np.zeros(3), "pod_uid: must be"),
        ("pod_uid", "same", "twice"),
        ("container", np.array(["x" * 300]), "container: must be"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_taken(
    data: Arrays, name: str, spoilt: object, says: str
) -> None:
    broken: dict[str, Any] = dict(data)
    if spoilt is None:
        del broken[name]
    elif isinstance(spoilt, np.ndarray):
        broken[name] = spoilt
    else:
        broken[name] = broken[name].copy()
        broken[name][...] = spoilt
        if name == "pod_uid":
            broken["container"] = np.full_like(broken["container"], "c")
    rounds = Rounds(Parameters())

    with pytest.raises(InvalidInputError, match=says):
        learned.restore(rounds, broken)

    assert rounds.state.recalled.index == {}
    assert rounds.state.recalled.columns == {}


def test_more_than_there_may_be_is_refused(data: Arrays) -> None:
    with pytest.raises(InvalidInputError, match="must have at most 1"):
        learned.restore(Rounds(Parameters(max_containers=1)), data)


@given(st.data())
def test_no_data_breaks_a_server(data: Arrays, draw: st.DataObject) -> None:
    broken: dict[str, Any] = dict(data)
    name = draw.draw(st.sampled_from(sorted(broken)))
    kind = draw.draw(st.sampled_from(["<i8", "<f8", "<U3", "?", "<c16", "<M8[s]"]))
    shape = draw.draw(st.sampled_from([(), (1,), (4,), (0,), (4, 16), (2, 2, 2)]))
    broken[name] = np.zeros(shape, kind)
    rounds = Rounds(Parameters())

    try:
        learned.restore(rounds, broken)
    except InvalidInputError:
        assert rounds.state.recalled.index == {}


def test_what_was_released_stays_released_with_the_next_server() -> None:
    world = empty()
    pod = started(world)
    world.quiet(20)
    world.release(hold_seconds=60.0)
    world.quiet(5)

    world.new_server(remembers=True)
    world.quiet(40)
    held = pod.containers[0].limit
    world.quiet(40)

    assert held == 400
    assert (pod.containers[0].limit or 0) > 400


def test_what_somebody_else_has_changed_is_left_alone_by_the_next_server() -> None:
    world = empty(parameters=replace(KUBE_PARAMETERS, foreign_rest_seconds=60.0))
    pod = started(world)
    world.quiet(20)
    world.change_elsewhere(pod, limit=700)
    world.quiet(5)

    world.new_server(remembers=True)
    world.quiet(40)
    left = pod.containers[0].limit, seen(world, pod).reason
    world.quiet(40)

    assert left == (700, Reason.CHANGED_ELSEWHERE)
    assert (pod.containers[0].limit or 0) > 700


def test_a_namespace_that_refused_raises_rests_on_with_the_next_server() -> None:
    world = empty(parameters=replace(KUBE_PARAMETERS, backoff_seconds=60.0))
    pod = started(world)
    world.quota_full = True
    world.quiet(10)

    world.quota_full = False
    world.new_server(remembers=True)
    world.quiet(20)

    assert pod.containers[0].limit == 400
    assert seen(world, pod).reason == Reason.NAMESPACE_RESTS


@pytest.mark.parametrize(("balance", "restored"), [(7, 7), (0, 0), (10_000, 600)])
def test_a_purse_is_not_filled_anew_and_holds_no_more_than_it_may(
    balance: int, restored: int
) -> None:
    world = empty(parameters=replace(KUBE_PARAMETERS, credit_endowment_millicore_rounds=1000))
    pod = started(world)
    world.quiet(20)
    assert seen(world, pod).credits == 200

    world.rounds.state.purses.balance[:] = balance
    world.new_server(remembers=True)
    world.quiet(20)

    assert seen(world, pod).credits == restored
