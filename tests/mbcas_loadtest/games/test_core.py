"""Games on the real core."""

from dataclasses import replace

import numpy as np
import pytest

from mbcas_core.events import Policy
from mbcas_core.parameters import Parameters
from mbcas_loadtest.games.attackers import Seen, Truthful, Use
from mbcas_loadtest.games.attacks import burn_more, inflate_request, split
from mbcas_loadtest.games.core import CoreGame, play
from mbcas_loadtest.games.outcome import Outcome, find_gains

GAME = CoreGame(seed=5, games=6, rounds=4, policy=Policy.HARD_QUOTA)


@pytest.fixture(scope="module")
def truthful() -> Outcome:
    return play(GAME, Truthful())


def test_truth_gains_nothing_over_truth(truthful: Outcome) -> None:
    gains = find_gains(play(GAME, Truthful(2)), truthful, 1)

    assert np.array_equal(gains, np.zeros(GAME.games))


@pytest.mark.parametrize("policy", [Policy.REQUESTS_AND_LIMITS, Policy.HARD_QUOTA])
def test_no_rule_and_no_audited_property_is_broken_under_attack(policy: Policy) -> None:
    game = replace(GAME, policy=policy, parameters=Parameters(audit_share=1.0))

    outcome = play(game, burn_more(1.0))

    assert outcome.violations == 0


def test_burning_is_measured_as_use_and_served_as_nothing(truthful: Outcome) -> None:
    burning = play(GAME, burn_more(1.0))

    assert np.array_equal(burning.demand, truthful.demand)
    assert burning.held[:, 0].sum() > 1.1 * truthful.held[:, 0].sum()
    # Each served millicore is worth 19; what else its payoff changes by is waste.
    more = 19 * (burning.useful[:, 0] - truthful.useful[:, 0])
    assert np.all(burning.payoff[:, 0] <= truthful.payoff[:, 0] + more + 1e-3)


def test_what_is_withheld_is_not_served() -> None:
    class Idler(Truthful):
        """Gives up all of its demand."""

        def use(self, seen: Seen) -> Use:
            none = np.zeros_like(seen.demand_millicores)
            return Use(burn_millicores=none, withheld_ratio=none + 1.0)

    outcome = play(GAME, Idler())

    assert outcome.useful[:, 0].max() == 0
    assert outcome.demand[:, 0].min() > 0
    assert outcome.useful[:, 1:].min() > 0


def test_no_more_is_served_than_demanded_and_no_more_than_the_node_has() -> None:
    outcome = play(replace(GAME, policy=Policy.REQUESTS_AND_LIMITS), burn_more(3.0))

    assert np.all(outcome.useful <= outcome.demand * (1 + 1e-9))
    assert outcome.useful.sum(axis=1).max() <= 4000 * GAME.rounds * 15


def test_a_request_bought_at_admission_serves_more_and_leaves_others_less(
    truthful: Outcome,
) -> None:
    bought = play(GAME, inflate_request(1.5))

    assert bought.useful[:, 0].sum() > truthful.useful[:, 0].sum()
    assert bought.useful[:, 1:].sum() < truthful.useful[:, 1:].sum()


def test_replicas_share_one_demand(truthful: Outcome) -> None:
    parts = play(GAME, split(2))

    assert np.allclose(parts.demand, truthful.demand)
    assert np.array_equal(parts.admitted, truthful.admitted)
