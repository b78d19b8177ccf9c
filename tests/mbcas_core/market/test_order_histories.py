"""What holds of orders at every step of random histories, judged by what is really set."""

from collections.abc import Iterator

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mbcas_core.market.audit_orders import audit_orders
from mbcas_core.market.clearing import sum_by
from tests.mbcas_core.market.histories import History, Round
from tests.mbcas_core.market.worlds import World, worlds

ROUNDS = 25
SEED = st.integers(0, 2**32 - 1)
# A history takes a while, and shrinking one says little.
histories = settings(
    max_examples=max(12, settings().max_examples // 8), phases=(Phase.reuse, Phase.generate)
)


def live(world: World, seed: int) -> Iterator[tuple[History, Round]]:
    history = History(world, np.random.default_rng(seed))
    for _ in range(ROUNDS):
        yield history, history.step()


@histories
@given(worlds(), SEED)
def test_no_raise_lets_what_is_set_exceed_the_supply_whatever_becomes_of_orders(
    world: World, seed: int
) -> None:
    for history, decided in live(world, seed):
        targets, grants = decided.targets, decided.grants
        node = history.world.node_of_row
        for set_now, grant, limit in zip(
            history.truth(),
            (grants.reservation_millicores, grants.ceiling_millicores),
            (targets.reservation_limit_millicores, targets.ceiling_limit_millicores),
            strict=True,
        ):
            raised = sum_by(node, grant, limit.size) > 0
            assert (sum_by(node, set_now, limit.size) <= limit)[raised].all()


@histories
@given(worlds(), SEED)
def test_whatever_an_order_may_have_set_is_billed_until_its_end_is_known(
    world: World, seed: int
) -> None:
    for history, decided in live(world, seed):
        for billed, set_now in zip(history.billed(), history.truth(), strict=True):
            assert (billed >= set_now).all()
        assert not decided.in_flight[decided.sent].any(), "an order overtakes another"


@histories
@given(worlds(), SEED)
def test_what_is_owed_comes_first_and_no_slack_is_left_to_waiting_raises(
    world: World, seed: int
) -> None:
    for _, decided in live(world, seed):
        targets = decided.targets
        found = audit_orders(
            decided.asked,
            decided.grants,
            reservation_limit_millicores=targets.reservation_limit_millicores,
            ceiling_limit_millicores=targets.ceiling_limit_millicores,
        )
        assert found == []


def test_the_histories_have_in_them_what_they_are_about() -> None:
    seen: dict[str, int] = {}

    @settings(max_examples=60, database=None)
    @given(worlds(), SEED)
    def look(world: World, seed: int) -> None:
        for history, decided in live(world, seed):
            grants = decided.grants
            wish = decided.asked.reservation_target_millicores
            wish = wish - decided.asked.reservation_billed_millicores
            doubt = history.table.doubt_request[history.all_rows] > 0
            for name, there in {
                "sent": decided.sent.size > 0,
                "in flight": decided.in_flight.any(),
                "granted": (grants.reservation_millicores > 0).any(),
                "kept waiting": (grants.reservation_millicores < wish).any(),
                "in doubt": doubt.any(),
                "floors reduced": decided.targets.reservation.floors_reduced.any(),
            }.items():
                seen[name] = seen.get(name, 0) + bool(there)

    look()

    assert min(seen.values()) > 5, seen
