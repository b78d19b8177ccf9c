import numpy as np

from mbcas_core.market.clearing import sum_by, sum_counted_floors
from mbcas_core.units import BoolArray
from mbcas_loadtest.mechanism.markets import MAX_PODS, Kind, draw_markets


def test_a_batch_is_a_function_of_seed_and_number() -> None:
    first, again, other = (draw_markets(seed=3, batch=batch, count=50) for batch in (4, 4, 5))

    assert first.bids.need_millicores.tolist() == again.bids.need_millicores.tolist()
    assert first.capacity_millicores.tolist() == again.capacity_millicores.tolist()
    assert first.capacity_millicores.tolist() != other.capacity_millicores.tolist()


def test_markets_are_as_many_sided_as_promised() -> None:
    markets = draw_markets(seed=0, batch=0)
    pods_of_node = np.bincount(markets.pods.market, minlength=markets.count)
    containers_of_pod = np.bincount(markets.bids.pod)
    needs = sum_by(markets.pods.market, markets.pods.need_millicores, markets.count)
    floors = sum_counted_floors(markets.pods, markets.count)

    assert set(markets.kind.tolist()) == {int(kind) for kind in Kind}
    assert pods_of_node.min() == 1
    assert pods_of_node.max() == MAX_PODS
    assert np.median(pods_of_node) < 30
    assert set(containers_of_pod.tolist()) == {1, 2, 3, 4, 5, 6}
    capacity = markets.capacity_millicores
    assert 0.1 < (capacity < floors).mean() < 0.4
    assert 0.3 < ((floors <= capacity) & (capacity < needs)).mean() < 0.7
    assert 0.1 < (needs <= capacity).mean() < 0.5


def test_degenerate_markets_are_what_their_kind_says() -> None:
    markets = draw_markets(seed=0, batch=1)
    market = markets.pods.market
    needs = sum_by(market, markets.pods.need_millicores, markets.count)
    floors = sum_counted_floors(markets.pods, markets.count)
    capacity = markets.capacity_millicores

    def of(kind: Kind) -> BoolArray:
        chosen: BoolArray = markets.kind == kind
        return chosen

    assert (np.bincount(markets.bids.node)[of(Kind.ONE_ROW)] == 1).all()
    assert (capacity[of(Kind.NO_CAPACITY)] == 0).all()
    assert (needs[of(Kind.NO_NEED)] == 0).all()
    assert (capacity[of(Kind.FLOORS_FILL)] == floors[of(Kind.FLOORS_FILL)]).all()
    assert (capacity <= np.maximum(floors - 1, 0))[of(Kind.FLOORS_DO_NOT_FIT)].all()
    assert (np.abs(capacity - needs) <= 1)[of(Kind.AT_DEMAND)].all()
    weight = markets.pods.weight[of(Kind.WIDE_WEIGHTS)[market]]
    assert weight.max() / weight.min() > 1e11
