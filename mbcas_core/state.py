"""Everything the core knows, in one place: the tables, the budget and the counts."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mbcas_core import ledger
from mbcas_core.agents.needs import AgentTable
from mbcas_core.effects import Reason
from mbcas_core.events import Outcome, Policy
from mbcas_core.fleet import Fleet, Names
from mbcas_core.ledger import LedgerTable
from mbcas_core.market.clearing import Bids, Clearing
from mbcas_core.market.credits import CreditTable
from mbcas_core.market.participation import RefusalTable
from mbcas_core.parameters import Parameters
from mbcas_core.signals.counters import CounterTable
from mbcas_core.signals.windows import WindowTable
from mbcas_core.stability import emergency
from mbcas_core.stability.resize_budget import ResizeBudget
from mbcas_core.table import Table, column
from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_core.workload.bursts import BurstTable

_HARD_QUOTA = int(Policy.HARD_QUOTA)  # Compared with an array, an enum's member costs more.
RESERVATION, CEILING = 0, 1
"""Entries of the columns that are about both goods. CEILING is headroom above the reservation."""


class DecisionTable(Table):
    """Each row's last decision: what the explanation recomputes its numbers from."""

    time: FloatArray = column(np.float64, fill=np.nan)
    reason: NDArray[np.int8] = column(np.int8, fill=int(Reason.OBSERVING))
    emergency_need: FloatArray = column(np.float64)
    ceiling_need: IntArray = column()
    reservation_need: IntArray = column()
    target_request: IntArray = column()
    target_limit: IntArray = column()
    rationed: BoolArray = column(np.bool_, fill=False)
    sample_age: FloatArray = column(np.float64)
    response_shortage: FloatArray = column(np.float64)
    """What the needs answered to, 0 where they do not."""
    demand_factor: FloatArray = column(np.float64, fill=1.0)
    class_weight: FloatArray = column(np.float64, fill=1.0)
    reclaim_factor: FloatArray = column(np.float64, fill=1.0)
    bounds: BoolArray = column(np.bool_, fill=True)
    """A limit, if there is one, is a ceiling of its node."""
    takes_part: BoolArray = column(np.bool_, fill=False, width=(2,))
    need: IntArray = column(width=(2,))
    floor: IntArray = column(width=(2,))
    weight: FloatArray = column(np.float64, width=(2,))
    target: IntArray = column(width=(2,))
    pod_need: IntArray = column(width=(2,))
    pod_floor: IntArray = column(width=(2,))
    pod_cap: IntArray = column(width=(2,))
    pod_weight: FloatArray = column(np.float64, width=(2,))
    pod_allocation: IntArray = column(width=(2,))
    pod_credit: IntArray = column(width=(2,))
    pod_level: FloatArray = column(np.float64, fill=np.inf, width=(2,))
    supply: IntArray = column(width=(2,))
    level: FloatArray = column(np.float64, fill=np.inf, width=(2,))
    floors_reduced: BoolArray = column(np.bool_, fill=False, width=(2,))
    billed: IntArray = column(width=(2,))
    slack: IntArray = column(width=(2,))
    granted: IntArray = column(width=(2,))


class MarketTable(Table):
    """Each node's last clearing, both goods."""

    supply: IntArray = column(width=(2,))
    demand: IntArray = column(width=(2,))
    floor: IntArray = column(width=(2,))
    target: IntArray = column(width=(2,))
    shadow_price: FloatArray = column(np.float64, width=(2,))
    shadow_price_normalized: FloatArray = column(np.float64, width=(2,))
    shortage: FloatArray = column(np.float64, width=(2,))
    floors_reduced: BoolArray = column(np.bool_, fill=False, width=(2,))
    available: IntArray = column()
    reserve: IntArray = column()
    request_limit: IntArray = column()
    """What billed reservations may add up to after a raise, and the same for ceilings."""
    limit_limit: IntArray = column()
    ceilings_exhausted: BoolArray = column(np.bool_, fill=False)


@dataclass(frozen=True, slots=True)
class SentOrder:
    """The row an order is about, who that was, and why it was given."""

    row: int
    names: Names
    reason: Reason
    patches: bool
    """It changes a spec, not just burst credit."""


@dataclass(slots=True)
class Recalled:
    """What is remembered of containers: entry `index[pod uid, container]` of every column."""

    index: dict[tuple[str, str], int] = field(default_factory=dict)
    columns: dict[str, NDArray[np.generic]] = field(default_factory=dict)


class PodShare(Protocol):
    """A rule that shares reservations, for comparisons; see `market.clearing.Share`."""

    def __call__(
        self,
        bids: Bids,
        capacity_millicores: IntArray,
        *,
        quantum_millicores: int,
        pods: IntArray,
    ) -> Clearing:
        """Clears m nodes; `pods` (p,) is the same number for the same pod in every round."""
        ...


