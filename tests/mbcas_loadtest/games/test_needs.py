"""Games on reported needs."""

from dataclasses import replace

import numpy as np
import pytest

from mbcas_core.events import PriorityClass
from mbcas_core.parameters import Parameters
from mbcas_loadtest.games.attackers import Attacker, Seen, Truthful
from mbcas_loadtest.games.attacks import (
    Misreport,
    PumpPrice,
    SleepThenReport,
    claim_critical,
    inflate_request,
    refuse_always,
    split,
)
from mbcas_loadtest.games.needs import Mechanism, NeedsGame, play
from mbcas_loadtest.games.outcome import compare, find_gains
from mbcas_loadtest.mechanism.rules.kelly import Kelly
from mbcas_loadtest.mechanism.rules.two_pass import TwoPass
from mbcas_loadtest.mechanism.rules.vcg import Vcg

GAME = NeedsGame(seed=3, games=30, rounds=20)
REFUSALS_PAY = Mechanism(name="refusals pay", parameters=Parameters(refusal_floor_step=0.1))


def test_truth_gains_nothing_over_truth() -> None:
    gains = find_gains(play(GAME, Truthful()), play(GAME, Truthful(2)), 1)

    assert np.array_equal(gains, np.zeros(GAME.games))


def test_a_seed_decides_everything() -> None:
    one, again = (play(GAME, Misreport(1.3)) for _ in range(2))
    other = play(replace(GAME, seed=4), Misreport(1.3))

    assert np.array_equal(one.payoff, again.payoff)
    assert not np.array_equal(one.payoff, other.payoff)


@pytest.mark.parametrize(
    "attacker", [Misreport(0.7), Misreport(1.2), Misreport(3.0), SleepThenReport(), PumpPrice()]
)
def test_no_misreport_pays_in_any_game_of_mbcas(attacker: Attacker) -> None:
    gains = find_gains(play(GAME, attacker), play(GAME, Truthful(2)), attacker.pods)

    # One quantum per round, as shares are rounded to it, is worth less than this.
    assert gains.max() < 0.003
    assert gains.min() < 0


def test_no_misreport_leaves_others_less_than_they_are_owed() -> None:
    truthful, pumped = play(GAME, Truthful()), play(GAME, PumpPrice())

    # Property 7, whole quanta: 10m for each of four pods that are short.
    assert truthful.missed.max() <= 10 * GAME.rounds
    assert pumped.missed[:, 2:].max() <= 10 * GAME.rounds


def test_overbidding_pays_under_proportional_share() -> None:
    game = replace(GAME, mechanism=Mechanism(name="kelly", rule=Kelly))

    figures = compare(play(game, Misreport(1.1)), play(game, Truthful(2)), 1)

    assert figures["gain_mean"] > 0.005
    assert figures["exploited_ratio"] > 0.2
    assert figures["others_missed_ratio"] > figures["others_missed_truthful_ratio"]


def test_overbidding_pays_somewhere_where_needs_answer_in_two_passes() -> None:
    game = replace(GAME, mechanism=Mechanism(name="two pass", rule=TwoPass))

    gains = find_gains(play(game, Misreport(3.0)), play(game, Truthful(2)), 1)

    assert gains.max() > 0.01


def test_overbidding_costs_money_where_it_is_charged() -> None:
    game = replace(GAME, mechanism=Mechanism(name="vcg", rule=Vcg))

    gains = find_gains(play(game, Misreport(1.5)), play(game, Truthful(2)), 1)

    assert gains.max() < 0


def test_a_false_acceptable_pays_only_where_refusals_raise_floors() -> None:
    paying = replace(GAME, mechanism=REFUSALS_PAY)

    default = find_gains(play(GAME, refuse_always()), play(GAME, Truthful(2)), 1)
    plan = find_gains(play(paying, refuse_always()), play(paying, Truthful(2)), 1)

    assert np.array_equal(default, np.zeros(GAME.games))
    assert plan.max() > 0.01


def test_a_claimed_priority_is_worth_what_the_namespace_allows() -> None:
    unbounded = replace(GAME, max_priority=PriorityClass.CRITICAL)

    bounded = find_gains(play(GAME, claim_critical()), play(GAME, Truthful(2)), 1)
    free = find_gains(play(unbounded, claim_critical()), play(unbounded, Truthful(2)), 1)

    assert np.array_equal(bounded, np.zeros(GAME.games))
    assert free.mean() > 0.005


def test_a_split_pod_demands_and_is_admitted_with_as_much_as_before() -> None:
    whole, parts = play(GAME, Truthful()), play(GAME, split(3))

    assert np.allclose(parts.demand, whole.demand)
    assert np.array_equal(parts.admitted, whole.admitted)


def test_an_inflated_request_is_charged_to_the_quota() -> None:
    figures = compare(play(GAME, inflate_request(1.5)), play(GAME, Truthful(2)), 1)

    assert figures["admitted_factor"] > 1.05
    assert figures["gain_priced_mean"] < figures["gain_mean"]


def test_an_attacker_sees_what_it_was_given_the_round_before() -> None:
    class Watcher(Truthful):
        """Keeps what it sees."""

        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Seen] = []

        def report(self, seen: Seen) -> np.ndarray:
            self.seen.append(seen)
            return seen.need_millicores

    watcher = Watcher()
    outcome = play(GAME, watcher)

    held = sum(seen.allocation_millicores for seen in watcher.seen[1:])
    assert [seen.round for seen in watcher.seen] == list(range(GAME.rounds))
    assert np.all(held <= outcome.held[:, :1])
    assert np.all(held >= 0.8 * outcome.held[:, :1])
    assert max(seen.shortage.max() for seen in watcher.seen) > 0.05
