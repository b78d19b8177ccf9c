"""Simulated nodes around the core: kernels and shims of many games, in virtual time.

Every node has four cores and the same number of slots, a slot being a pod of one container. A
second goes: orders of a second ago are carried out, ten periods of 100 ms run under the kernel's
recursion (`plant`, contention shared by request), shims report, the core ticks.

Work that has waited for a second is given up: its caller is gone. Of what a pod gets in a period
its own demand is served first; burning takes what is left and leaves no backlog.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mbcas_core.effects import Effect, Notice, SendOrders, Violation
from mbcas_core.events import (
    ContainerFacts,
    CpuResources,
    Enforcement,
    NodeAttached,
    NodeFacts,
    OrderResult,
    Outcome,
    Report,
    ReportArrived,
    TickDue,
)
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds
from mbcas_core.units import (
    MIN_CEILING_MILLICORES,
    SLICES_PER_SECOND,
    BoolArray,
    FloatArray,
    IntArray,
)
from mbcas_loadtest.games.draws import ALLOCATABLE_MILLICORES
from mbcas_loadtest.plant.recursion import PlantInput, idle_state, step
from mbcas_loadtest.simulation.telemetry import USEC_PER_MILLICORE, Arrival, Counters, read_second

CPUS = ALLOCATABLE_MILLICORES // 1000
START_SECONDS = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """What became of a second, (g, s) each: g nodes of s slots."""

    useful_millicores: FloatArray
    """Demand that was served within a second of its arrival."""
    used_millicores: FloatArray
    """The same and what was burned."""
    throttled_ratio: FloatArray
    """Share of the second's periods."""