class State:
    """What `rounds.handle` reads and changes."""

    def __init__(
        self,
        parameters: Parameters,
        *,
        share: PodShare | None = None,
        cluster_of: Callable[[str], int] | None = None,
    ) -> None:
        self.parameters = parameters
        self.cluster_of = cluster_of
        """The cluster of a node's name, where there are several."""
        self.share = share
        """None: `market.clearing.clear`."""
        self.counters = CounterTable()
        self.windows = WindowTable()
        self.bursts = BurstTable()
        self.agent = AgentTable()
        self.ledger = LedgerTable()
        self.emergency = emergency.EmergencyTable()
        self.decisions = DecisionTable()
        self.refusals = RefusalTable()
        self.purses = CreditTable()
        self.market = MarketTable()
        self.fleet = Fleet(
            row_tables=(
                self.counters,
                self.windows,
                self.bursts,
                self.agent,
                self.ledger,
                self.emergency,
                self.decisions,
            ),
            pod_tables=(self.refusals, self.purses),
            node_tables=(self.market,),
            max_nodes=parameters.max_nodes,
            max_rows=parameters.max_containers,
        )
        self.budgets: dict[int, ResizeBudget] = {}
        """Of each cluster, which has an API server of its own; without `cluster_of` one."""
        self.counts: Counter[str] = Counter()
        self.tick_count = 0
        self.frozen = False
        self.last_order_id = 0
        self.orders: dict[int, SentOrder] = {}
        """The orders in flight, by id."""
        self.resizes: Counter[tuple[Outcome, Reason]] = Counter()
        """How orders ended, and why they were given."""
        self.tick_time = 0.0
        self.recalled: Recalled = Recalled()
        """What an earlier server had learned of containers that have not appeared yet."""

    def join_cluster(self, node: int) -> None:
        """Finds out whose resize budget a new node draws from."""
        cluster = 0 if self.cluster_of is None else self.cluster_of(self.fleet.node_names[node])
        self.fleet.nodes.cluster[node] = cluster
        self.budgets.setdefault(cluster, ResizeBudget())

    def hard_quota(self, rows: IntArray) -> BoolArray:
        """True where a row has one number."""
        hard: BoolArray = self.fleet.rows.policy[rows] == _HARD_QUOTA
        return hard

    def two_numbers(self, rows: IntArray) -> BoolArray:
        """True where a hard quota on Kubernetes has not yet made request and limit one."""
        table, facts = self.ledger, self.fleet.rows
        hard = self.hard_quota(rows) & facts.kube[rows]
        if not hard.any():
            return hard
        apart = table.desired_request[rows] != table.desired_limit[rows]
        two: BoolArray = hard & apart & facts.has_limit[rows]
        return two

    def judge_limits(self, rows: IntArray, *, auto: BoolArray) -> None:
        """Notes which limits are ceilings of their node, for its market and until the next one.

        One at or above all the CPU that its node has bounds nothing, so its row counts as one
        without a limit, unless the market sets it. It was admitted so high; what MBCAS has raised
        that far stays a ceiling.
        """
        facts = self.fleet.rows
        allocatable = self.fleet.nodes.allocatable[facts.node[rows]]
        high = (allocatable > 0) & (facts.admitted_limit[rows] >= allocatable)
        self.decisions.bounds[rows] = ~high | (auto & self.sets_admitted_limit(rows))

    def sets_admitted_limit(self, rows: IntArray) -> BoolArray:
        """True where the market of a row that takes part cuts even limits that were admitted."""
        facts = self.fleet.rows
        strict: BoolArray = facts.strict[rows] & (facts.policy[rows] != Policy.REQUESTS_ONLY)
        return self.fleet.rows.has_limit[rows] & (strict | self.hard_quota(rows))

    def bounds(self, rows: IntArray) -> BoolArray:
        """True where there is a limit, and it is one of its node's ceilings."""
        bounds: BoolArray = self.fleet.rows.has_limit[rows] & self.decisions.bounds[rows]
        return bounds

    def pod_weight(self, pods: IntArray) -> FloatArray:
        """Weights of pods in their markets: declared at admission, times those of their classes."""
        weight: FloatArray = self.fleet.pods.weight[pods] * self.fleet.pods.class_weight[pods]
        return weight

    def billed(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """What counts as taken of a node's reservations and of its ceilings, in millicores.

        A hard quota is one number, of which the limit is what the kernel tells; on Kubernetes the
        larger of the two counts, for a scheduler goes by the request that a status shows. A row
        without a limit that bounds it counts among the ceilings with its reservation.
        """
        request = ledger.billed_request(self.ledger, rows)
        limit = np.where(self.bounds(rows), ledger.billed_limit(self.ledger, rows), request)
        hard = self.hard_quota(rows)
        if not hard.any():
            return request, limit
        one = hard & ~self.two_numbers(rows)
        limit = np.where(one & self.fleet.rows.kube[rows], np.maximum(request, limit), limit)
        return np.where(one, limit, request), limit

    def fresh(self, rows: IntArray, *, now_seconds: float) -> BoolArray:
        """True where enough was measured, lately enough, to decide on."""
        age = now_seconds - self.counters.sample_time[rows]
        enough = self.windows.seconds[rows] >= self.parameters.min_observed_seconds
        fresh: BoolArray = enough & (age <= self.parameters.stale_after_seconds)
        return fresh

    def emergency_need(self, rows: IntArray, *, now_seconds: float) -> FloatArray:
        """What lifts add to the rows' needs now, in millicores."""
        return emergency.held(
            self.emergency,
            rows,
            decay_seconds=self.parameters.emergency_decay_seconds,
            now_seconds=now_seconds,
        )
