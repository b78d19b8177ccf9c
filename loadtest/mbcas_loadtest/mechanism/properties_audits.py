"""The audits of the core, on random markets: each outcome alone, and orders.

The other properties compare clearings with each other; an audit knows one outcome and the
conditions that mark it out. Orders have no other check in bulk: their books are drawn here, with
rows that hold too much or too little on nodes where raises fit or not.
"""

import numpy as np

from mbcas_core.market.audit import audit_clearing
from mbcas_core.market.audit_orders import audit_orders
from mbcas_core.market.clearing import sum_by
from mbcas_core.market.findings import Finding
from mbcas_core.market.orders import OrderRows, clear_orders, find_billed_ceilings
from mbcas_core.market.price import find_prices
from mbcas_core.units import IntArray
from mbcas_loadtest.mechanism.markets import Markets
from mbcas_loadtest.mechanism.verdicts import Mechanism, Misses, Verdict, exactly

HARD_QUOTA_RATIO = 0.15
NO_LIMIT_RATIO = 0.15


def audited(markets: Markets, generator: np.random.Generator, mechanism: Mechanism) -> Verdict:
    """The audit of a clearing and of its prices finds nothing.

    The conditions and why they decide the outcome are told in `mbcas_core.market.audit`.
    Integers: as the audit allows.
    """
    del generator
    cleared = mechanism.run_pods(markets)
    found = audit_clearing(
        markets.pods,
        markets.capacity_millicores,
        cleared.clearing,
        quantum_millicores=markets.quantum_millicores,
        prices=find_prices(cleared.clearing, markets.capacity_millicores),
    )
    return _judge(markets, found)


def orders(markets: Markets, generator: np.random.Generator, mechanism: Mechanism) -> Verdict:
    """No order raises what is billed above the supply, and what is owed comes first.

    Nothing stays free while somebody waits for it; no raised reservation is above its ceiling.
    Proof: raises share max(0, limit - sum billed) by the clearing, with what is owed as floors, so
    individual rationality and Pareto say all of it. Integers: exact.
    """
    del mechanism
    rows = _draw_order_rows(markets, generator)
    node, nodes = rows.node[rows.pod], markets.count
    reservation_limit, ceiling_limit = (
        (sum_by(node, billed, nodes) * generator.uniform(0.8, 1.6, nodes)).astype(np.int64)
        for billed in (rows.reservation_billed_millicores, find_billed_ceilings(rows))
    )
    grants = clear_orders(
        rows,
        reservation_limit_millicores=reservation_limit,
        ceiling_limit_millicores=ceiling_limit,
        quantum_millicores=markets.quantum_millicores,
    )
    found = audit_orders(
        rows,
        grants,
        reservation_limit_millicores=reservation_limit,
        ceiling_limit_millicores=ceiling_limit,
    )
    return _judge(markets, found)


def _judge(markets: Markets, found: list[Finding]) -> Verdict:
    misses = Misses(markets)
    market: IntArray = np.array([finding.market for finding in found], dtype=np.int64)
    misses.add_quanta(market, exactly(np.ones(len(found))))
    return misses.judge(quanta_allowed=0)


def _draw_order_rows(markets: Markets, generator: np.random.Generator) -> OrderRows:
    """Draws what the containers of these markets were sent and what they should have."""
    bids = markets.bids
    target = bids.need_millicores
    rows = target.size

    def some_of(values: IntArray, most: float) -> IntArray:
        part: IntArray = (values * generator.uniform(0.0, most, rows)).astype(np.int64)
        return part

    billed = some_of(target + 10, 1.4)
    return OrderRows(
        pod=bids.pod,
        weight=bids.weight,
        has_limit=generator.random(rows) >= NO_LIMIT_RATIO,
        hard_quota=generator.random(rows) < HARD_QUOTA_RATIO,
        reservation_floor_millicores=bids.floor_millicores,
        ceiling_floor_millicores=bids.floor_millicores + some_of(target, 2.0),
        reservation_target_millicores=target,
        ceiling_target_millicores=target + some_of(target, 2.0),
        reservation_billed_millicores=billed,
        ceiling_billed_millicores=billed + some_of(target, 2.0),
        node=bids.node,
        pod_weight=bids.pod_weight,
    )
