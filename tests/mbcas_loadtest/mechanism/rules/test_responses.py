from mbcas_loadtest.mechanism.payoffs import Payoffs
from mbcas_loadtest.mechanism.rules.frozen import Frozen
from mbcas_loadtest.mechanism.rules.refusal_floor import RefusalFloor
from mbcas_loadtest.mechanism.rules.two_pass import TwoPass
from tests.mbcas_loadtest.mechanism.small_markets import allocate, atoms, bids_of, facts_of, whole


def test_two_passes_take_from_who_needs_less_than_its_share_unless_it_lies() -> None:
    rule = TwoPass()
    rule.observe(facts_of([2000, 400], elasticity=0.9))

    assert allocate(rule, bids_of([2000, 400]), 1000) == [800, 200]
    assert allocate(rule, bids_of([2000, 800]), 1000) == [600, 400]


def test_two_passes_ration_a_node_that_had_room_for_all() -> None:
    assert allocate(TwoPass(), bids_of([500, 450]), 1000) == [504, 496]


def quiet_or_bursting(count: int) -> Payoffs:
    return atoms([[100.0, 300.0]] * count, [[0.9, 0.1]] * count)


def test_a_frozen_response_sells_to_the_relaxed_need_and_then_finds_no_shortage() -> None:
    rule = Frozen()
    rule.observe(quiet_or_bursting(4).facts(whole([300] * 4)))
    bids = bids_of([300] * 4)

    rounds = [allocate(rule, bids, 720) for _ in range(rule.settling_rounds)]

    assert rounds[:4] == [[180] * 4] * 4
    assert rounds[4:8] == [[100] * 4] * 4
    assert rounds[8:12] == rounds[:4], "relaxed needs fit, so that the shortage is gone again"


def test_a_frozen_response_without_shortage_is_mbcas() -> None:
    rule = Frozen()
    rule.observe(quiet_or_bursting(2).facts(whole([300] * 2)))
    bids = bids_of([300] * 2)

    for _ in range(rule.settling_rounds):
        assert allocate(rule, bids, 500) == [250, 250]


def test_floors_grow_for_whoever_refuses_often_enough() -> None:
    rule = RefusalFloor(step_ratio=0.25)
    rule.observe(facts_of([1000, 1000], acceptable=[900, 0]))
    bids = bids_of([1000, 1000], floors=[100, 100])

    first = allocate(rule, bids, 1000)
    for _ in range(rule.settling_rounds):
        allocate(rule, bids, 1000)

    assert first == [500, 500]
    assert allocate(rule, bids, 1000) == [900, 100]


def test_a_grown_floor_is_no_more_than_what_was_called_acceptable() -> None:
    rule = RefusalFloor()
    rule.observe(facts_of([1000, 1000, 1000], acceptable=[500, 0, 0]))
    bids = bids_of([1000, 1000, 1000], floors=[100, 100, 100])

    rounds = [allocate(rule, bids, 1200) for _ in range(3 * rule.settling_rounds)]

    # Content from a floor of 250 on: 250 + 750 / 3 = 500.
    assert rounds[-1] == [500, 350, 350]


def test_nobody_who_is_content_gets_a_higher_floor() -> None:
    rule = RefusalFloor()
    rule.observe(facts_of([1000, 1000], acceptable=[400, 0]))
    bids = bids_of([1000, 1000], floors=[100, 100])

    for _ in range(2 * rule.settling_rounds):
        assert allocate(rule, bids, 1000) == [500, 500]