class Nodes:
    """The nodes, and the core that decides about them."""

    def __init__(
        self, parameters: Parameters, facts: Sequence[Sequence[ContainerFacts]], *, seed: int
    ) -> None:
        """Starts a node per game.

        Args:
            parameters: Of the core.
            facts: The containers of each game, one per slot; entry s has the handle s + 1.
            seed: Part of the nodes' names, which set the phases of their rounds.
        """
        # What is simulated is audited in every round.
        self.rounds = Rounds(replace(parameters, audit_share=1.0))
        self.names = [f"game-{seed}-{game}" for game in range(len(facts))]
        self._games = {name: game for game, name in enumerate(self.names)}
        shape = (len(facts), len(facts[0]))
        self.request_millicores: IntArray = np.array(
            [[one.spec.request_millicores for one in game] for game in facts], np.int64
        )
        self.limit_millicores: IntArray = np.array(
            [[one.spec.limit_millicores for one in game] for game in facts], np.int64
        )
        self.seconds = 0
        self.violations: Counter[str] = Counter()
        self._plant = idle_state(shape)
        self._waiting = np.zeros((SLICES_PER_SECOND, *shape))
        """Own work not served yet, by the slice of the second in which it arrived."""
        self._written: BoolArray = np.zeros(shape, np.bool_)
        self._orders: list[SendOrders] = []
        self._fresh_orders: list[SendOrders] = []
        self._handles = np.arange(1, shape[1] + 1, dtype=np.int32)
        self._attach(facts)

    @property
    def now_seconds(self) -> float:
        return START_SECONDS + self.seconds

    def second(self, work: FloatArray, burn_millicores: FloatArray) -> Served:
        """Lives through a second.

        Args:
            work: Own demand of each slice, (10, g, s), in millicores.
            burn_millicores: What is burned beyond it where there is CPU, (g, s).
        """
        results = self._carry_out()
        before = self._plant
        slices = np.empty((SLICES_PER_SECOND, *self.limit_millicores.shape))
        useful = np.zeros(self.limit_millicores.shape)
        for index in range(SLICES_PER_SECOND):
            useful += self._period(index, work[index], burn_millicores, slices[index])
        self.seconds += 1
        throttled = self._plant.nr_throttled - before.nr_throttled
        self._report(slices, throttled, results)
        self._take(self.rounds.handle(TickDue(time_seconds=self.now_seconds + 0.2)))
        return Served(
            useful_millicores=useful / SLICES_PER_SECOND,
            used_millicores=slices.mean(axis=0),
            throttled_ratio=throttled / SLICES_PER_SECOND,
        )

    def _period(
        self, index: int, work: FloatArray, burn_millicores: FloatArray, used: FloatArray
    ) -> FloatArray:
        """Runs 100 ms; writes what each slot used and returns what was useful, in millicores."""
        self._waiting[index] = work  # What waited there is a second old and given up.
        own = self._waiting.sum(axis=0)
        ran = self._plant.usage_usec
        self._plant = step(
            replace(self._plant, backlog_usec=(own + burn_millicores) * USEC_PER_MILLICORE),
            PlantInput(
                arrivals_usec=np.zeros_like(own),
                quota_usec=np.maximum(self.limit_millicores, MIN_CEILING_MILLICORES)
                * USEC_PER_MILLICORE,
                burst_usec=np.zeros_like(own),
                quota_written=self._written,
                threads=np.full_like(own, CPUS),
                weight=np.maximum(self.request_millicores, 1).astype(np.float64),
            ),
            cpus=CPUS,
        )
        self._written = np.zeros_like(self._written)
        used[:] = (self._plant.usage_usec - ran) / USEC_PER_MILLICORE
        useful: FloatArray = np.minimum(used, own)
        self._serve(index, useful)
        return useful

    def _serve(self, index: int, millicores: FloatArray) -> None:
        """Takes what was served off the oldest work first."""
        order = (index + 1 + np.arange(SLICES_PER_SECOND)) % SLICES_PER_SECOND
        oldest_first = self._waiting[order]
        before = np.cumsum(oldest_first, axis=0) - oldest_first
        taken = np.clip(millicores - before, 0.0, oldest_first)
        self._waiting[order] = oldest_first - taken

    def _attach(self, facts: Sequence[Sequence[ContainerFacts]]) -> None:
        for name, containers in zip(self.names, facts, strict=True):
            self._take(self.rounds.handle(NodeAttached(node=name, time_seconds=self.now_seconds)))
            report = Report(
                full_inventory=True,
                node_facts=NodeFacts(
                    allocatable_millicores=ALLOCATABLE_MILLICORES,
                    cpu_count=CPUS,
                    enforcement=Enforcement.RESIZE,
                ),
                containers=tuple(containers),
            )
            event = ReportArrived(node=name, time_seconds=self.now_seconds, report=report)
            self._take(self.rounds.handle(event))

    def _take(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendOrders():
                    self._fresh_orders.append(effect)
                case Violation():
                    self.violations[effect.rule] += 1
                case Notice():
                    pass
                case _:
                    raise AssertionError(f"nothing goes wrong on these nodes: {effect}")

    def _carry_out(self) -> dict[int, list[OrderResult]]:
        """Applies the orders of the second before the last; returns what the shims answer."""
        results: dict[int, list[OrderResult]] = {}
        for send in self._orders:
            game = self._games[send.node]
            for order in send.orders:
                slot = int(order.container)
                desired = order.desired
                if desired.request_millicores is not None:
                    self.request_millicores[game, slot] = desired.request_millicores
                if desired.limit_millicores is not None:
                    self.limit_millicores[game, slot] = desired.limit_millicores
                    self._written[game, slot] = True
                actual = CpuResources(
                    request_millicores=int(self.request_millicores[game, slot]),
                    limit_millicores=int(self.limit_millicores[game, slot]),
                )
                results.setdefault(game, []).append(
                    OrderResult(order_id=order.order_id, outcome=Outcome.APPLIED, actual=actual)
                )
        self._orders, self._fresh_orders = self._fresh_orders, []
        return results

    def _report(
        self, slices: FloatArray, throttled: FloatArray, results: dict[int, list[OrderResult]]
    ) -> None:
        plant = self._plant
        counters = Counters(
            usage_usec=plant.usage_usec,
            nr_periods=plant.nr_periods,
            nr_throttled=plant.nr_throttled,
            throttled_usec=plant.throttled_usec,
            nr_bursts=plant.nr_bursts,
        )
        reading = read_second(
            counters.lay_out(self.limit_millicores, np.zeros(self.limit_millicores.shape)),
            slices,
            throttled,
            handles=self._handles,
            node_time_seconds=self.now_seconds,
        )
        arrived = self.now_seconds + 0.1
        self._take(
            self.rounds.handle(
                Arrival(nodes=np.arange(len(self.names)), reading=reading).as_event(
                    tuple(self.names), arrived
                )
            )
        )
        for game, own in results.items():
            event = ReportArrived(
                node=self.names[game], time_seconds=arrived, report=Report(results=tuple(own))
            )
            self._take(self.rounds.handle(event))
