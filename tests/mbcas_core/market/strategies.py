"""Random markets for property tests, ordinary and degenerate ones.

`markets` draws one market as plain lists, `bids_of` turns several into one call's bids, and
`nodes_of_pods` draws nodes whose pods have one to six containers.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from hypothesis import strategies as st

from mbcas_core.market.clearing import Bids
from mbcas_core.market.pods import PodBids
from tests.mbcas_core.market.plain import PlainMarket

MILLICORES = st.one_of(st.integers(0, 50), st.integers(0, 4000), st.integers(0, 100_000))
ORDINARY_WEIGHT = st.integers(10, 8000).map(lambda admitted: admitted * 1.5)
WIDE_WEIGHT = st.floats(-6, 6).map(lambda exponent: 10.0**exponent)
QUANTUM = st.sampled_from([1, 7, 10, 10, 100])


KINDS = ("ordinary", "wide weights", "equal ratios", "floors fill", "no capacity")


class Fit(Enum):
    """How much capacity a market has."""

    ANY = 0
    FLOORS = 1
    """At least the counted floors."""
    FLOORS_NOT_NEEDS = 2
    """More than the counted floors and less than the needs."""
    NOT_FLOORS = 3
    """Less than the counted floors."""


@st.composite
def markets(draw: st.DrawFn, *, max_rows: int = 12, fit: Fit = Fit.ANY) -> PlainMarket:
    """Draws a market of one kind."""
    kind = draw(st.sampled_from(KINDS))
    rows = draw(st.integers(1, max_rows))
    needs = draw(st.lists(MILLICORES, min_size=rows, max_size=rows))
    floors = draw(st.lists(MILLICORES, min_size=rows, max_size=rows))
    weight = WIDE_WEIGHT if kind == "wide weights" else ORDINARY_WEIGHT
    weights = draw(st.lists(weight, min_size=rows, max_size=rows))
    if fit is Fit.FLOORS_NOT_NEEDS:
        needs[0] = floors[0] + 2 + needs[0]
    elif fit is Fit.NOT_FLOORS:
        needs[0] += 1
        floors[0] += 1
    counted = [min(floor, need) for floor, need in zip(floors, needs, strict=True)]
    if kind == "equal ratios":
        factor = draw(st.integers(1, 5))
        pairs = zip(needs, counted, strict=True)
        weights = [factor * float(max(1, need - floor)) for need, floor in pairs]
    low, high = {
        Fit.ANY: (0, sum(needs) + 100),
        Fit.FLOORS: (sum(counted), sum(needs) + 100),
        Fit.FLOORS_NOT_NEEDS: (sum(counted) + 1, sum(needs) - 1),
        Fit.NOT_FLOORS: (0, sum(counted) - 1),
    }[fit]
    wish = {"floors fill": sum(counted), "no capacity": 0}.get(kind)
    capacity = draw(st.integers(low, high)) if wish is None else min(max(wish, low), high)
    return PlainMarket(needs, floors, weights, capacity, draw(QUANTUM))


def bids_of(batch: list[PlainMarket]) -> tuple[Bids, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Returns markets as one call's bids and capacities."""
    sizes = [len(market.needs) for market in batch]
    bids = Bids(
        market=np.repeat(np.arange(len(batch), dtype=np.int64), sizes),
        need_millicores=np.array([v for m in batch for v in m.needs], dtype=np.int64),
        floor_millicores=np.array([v for m in batch for v in m.floors], dtype=np.int64),
        weight=np.array([v for m in batch for v in m.weights], dtype=np.float64),
    )
    return bids, np.array([market.capacity for market in batch], dtype=np.int64)


@dataclass(frozen=True)
class Nodes:
    """Nodes with pods, to be cleared at both levels."""

    bids: PodBids
    capacity: np.ndarray[tuple[int], np.dtype[np.int64]]
    quantum: int


@st.composite
def nodes_of_pods(draw: st.DrawFn, *, max_nodes: int = 4, max_pods: int = 6) -> Nodes:
    """Draws nodes with 0 to `max_pods` pods each, of one to six containers."""
    pods_of_node = draw(st.lists(st.integers(0, max_pods), min_size=1, max_size=max_nodes))
    pods = sum(pods_of_node)
    rows_of_pod = draw(st.lists(st.integers(1, 6), min_size=pods, max_size=pods))
    rows = sum(rows_of_pod)

    def several(strategy: st.SearchStrategy[int], count: int) -> list[int]:
        return draw(st.lists(strategy, min_size=count, max_size=count))

    need, floor = several(MILLICORES, rows), several(MILLICORES, rows)
    weight = draw(st.lists(ORDINARY_WEIGHT, min_size=rows, max_size=rows))
    pod_weight = draw(st.lists(ORDINARY_WEIGHT, min_size=pods, max_size=pods))
    cap = several(st.one_of(st.just(10_000_000), MILLICORES), pods)
    bids = PodBids(
        pod=np.repeat(np.arange(pods, dtype=np.int64), rows_of_pod),
        need_millicores=np.array(need, dtype=np.int64),
        floor_millicores=np.array(floor, dtype=np.int64),
        weight=np.array(weight, dtype=np.float64),
        node=np.repeat(np.arange(len(pods_of_node), dtype=np.int64), pods_of_node),
        pod_cap_millicores=np.array(cap, dtype=np.int64),
        pod_weight=np.array(pod_weight, dtype=np.float64),
    )
    capacity = several(st.integers(0, 100_000), len(pods_of_node))
    return Nodes(bids, np.array(capacity, dtype=np.int64), draw(QUANTUM))
