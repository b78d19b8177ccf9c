"""The audit of orders: what was granted of what is free.

| name | what holds otherwise |
|---|---|
| `slack-wrong` | slack is what the limit leaves of all that is billed, at least 0 |
| `limit-exceeded` | where anything is granted, billed and granted stay within the limit |
| `grant-beyond-target` | no grant is negative, or more than target - billed |
| `owed-last` | nobody is granted more than it is owed while another lacks what it is owed |
| `slack-unspent` | no CPU stays free while somebody waits for it |
| `ceiling-under-reservation` | a raised reservation stays under its ceiling |

A row is **owed** max(0, min(floor, target) - billed); a ceiling is owed what its raised reservation
needs as well. A reservation may be held down by its own ceiling (no more is granted than
billed ceiling + granted ceiling - billed reservation): such a row explains that it lacks what it is
owed, and that CPU stays free. Grants do not say whether the ceiling was what held a row down, so a
row counts as explained if its grant is exactly what its ceiling allows and no ceiling is left.

Cost O(n).
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.market.findings import Finding, Findings
from mbcas_core.market.orders import Grants, OrderRows, find_billed_ceilings
from mbcas_core.units import BoolArray, IntArray

ORDER_PROPERTIES = (
    "slack-wrong",
    "limit-exceeded",
    "grant-beyond-target",
    "owed-last",
    "slack-unspent",
    "ceiling-under-reservation",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Raises:
    """One good: what n rows were billed, owed and granted, and what m nodes had free."""

    node: IntArray
    billed: IntArray
    wish: IntArray
    owed: IntArray
    grant: IntArray
    limit: IntArray
    slack: IntArray
    held_down: BoolArray
    """(n,) True where something else than this good's slack explains a small grant."""


def audit_orders(
    rows: OrderRows,
    grants: Grants,
    *,
    reservation_limit_millicores: IntArray,
    ceiling_limit_millicores: IntArray,
) -> list[Finding]:
    """Returns every property that grants violate; the arguments are those of `clear_orders`."""
    node = rows.node[rows.pod]
    billed, granted = rows.reservation_billed_millicores, grants.reservation_millicores
    ceiling_billed = find_billed_ceilings(rows)
    ceiling_granted = grants.ceiling_millicores
    target = rows.reservation_target_millicores
    wish = np.maximum(target - billed, 0)
    allowed = np.maximum(ceiling_billed + ceiling_granted - billed, 0)
    spent = np.zeros(ceiling_limit_millicores.size, np.int64)
    np.add.at(spent, node, ceiling_granted)
    sold_out = spent >= grants.ceiling_slack_millicores
    held_down: BoolArray = (granted < wish) & (granted == allowed) & sold_out[node]
    reservations = _Raises(
        node=node,
        billed=billed,
        wish=wish,
        owed=np.clip(rows.reservation_floor_millicores - billed, 0, wish),
        grant=granted,
        limit=reservation_limit_millicores,
        slack=grants.reservation_slack_millicores,
        held_down=held_down,
    )
    found = _audit_raises(reservations, "reservation")

    follows = rows.hard_quota | ~rows.has_limit
    ceiling_target = np.where(follows, 0, rows.ceiling_target_millicores)
    # Of a row that is held down, the ceiling may have been owed more than what came of it.
    needed = np.where(held_down, target, billed + granted)
    needed = np.where((granted > 0) | held_down, needed, 0)
    least = np.where(granted > 0, billed + granted, 0)
    promised = np.minimum(rows.ceiling_floor_millicores, ceiling_target)
    ceilings = _Raises(
        node=node,
        billed=ceiling_billed,
        wish=np.maximum(np.maximum(ceiling_target, needed) - ceiling_billed, 0),
        owed=np.maximum(np.maximum(promised, needed) - ceiling_billed, 0),
        grant=ceiling_granted,
        limit=ceiling_limit_millicores,
        slack=grants.ceiling_slack_millicores,
        held_down=held_down,
    )
    found += _audit_raises(ceilings, "ceiling")
    findings = Findings(market_of_row=node, bidders="containers")
    under = least > ceiling_billed + ceiling_granted
    ceiling = ceiling_billed + ceiling_granted
    findings.rows("ceiling-under-reservation", under, reservation=least, ceiling=ceiling)
    return found + findings.found


def _audit_raises(raises: _Raises, good: str) -> list[Finding]:
    findings = Findings(market_of_row=raises.node, good=good, bidders="containers")
    node, grant = raises.node, raises.grant
    billed_sum, spent = _sum(raises, raises.billed), _sum(raises, grant)
    left: IntArray = np.maximum(raises.limit - billed_sum, 0)
    findings.markets("slack-wrong", raises.slack != left, slack=raises.slack, by_hand=left)
    above = (spent > 0) & (billed_sum + spent > raises.limit)
    findings.markets("limit-exceeded", above, billed=billed_sum, granted=spent, limit=raises.limit)
    beyond = (grant < 0) | (grant > raises.wish)
    findings.rows("grant-beyond-target", beyond, granted=grant, wished=raises.wish)

    lacking = (grant < raises.owed) & ~raises.held_down
    surplus = grant > raises.owed
    robbed = (_sum(raises, surplus.astype(np.int64)) > 0)[node]
    findings.rows("owed-last", lacking & robbed, granted=grant, owed=raises.owed)

    waiting = (grant < raises.wish) & ~raises.held_down
    explained = (_sum(raises, raises.held_down.astype(np.int64)) > 0)[node]
    unspent = ((spent < left)[node]) & waiting & ~explained
    slack = (left - spent)[node]
    findings.rows("slack-unspent", unspent, granted=grant, wished=raises.wish, free=slack)
    return findings.found


def _sum(raises: _Raises, values: IntArray) -> IntArray:
    """Adds up the rows of each node."""
    total: IntArray = np.zeros(raises.limit.size, np.int64)
    np.add.at(total, raises.node, values)
    return total
