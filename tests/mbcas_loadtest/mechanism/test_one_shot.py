from dataclasses import replace

import numpy as np
import pytest

from mbcas_core.market.clearing import Bids, Clearing
from mbcas_core.units import IntArray
from mbcas_loadtest.mechanism.attacks import list_attacks
from mbcas_loadtest.mechanism.one_shot import Gains, Game
from mbcas_loadtest.mechanism.one_shot_markets import OneShotMarkets, draw_markets
from mbcas_loadtest.mechanism.rules.frozen import Frozen
from mbcas_loadtest.mechanism.rules.kelly import Kelly, KellyCharged
from mbcas_loadtest.mechanism.rules.kernel_weights import KernelWeights
from mbcas_loadtest.mechanism.rules.max_min import MaxMin
from mbcas_loadtest.mechanism.rules.mbcas import Mbcas
from mbcas_loadtest.mechanism.rules.refusal_floor import RefusalFloor
from mbcas_loadtest.mechanism.rules.rule import Rule
from mbcas_loadtest.mechanism.rules.two_pass import TwoPass
from mbcas_loadtest.mechanism.rules.vcg import Vcg
from tests.mbcas_loadtest.mechanism.small_markets import atoms, bids_of, whole

ATTACKS = {attack.name: attack for attack in list_attacks()}
CLAIMED = [attack.name for attack in list_attacks() if attack.claimed]


def two_pods(
    needs: tuple[int, int],
    capacity: int,
    *,
    floors: tuple[int, int] = (0, 0),
    factors: tuple[float, float] = (1.0, 1.0),
    elasticity: float = 0.5,
) -> OneShotMarkets:
    """Returns one market in which demand is certain; the first pod attacks."""
    return OneShotMarkets(
        bids=bids_of(
            needs,
            floors=floors,
            weights=[max(b, 10) * factor for b, factor in zip(floors, factors, strict=True)],
        ),
        capacity_millicores=whole([capacity]),
        payoffs=atoms([[float(r)] for r in needs], [[1.0], [1.0]], elasticity=elasticity),
        priority_factor=np.array(factors),
        attacker=whole([0]),
        accomplice=whole([1]),
        least_weight=10.0,
    )


def attack(name: str, rule: Rule, markets: OneShotMarkets, quantum: int = 10) -> Gains:
    return ATTACKS[name].run(Game(rule, markets, quantum_millicores=quantum))


def paying(name: str, rule: Rule, markets: OneShotMarkets) -> int:
    gains = attack(name, rule, markets)
    applies = gains.applies
    if ATTACKS[name].floors_must_fit:
        applies = applies & markets.floors_fit()
    return int((applies & gains.pays).sum())


def test_asking_kelly_for_more_pays_what_a_hand_calculation_says() -> None:
    # Truth: 300 of 600 at 300 : 600 is 200. Three times the need is 900 : 600, so 360; twice the
    # need is 300 and no more than is needed, with nothing idle.
    markets = two_pods((300, 600), 600)

    gains = attack("over_report", Kelly(), markets)

    assert gains.gain[0] == pytest.approx(19 * 100)
    assert gains.value[0] == pytest.approx(19 * 200)


def test_lying_to_two_passes_pays_what_a_hand_calculation_says() -> None:
    markets = two_pods((400, 2000), 1000, elasticity=0.9)

    gains = attack("over_report", TwoPass(), markets)

    assert gains.gain[0] == pytest.approx(19 * 200)


def test_two_small_pods_get_more_than_a_large_one_where_each_pod_counts_the_same() -> None:
    markets = two_pods((600, 600), 600)

    gains = attack("split_2", MaxMin(equal=True), markets)

    assert gains.gain[0] == pytest.approx(19 * 100)


def test_declaring_a_share_unacceptable_pays_only_where_floors_grow() -> None:
    markets = two_pods((1000, 1000), 1000, floors=(100, 100))

    assert attack("false_min_acceptable", RefusalFloor(), markets).gain[0] == pytest.approx(
        19 * 400
    )
    assert attack("false_min_acceptable", Mbcas(), markets).gain[0] == 0.0


def test_claiming_critical_is_worth_half_more_surplus_unless_it_is_bounded() -> None:
    markets = two_pods((1000, 1000), 1000, floors=(100, 100))

    # 100 + 800 x 1.5 / 2.5 = 580 instead of 500.
    assert attack("claim_critical", Mbcas(), markets).gain[0] == pytest.approx(19 * 80)
    assert attack("claim_critical_bounded", Mbcas(), markets).gain[0] == 0.0


def test_an_inflated_request_is_measured_against_what_it_costs() -> None:
    markets = two_pods((1000, 1000), 1000, floors=(100, 100))

    gains = attack("inflate_request", Mbcas(), markets)

    # A request of 300 gives 300 + 600 x 300 / 400 = 750 instead of 500.
    assert gains.gain[0] == pytest.approx(19 * 250)
    assert gains.inflated_millicores is not None
    assert gains.inflated_millicores.tolist() == [200]


