"""Another rule in the place where pods share reservations."""

import numpy as np

from mbcas_core.events import Mode
from mbcas_core.market.clearing import Bids, Clearing, clear
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds
from mbcas_core.units import IntArray
from tests.golden.replay import Replay

CROWDED = """
attach n allocatable=1000
container one request=300 limit=300 policy=hard-quota
container two request=300 limit=300 policy=hard-quota
use one usage=900 throttled=0.5
use two usage=900 throttled=0.5
"""


class FirstTakesAll:
    """Serves the pods in their order."""

    def __init__(self) -> None:
        self.pods: list[list[int]] = []

    def __call__(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int, pods: IntArray
    ) -> Clearing:
        self.pods.append(pods.tolist())
        ordered = Bids(
            market=bids.market,
            need_millicores=bids.need_millicores,
            floor_millicores=np.zeros_like(bids.need_millicores),
            weight=np.power(10.0, -3.0 * np.arange(pods.size)),
        )
        return clear(ordered, capacity_millicores, quantum_millicores=quantum_millicores)


def targets(rounds: Rounds) -> list[int]:
    run = Replay()
    run.rounds = rounds
    run.run(f"{CROWDED}tick 40\n")
    found: list[int] = rounds.state.decisions.target_request[rounds.state.fleet.row_ids()].tolist()
    return found


def test_reservations_are_shared_by_the_rule_that_was_given() -> None:
    rule = FirstTakesAll()
    fair = targets(Rounds(Parameters(mode=Mode.AUTO)))
    first = targets(Rounds(Parameters(mode=Mode.AUTO), share=rule))

    assert fair[0] == fair[1]
    assert first[0] > 2 * first[1]


def test_a_rule_is_told_the_same_number_for_the_same_pod_in_every_round() -> None:
    rule = FirstTakesAll()
    targets(Rounds(Parameters(mode=Mode.AUTO), share=rule))

    assert len(rule.pods) > 2
    assert len({tuple(pods) for pods in rule.pods}) == 1
    assert len(set(rule.pods[0])) == 2
