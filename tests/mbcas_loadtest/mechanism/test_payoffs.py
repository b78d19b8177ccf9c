import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbcas_loadtest.mechanism.one_shot_markets import draw_markets
from mbcas_loadtest.mechanism.payoffs import Demand, Payoffs, scale_payoffs
from tests.mbcas_loadtest.mechanism.small_markets import atoms, whole


def test_the_worked_example_is_worth_what_the_module_says() -> None:
    payoffs = atoms([[100.0, 300.0]], [[0.5, 0.5]], tau=0.2)

    assert payoffs.find_need().tolist() == [300]
    assert [payoffs.payoff(whole([x]))[0] for x in (100, 200, 300)] == pytest.approx(
        [-400, -250, -100]
    )
    assert payoffs.useful_value(whole([200]))[0] == pytest.approx(550)
    assert payoffs.useful_value(whole([0]))[0] == 0.0


def uniform(low: float, high: float, tau: float) -> Payoffs:
    return Payoffs(
        demand=Demand(
            low_millicores=np.array([[low]]),
            high_millicores=np.array([[high]]),
            probability=np.array([[1.0]]),
        ),
        throttling_target_ratio=np.array([tau]),
        elasticity=np.array([0.5]),
    )


def test_uniform_demand_has_the_payoff_of_its_closed_form() -> None:
    payoffs = uniform(100.0, 300.0, 0.1)

    x = 250.0
    idle, missing = (x - 100) ** 2 / 400, (300 - x) ** 2 / 400
    assert payoffs.find_need().tolist() == [280]
    assert payoffs.payoff(whole([250]))[0] == pytest.approx(-idle - 9 * missing)


def test_the_need_falls_as_the_throttling_target_is_relaxed() -> None:
    payoffs = uniform(100.0, 300.0, 0.1)

    assert payoffs.relax(np.array([0.1]))[0] == pytest.approx(1.0)
    assert payoffs.relax(np.array([0.4]))[0] == pytest.approx(220 / 280)


def test_parts_of_the_need_are_worth_the_useful_value() -> None:
    payoffs = atoms([[100.0, 200.0, 400.0]], [[0.5, 0.3, 0.2]], tau=0.05)

    facts = payoffs.facts(whole([400]))

    lengths = facts.part_ratio[0] * 400
    assert lengths[lengths > 0] == pytest.approx([100, 100, 200])
    assert facts.part_value[0][lengths > 0] == pytest.approx([19, 19 - 20 * 0.5, 19 - 20 * 0.8])


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_no_other_whole_number_is_worth_more_than_the_need(seed: int) -> None:
    markets = draw_markets(np.random.default_rng(seed), 20)
    need = markets.bids.need_millicores
    best = markets.payoffs.payoff(need)

    for factor in (0.3, 0.9, 0.99, 1.01, 1.1, 2.0):
        other = np.rint(need * factor).astype(np.int64)
        assert np.all(markets.payoffs.payoff(other) <= best + 1e-9 * np.abs(best) + 1e-9)
    for step in (-1, 1):
        other = np.maximum(need + step, 0)
        assert np.all(markets.payoffs.payoff(other) <= best + 1e-9 * np.abs(best) + 1e-9)


def test_a_finer_millicore_changes_no_worth_but_its_unit() -> None:
    payoffs = draw_markets(np.random.default_rng(3), 5).payoffs

    fine = scale_payoffs(payoffs, 1000)

    x = np.arange(payoffs.elasticity.size, dtype=np.int64) * 7
    assert fine.payoff(x * 1000) == pytest.approx(payoffs.payoff(x) * 1000)