def test_pods_below_the_least_weight_gain_weight_by_being_many() -> None:
    markets = two_pods((600, 600), 600)

    # Five pods of weight 10 beside one: 500 instead of 300.
    assert attack("split_below_least", Mbcas(), markets).gain[0] == pytest.approx(19 * 200)
    assert attack("split_5", Mbcas(), markets).gain[0] == pytest.approx(0.0)


def test_a_pod_can_sell_its_share_but_not_gain_without_paying() -> None:
    markets = two_pods((600, 300), 600)
    worth = np.array([0.01, 0.2])
    payoffs = atoms([[600.0], [300.0]], [[1.0], [1.0]])
    unlike = OneShotMarkets(
        bids=markets.bids,
        capacity_millicores=markets.capacity_millicores,
        payoffs=type(payoffs)(
            demand=payoffs.demand, throttling_target_ratio=worth, elasticity=payoffs.elasticity
        ),
        priority_factor=markets.priority_factor,
        attacker=markets.attacker,
        accomplice=markets.accomplice,
        least_weight=10.0,
    )

    # The second gives up 150 that are worth 4 each to it and 99 each to the first.
    sold = attack("collusion_with_payments", Mbcas(), unlike)
    assert sold.gain[0] == pytest.approx((99 - 4) * 150)
    assert attack("collusion", Mbcas(), unlike).gain[0] <= 0.0


def test_the_allowance_is_the_worth_of_a_quantum_a_row_and_nothing_at_the_need() -> None:
    game = Game(Mbcas(), two_pods((600, 200), 600), quantum_millicores=10)

    assert game.attacker.true_allocation.tolist() == [400]
    assert game.attacker.allowance(1, 10)[0] == pytest.approx(19 * 10, rel=1e-6)
    assert game.attacker.allowance(3, 10)[0] == pytest.approx(19 * 30, rel=1e-6)
    assert game.accomplice.allowance(3, 10)[0] == pytest.approx(0.0, abs=1e-5)


@pytest.fixture(scope="module")
def markets() -> OneShotMarkets:
    return draw_markets(np.random.default_rng(7), 400)


@pytest.mark.parametrize("name", CLAIMED)
def test_no_claimed_attack_pays_under_mbcas(name: str, markets: OneShotMarkets) -> None:
    assert paying(name, Mbcas(), markets) == 0


@pytest.mark.parametrize("name", CLAIMED)
def test_with_a_fine_quantum_hardly_a_quantum_a_row_is_gained(name: str) -> None:
    fine = draw_markets(np.random.default_rng(8), 200, scale=1000)

    gains = attack(name, Mbcas(), fine)

    judged = gains.applies & (fine.floors_fit() | (not ATTACKS[name].floors_must_fit))
    assert np.all(gains.gain[judged] <= 5 * gains.quantum_value[judged])


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("over_report", Kelly()),
        ("local_search", TwoPass()),
        ("over_report", Frozen()),
        ("split_3", KernelWeights(equal=True)),
        ("split_3", MaxMin(equal=True)),
        ("false_min_acceptable", RefusalFloor()),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_suite_finds_attacks_where_there_are_some(
    name: str, rule: Rule, markets: OneShotMarkets
) -> None:
    assert paying(name, rule, markets) >= 20


def test_vcg_charges_make_truth_best_where_one_price_for_all_does_not() -> None:
    markets = draw_markets(np.random.default_rng(9), 60, atoms_only=True)

    assert paying("local_search", Vcg(), markets) == 0
    assert paying("split_2", Vcg(), markets) == 0
    assert paying("under_report", KellyCharged(), markets) >= 10
    assert paying("collusion", Vcg(), markets) >= 5


def test_what_pays_is_more_than_the_allowance() -> None:
    ones = np.ones(3)
    gains = Gains(
        gain=np.array([-1.0, 1.0, 1.01]),
        allowance=ones,
        value=ones,
        quantum_value=ones,
        applies=ones > 0,
    )

    assert gains.pays.tolist() == [False, False, True]


class Hill(Mbcas):
    """Gives the first of two bidders most for asking for this share of 1000m."""

    def __init__(self, top_ratio: float) -> None:
        self._top = round(1000 * top_ratio)

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        clearing = super().clear(bids, capacity_millicores, quantum_millicores=quantum_millicores)
        off = abs(int(bids.need_millicores[0]) - self._top)
        return replace(clearing, allocation_millicores=whole([max(1000 - off, 0), 0]))


@pytest.mark.parametrize("top_ratio", [0.863, 1.137, 1.412])
def test_the_local_search_reaches_a_top_between_the_grid_s_points_from_either_side(
    top_ratio: float,
) -> None:
    gains = attack("local_search", Hill(top_ratio), two_pods((1000, 1000), 1000))

    assert gains.gain[0] == pytest.approx(19 * 1000 * abs(top_ratio - 1))


def test_a_deviation_starts_from_the_same_moment_each_time(markets: OneShotMarkets) -> None:
    game = Game(Frozen(), markets, quantum_millicores=10)

    first = game.report(game.attacker.need * 2)
    game.report(game.attacker.need * 3)

    assert game.report(game.attacker.need * 2).tolist() == first.tolist()
    assert game.report(game.attacker.need) == pytest.approx(0.0)
