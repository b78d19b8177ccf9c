"""Random histories of targets and orders: holds, delays, losses, foreign changes, shrinking nodes.

A `History` drives `clear_targets`, `clear_orders` and the ledger the way the loops do, and knows
what is really set. Between two rounds orders are carried out, late, partly or not at all; results
come or do not; somebody else changes containers; nodes shrink and grow. In a round, rows are held
back at random, as bands and dwell would.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from mbcas_core import ledger
from mbcas_core.events import CpuResources, OrderResult, Outcome, Policy
from mbcas_core.ledger import LedgerTable
from mbcas_core.market.orders import Grants, OrderRows, clear_orders
from mbcas_core.market.targets import Targets
from mbcas_core.units import BoolArray, IntArray
from tests.mbcas_core.market.worlds import World

TIMEOUT_ROUNDS = 4
"""An order is given up after this, when it has long been carried out or lost."""
FATES = (Outcome.APPLIED, Outcome.APPLIED, Outcome.REFUSED, Outcome.FAILED, None)
"""How an order ends; None: nobody ever hears."""


@dataclass
class Flight:
    """An order on its way."""

    order_id: int
    request: int
    limit: int
    due: int
    happens: bool
    outcome: Outcome | None


@dataclass(frozen=True)
class Round:
    """What was decided in a round, and what stood before it."""

    targets: Targets
    asked: OrderRows
    grants: Grants
    in_flight: BoolArray
    sent: IntArray
    """Rows that got an order."""


@dataclass
class History:
    """The nodes of a drawn world over time."""

    world: World
    random: np.random.Generator
    table: LedgerTable = field(default_factory=LedgerTable)
    now: int = 0
    last_id: int = 0

    def __post_init__(self) -> None:
        rows = self.world.rows
        self.all_rows: IntArray = np.arange(rows.pod.size)
        self.flights: list[Flight | None] = [None] * rows.pod.size
        self.hard: BoolArray = rows.policy == Policy.HARD_QUOTA
        self.table.grow(max(rows.pod.size, 1))
        limit = np.where(rows.has_limit, rows.admitted_limit_millicores, 0)
        request = rows.admitted_request_millicores
        self.request: IntArray = np.where(self.hard & rows.has_limit, limit, request)
        self.limit: IntArray = limit
        for row in self.all_rows.tolist():
            self._tell(row)

    def step(self) -> Round:
        """Lives through what happens between two rounds, and a round."""
        self.now += 1
        self._carry_out()
        self._happen()
        return self._round()

    def billed(self) -> tuple[IntArray, IntArray]:
        """Requests and limits as the core bills them."""
        request = ledger.billed_request(self.table, self.all_rows)
        has_limit = self.world.rows.has_limit
        limit = np.where(has_limit, ledger.billed_limit(self.table, self.all_rows), request)
        return np.where(self.hard, limit, request), limit

    def truth(self) -> tuple[IntArray, IntArray]:
        """The most request and limit that are set now or will be by orders on their way."""
        request, limit = self.request.copy(), self.limit.copy()
        for row, flight in enumerate(self.flights):
            if flight is not None and flight.happens:
                request[row] = max(request[row], flight.request)
                limit[row] = max(limit[row], flight.limit)
        return request, np.where(self.world.rows.has_limit, limit, request)

    # Between two rounds.

    def _carry_out(self) -> None:
        for row, flight in enumerate(self.flights):
            if flight is not None and flight.due <= self.now:
                self._end(row, flight)
        started = self.table.order_time[self.all_rows]
        late = self.all_rows[self.now - started >= TIMEOUT_ROUNDS]
        ledger.void(self.table, late)

    def _end(self, row: int, flight: Flight) -> None:
        self.flights[row] = None
        if flight.happens:
            self.request[row], self.limit[row] = flight.request, flight.limit
        if flight.outcome is None:
            return
        result = OrderResult(
            order_id=flight.order_id, outcome=flight.outcome, actual=self._read(row)
        )
        if flight.outcome is Outcome.FAILED:
            result = replace(result, actual=None)
        ledger.settle(self.table, row, result, now_seconds=self.now, backoff_seconds=1.0)

    def _happen(self) -> None:
        rows, nodes, draw = self.world.rows, self.world.nodes, self.random
        n = rows.pod.size
        changes = draw.random(n) < 0.4
        reservation, ceiling = draw.integers(0, 3000, (2, n))
        rows = replace(
            rows,
            reservation_need_millicores=np.where(
                changes, reservation, rows.reservation_need_millicores
            ),
            ceiling_need_millicores=np.where(changes, ceiling, rows.ceiling_need_millicores),
        )
        factor = draw.choice([0.6, 1.0, 1.0, 1.0, 1.5], nodes.allocatable_millicores.size)
        size = np.minimum(nodes.allocatable_millicores * factor, 40_000).astype(np.int64)
        self.world = replace(
            self.world, rows=rows, nodes=replace(nodes, allocatable_millicores=size)
        )
        for row in np.flatnonzero(draw.random(n) < 0.03).tolist():
            self._change_elsewhere(row)
        for row in np.flatnonzero(draw.random(n) < 0.2).tolist():
            if self.flights[row] is None and not ledger.in_flight(self.table, np.array([row]))[0]:
                self._tell(row)

    def _change_elsewhere(self, row: int) -> None:
        """Somebody patches the pod, and an inventory says so; an order on its way is refused."""
        if self.flights[row] is not None or ledger.in_flight(self.table, np.array([row]))[0]:
            return
        request = int(self.random.integers(0, 2000))
        self.request[row] = request
        if self.world.rows.has_limit[row]:
            more = 0 if self.hard[row] else int(self.random.integers(0, 2000))
            self.limit[row] = request + more
        self._tell(row)

    def _read(self, row: int) -> CpuResources:
        limit = int(self.limit[row]) if self.world.rows.has_limit[row] else None
        return CpuResources(request_millicores=int(self.request[row]), limit_millicores=limit)

    def _tell(self, row: int) -> None:
        """An inventory says what is there."""
        there = self._read(row)
        ledger.adopt(
            self.table, row, spec=there, allocated=there, actual=there, now_seconds=self.now
        )

    # A round.

    def _round(self) -> Round:
        request, limit = self.billed()
        rows = replace(
            self.world.rows, fixed_reservation_millicores=request, fixed_ceiling_millicores=limit
        )
        self.world = replace(self.world, rows=rows)
        targets = self.world.clear()
        in_flight = ledger.in_flight(self.table, self.all_rows)
        held = in_flight | ~rows.takes_part | (self.random.random(rows.pod.size) < 0.3)
        asked = self._ask(targets, held)
        grants = clear_orders(
            asked,
            reservation_limit_millicores=targets.reservation_limit_millicores,
            ceiling_limit_millicores=targets.ceiling_limit_millicores,
            quantum_millicores=self.world.parameters.quantum_millicores,
        )
        new_request, new_limit = self._decide(targets, asked, grants, held)
        has_limit = rows.has_limit
        changed = (new_request != self.table.desired_request[self.all_rows]) | (
            has_limit & (new_limit != self.table.desired_limit[self.all_rows])
        )
        sent: IntArray = np.flatnonzero(changed & ~held)
        self._send(sent, new_request, new_limit)
        return Round(targets, asked, grants, in_flight, sent)

    def _ask(self, targets: Targets, held: BoolArray) -> OrderRows:
        rows, pods = self.world.rows, self.world.pods
        request, limit = self.billed()
        plain = ~(self.hard | rows.strict) & rows.has_limit
        return OrderRows(
            pod=rows.pod,
            weight=targets.reservation.weight,
            has_limit=rows.has_limit,
            hard_quota=self.hard,
            reservation_floor_millicores=targets.reservation.floor_millicores,
            ceiling_floor_millicores=np.where(plain, rows.admitted_limit_millicores, 0),
            reservation_target_millicores=np.where(held, request, targets.reservation_millicores),
            ceiling_target_millicores=np.where(held, limit, targets.ceiling_millicores),
            reservation_billed_millicores=request,
            ceiling_billed_millicores=limit,
            node=pods.node,
            pod_weight=pods.weight,
        )

    def _decide(
        self, targets: Targets, asked: OrderRows, grants: Grants, held: BoolArray
    ) -> tuple[IntArray, IntArray]:
        """Raises as far as granted, cuts as far as wished, and one number where there is one."""
        billed_request, billed_limit = self.billed()
        request, limit = (self.table.desired_request.copy(), self.table.desired_limit.copy())
        request, limit = request[self.all_rows], limit[self.all_rows]
        up = asked.reservation_target_millicores > billed_request
        request = np.where(up, billed_request + grants.reservation_millicores, request)
        down = ~held & (targets.reservation_millicores < request)
        request = np.where(down, targets.reservation_millicores, request)
        lifted = grants.ceiling_millicores > 0
        limit = np.where(lifted, billed_limit + grants.ceiling_millicores, limit)
        down = ~held & ~lifted & (targets.ceiling_millicores < limit)
        # A ceiling stays above whatever its reservation may still be.
        limit = np.where(down, np.maximum(targets.ceiling_millicores, billed_request), limit)
        limit = np.where(self.hard, request, np.maximum(limit, request))
        return request, np.where(self.world.rows.has_limit, limit, 0)

    def _send(self, sent: IntArray, request: IntArray, limit: IntArray) -> None:
        ids = self.last_id + 1 + np.arange(sent.size)
        self.last_id += sent.size
        for row, order_id in zip(sent.tolist(), ids.tolist(), strict=True):
            outcome = FATES[int(self.random.integers(len(FATES)))]
            happens = outcome is Outcome.APPLIED
            if outcome in (Outcome.FAILED, None):
                happens = bool(self.random.random() < 0.5)
            self.flights[row] = Flight(
                order_id=order_id,
                request=int(request[row]),
                limit=int(limit[row]),
                due=self.now + int(self.random.integers(1, TIMEOUT_ROUNDS)),
                happens=happens,
                outcome=outcome,
            )
        ledger.send(
            self.table,
            sent,
            order_ids=ids,
            request=request[sent],
            limit=limit[sent],
            now_seconds=self.now,
        )
