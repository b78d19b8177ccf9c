import numpy as np
import pytest

from mbcas_core.events import Policy
from mbcas_core.market.goods import clear_targets
from mbcas_core.market.targets import MarketNodes, MarketPods, MarketRows
from mbcas_core.parameters import Parameters
from mbcas_core.units import MAX_MILLICORES, BoolArray
from mbcas_loadtest.mechanism.both_goods import (
    TwoGoodMarkets,
    draw_two_good_markets,
    lie_about_both_goods,
)
from tests.mbcas_loadtest.mechanism.small_markets import whole

NO_CAPS = Parameters(pod_cap_ratio=1.0)
MARKETS = 300


def example(reservation_need: int = 200) -> TwoGoodMarkets:
    """The module's example, with this need of the first."""
    everyone: BoolArray = np.ones(2, dtype=np.bool_)
    return TwoGoodMarkets(
        rows=MarketRows(
            pod=whole([0, 1]),
            takes_part=everyone,
            policy=whole([int(Policy.REQUESTS_AND_LIMITS)] * 2),
            strict=everyone,
            has_limit=everyone,
            admitted_request_millicores=whole([200, 200]),
            admitted_limit_millicores=whole([600, 600]),
            reservation_need_millicores=whole([reservation_need, 200]),
            ceiling_need_millicores=whole([2000, 2000]),
            fixed_reservation_millicores=whole([200, 200]),
            fixed_ceiling_millicores=whole([600, 600]),
        ),
        pods=MarketPods(
            node=whole([0, 0]),
            weight=np.array([200.0, 200.0]),
            declared_min_millicores=whole([MAX_MILLICORES] * 2),
            declared_max_millicores=whole([MAX_MILLICORES] * 2),
        ),
        nodes=MarketNodes(allocatable_millicores=whole([1100]), unmanaged_millicores=whole([0])),
        attacker=whole([0]),
    )


@pytest.mark.parametrize(("need", "ceilings"), [(200, [500, 500]), (600, [700, 300])])
def test_the_example_comes_out_as_told(need: int, ceilings: list[int]) -> None:
    markets = example(need)

    targets = clear_targets(markets.rows, markets.pods, markets.nodes, parameters=NO_CAPS)

    assert targets.ceiling_millicores.tolist() == ceilings


def test_the_example_s_lie_pays_what_a_hand_calculation_says() -> None:
    gains = lie_about_both_goods(example(), parameters=NO_CAPS)

    # The best that is tried is 600: 200 more of ceiling, worth 19 each, for 400 that idle.
    assert gains.pays.tolist() == [True]
    assert gains.gain_ratio[0] == pytest.approx((19 * 200 - 400) / (19 * (200 + 500)))


@pytest.mark.parametrize(
    ("policy", "strict"),
    [
        (Policy.LIMITS_ONLY, False),
        (Policy.LIMITS_ONLY, True),
        (Policy.HARD_QUOTA, False),
        (Policy.HARD_QUOTA, True),
        (Policy.REQUESTS_AND_LIMITS, False),
    ],
)
def test_where_the_goods_do_not_mix_no_lie_pays(policy: Policy, strict: bool) -> None:  # noqa: FBT001 - a parameter.
    markets = draw_two_good_markets(np.random.default_rng(1), MARKETS, policy=policy, strict=strict)

    assert not lie_about_both_goods(markets, parameters=Parameters()).pays.any()


def test_strict_rows_buy_ceilings_with_reservations_that_they_do_not_need() -> None:
    markets = draw_two_good_markets(
        np.random.default_rng(1), MARKETS, policy=Policy.REQUESTS_AND_LIMITS, strict=True
    )

    assert lie_about_both_goods(markets, parameters=Parameters()).pays.mean() > 0.5
