"""How often the loops audit what they decide, and what they tell."""

from dataclasses import replace

import numpy as np
import pytest

from mbcas_core.effects import Violation
from mbcas_core.fleet import Names, Selection
from mbcas_core.loops import audit, response
from mbcas_core.loops.response import Cleared
from mbcas_core.market.clearing import Share
from mbcas_core.market.goods import clear_targets
from mbcas_core.market.targets import MarketNodes, MarketPods, MarketRows, Targets
from mbcas_core.parameters import Parameters
from mbcas_core.state import State
from tests.golden.replay import Replay
from tests.mbcas_core.market.worlds import World, one_node
from tests.mbcas_core.world import World as Cluster


def state_of(share: float, *, rows: int = 2) -> tuple[State, Selection]:
    """A state that knows one node with containers that are a pod each."""
    state = State(Parameters(audit_share=share))
    node = state.fleet.add_node("node-a")
    for row in range(rows):
        names = Names(f"uid-{row}", "shop", f"pod-{row}", "app", f"run-{row}")
        state.fleet.add_row(node, row + 1, names)
    return state, state.fleet.select(np.array([node]))


def cleared(world: World, targets: Targets) -> Cleared:
    rows = world.rows.pod.size
    return Cleared(
        targets=targets,
        bids=world.rows,
        pods=world.pods,
        nodes=world.nodes,
        shortage=np.zeros(rows),
        factor=np.ones(rows),
    )


def rationed() -> World:
    row: dict[str, int | bool] = {"request": 1000, "limit": 4000, "need": 3000}
    return one_node(row, row)


@pytest.mark.parametrize(("share", "every"), [(1.0, 1), (0.5, 2), (0.05, 20), (0.01, 100)])
def test_of_so_many_rounds_each_node_has_one_audited(share: float, every: int) -> None:
    state, _ = state_of(share)
    nodes = np.arange(500)

    audited = sum(audit.choose(state, nodes, np.full(500, turn)) for turn in range(every))

    assert np.all(audited == 1)


def test_each_round_audits_as_many_nodes() -> None:
    state, _ = state_of(0.05)
    nodes = np.arange(1000)

    counts = {int(audit.choose(state, nodes, np.full(1000, t)).sum()) for t in range(40)}

    assert counts == {50}


def test_without_a_share_nothing_is_audited() -> None:
    state, selection = state_of(0.0)
    world = rationed()
    targets = world.clear()
    wrong = replace(targets, reservation_millicores=targets.reservation_millicores + 1)

    effects = audit.check_targets(state, selection, cleared(world, wrong))

    assert effects == []
    assert state.counts["markets_audited"] == 0


def test_a_wrong_target_is_a_violation_by_the_name_of_the_property() -> None:
    state, selection = state_of(1.0)
    world = rationed()
    targets = world.clear()
    wrong = replace(targets, reservation_millicores=targets.reservation_millicores + 1)

    effects = audit.check_targets(state, selection, cleared(world, wrong))

    told = [effect for effect in effects if isinstance(effect, Violation)]
    wrong_targets = [violation for violation in told if violation.rule == "audit-target-wrong"]
    assert [violation.node for violation in wrong_targets[:2]] == ["node-a", "node-a"]
    assert "row=0 target=" in wrong_targets[0].detail
    assert state.counts["markets_audited"] == 1


def test_a_target_below_what_is_owed_violates_rule_two_without_an_audit() -> None:
    state, selection = state_of(0.0)
    targets = rationed().clear()
    good = targets.reservation
    robbed = replace(good, target_millicores=np.array([999, 2900]))

    right = audit.check_owed(state, selection, targets)
    wrong = audit.check_owed(state, selection, replace(targets, reservation=robbed))

    assert right == []
    assert [effect.rule for effect in wrong if isinstance(effect, Violation)] == ["2"]


def test_simulated_clusters_are_audited_in_every_round() -> None:
    cluster = Cluster(5)

    for _ in range(30):
        cluster.second()

    rounds = cluster.rounds.state.fleet.nodes.round.sum()
    assert cluster.rounds.counters["markets_audited"] >= rounds > 0


def test_what_is_only_recommended_is_audited_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def clear_wrongly(
        rows: MarketRows,
        pods: MarketPods,
        nodes: MarketNodes,
        *,
        parameters: Parameters,
        share: Share,
    ) -> Targets:
        targets = clear_targets(rows, pods, nodes, parameters=parameters, share=share)
        more = targets.reservation_millicores + rows.takes_part
        return replace(targets, reservation_millicores=more)

    monkeypatch.setattr(response, "clear_targets", clear_wrongly)

    told = Replay().run(
        "parameters audit_share=1\n"
        "attach n allocatable=2000\n"
        "container shown request=500 limit=500 policy=hard-quota mode=recommend\n"
        "use shown usage=480\n"
        "tick 20\n"
    )

    assert "audit-target-wrong" in told
