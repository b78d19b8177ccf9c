"""The core in the simulation: told and obeyed as in a cluster, in virtual time.

After each second the shims report, a tenth of a second later the core ticks, and its orders go the
way of every PATCH (`kubelet`). Its resize budget is the sample's share of the cluster's, which the
core keeps; rounds are audited, and a violation is counted in the outcome.

A shim that loses its server gives everything back after five minutes. A server that restarts knows
what was learned up to its last checkpoint, and is told all over again who is there.
"""

from collections import Counter
from dataclasses import replace
from typing import assert_never

import numpy as np

from mbcas_core import learned
from mbcas_core.effects import Effect, Notice, PodNotice, RequestInventory, SendOrders, Violation
from mbcas_core.events import NodeAttached, NodeDetached, ReportArrived
from mbcas_core.units import BoolArray, FloatArray
from mbcas_loadtest.simulation.actuation import COUNTED, is_within
from mbcas_loadtest.simulation.kubelet import Enforced, Kubelets
from mbcas_loadtest.simulation.latency import Draws
from mbcas_loadtest.simulation.server import START_SECONDS, TICK_SECONDS, Server
from mbcas_loadtest.simulation.shims import Shims
from mbcas_loadtest.simulation.system import Seen, Settings
from mbcas_loadtest.simulation.telemetry import Arrival, Line, Telemetry
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, World

RESTART_SECONDS = 5.0
"""A server that restarts decides nothing for so long."""
CHECKPOINT_SECONDS = 60
"""What was learned is kept so often: agent.md, Persistence."""
FAILSAFE_SECONDS = 300.0
"""The shims give everything back after so long without the server, as by default."""


class CoreShell:
    """The core, the shims of m nodes, and what is between them; a channel too."""

    interval_periods = PERIODS_PER_SECOND

    def __init__(
        self,
        world: World,
        server: Server,
        kubelets: Kubelets,
        *,
        draws: Draws,
        line: Line,
    ) -> None:
        """Attaches every node.

        Args:
            world: What is lived through.
            server: The core.
            kubelets: Carry its orders out.
            draws: What becomes of reports.
            line: How likely that is.
        """
        self.server = server
        self.in_force: Enforced = kubelets.in_force
        self._world, self._kubelets, self._draws = world, kubelets, draws
        self._shims = Shims(world, kubelets, burst_credit=server.burst_credit)
        server.join(self, self._shims.nodes, self._shims.namespace)
        self._node_of = {name: node for node, name in enumerate(self._shims.nodes)}
        self._telemetry = Telemetry(world.shape, line)
        self._counts: Counter[str] = Counter()
        self._orders: list[SendOrders] = []
        self._inventories: set[int] = set()
        """Nodes of which the core asks for one."""
        self._credit: BoolArray = np.zeros(world.shape, np.bool_)
        """Where burst credit alone is to be written."""
        self._exists: BoolArray = world.exists[0]
        self._checkpoint: learned.Arrays | None = None
        self._restarts = sorted(world.faults.server_restart_seconds)
        self._lost_since: float | None = None
        self._connect(0.0)

    @property
    def channel(self) -> "CoreShell":
        return self

    def count(self) -> dict[str, int]:
        return dict(self.server.count(self) + self._counts)

    def counted(self) -> dict[str, FloatArray]:
        """What waits for the budget is not told for each container; the core counts it."""
        kubelets = self._kubelets
        nothing: FloatArray = np.zeros(kubelets.patches.shape)
        of_pods = (kubelets.patches, nothing, self._shims.refused, kubelets.deferred)
        return {name: kubelets.at_first(each) for name, each in zip(COUNTED, of_pods, strict=True)}

    def want(self, settings: Settings, *, throttled: BoolArray) -> None:
        """Is not how the core's orders come."""
        raise AssertionError("the core gives orders")

    def advance(self, period: int) -> BoolArray | None:
        written: BoolArray | None = None
        if self._orders:
            self._carry_out(period)
        if self._credit.any():
            written = self._shims.write_credit(self._credit)
            self._credit[:] = False
        if period >= self._kubelets.next_due:
            landed = self._shims.land(period)
            written = landed if written is None else written | landed
        return written

    def next_period(self, period: int) -> int:
        if self._orders or self._credit.any():
            return period
        return max(self._kubelets.next_due, period)

    def change_pods(self, *, came: BoolArray, gone: BoolArray, period: int) -> None:
        """Containers (n,) appear anew, and others are gone."""
        self._exists = (self._exists | came) & ~gone
        if gone.any():
            self._shims.vanish(gone)
        if came.any():
            self._shims.reappear(came, period / PERIODS_PER_SECOND)
            self._telemetry.forget(came)

    def step(self, seen: Seen) -> None:
        """Lets the shims report; the core decides when every world has."""
        seconds = seen.period / PERIODS_PER_SECOND
        arrivals = self._telemetry.sample(
            seen,
            node_time_seconds=START_SECONDS + seconds,
            draw=self._draws.of_reports[:, seen.period // PERIODS_PER_SECOND - 1],
        )
        if self._is_away(seconds):
            self._telemetry.lose()
        elif self._is_connected(seconds, seen.period):
            self._report(arrivals, seconds)
        else:
            self._telemetry.lose()

    def end_second(self, seconds: float) -> None:
        """Keeps what was learned, where the server will restart."""
        if self._restarts and not self.server.is_down and round(seconds) % CHECKPOINT_SECONDS == 0:
            self._checkpoint = learned.export(self.server.rounds)

    def leave(self, seconds: float) -> None:
        """Nobody reports any more."""
        for name in self._shims.nodes:
            self.server.handle(NodeDetached(node=name, time_seconds=START_SECONDS + seconds))

    def _connect(self, seconds: float) -> None:
        self._shims.drop_news()
        for name in self._shims.nodes:
            self.server.handle(NodeAttached(node=name, time_seconds=START_SECONDS + seconds))
        self._inventories = set(range(len(self._shims.nodes)))
        self._report([], seconds)

    def _is_away(self, seconds: float) -> bool:
        """True while the server restarts."""
        if self._restarts and seconds >= self._restarts[0] + RESTART_SECONDS:
            self._restarts.pop(0)
            self._counts["restarts"] += 1
            self.server.restart(self._checkpoint)
            self._connect(seconds)
        is_down = bool(self._restarts) and seconds >= self._restarts[0]
        if self._world.faults.server_restart_seconds:
            self.server.is_down = is_down
        if is_down:
            self._orders.clear()
        return is_down

    def _is_connected(self, seconds: float, period: int) -> bool:
        """Loses and finds the server, and gives everything back in between."""
        if is_within(self._world.faults.shim_lost_seconds, seconds):
            if self._lost_since is None:
                self._lost_since = seconds
                self.leave(seconds)
            if seconds == self._lost_since + FAILSAFE_SECONDS:
                self._shims.restore(period)
            return False
        if self._lost_since is not None:
            self._lost_since = None
            self._connect(seconds)
        return True

    def _report(self, arrivals: list[Arrival], seconds: float) -> None:
        """Tells the core what is new about pods and orders, and what was measured."""
        news = self._shims.news(exists=self._exists, seconds=seconds)
        for node in self._inventories:
            news[node] = replace(
                self._shims.inventory(node, exists=self._exists, seconds=seconds),
                results=news[node].results if node in news else (),
            )
        self._inventories = set()
        now = START_SECONDS + seconds + TICK_SECONDS / 2
        for node in sorted(news):
            name = self._shims.nodes[node]
            self.server.handle(ReportArrived(node=name, time_seconds=now, report=news[node]))
        for arrival in arrivals:
            self.server.sample(arrival.as_event(self._shims.nodes, now))

    def take(self, effect: Effect) -> None:
        """Takes what the core wants done."""
        match effect:
            case SendOrders():
                self._orders.append(effect)
            case RequestInventory():
                self._inventories.add(self._node_of[effect.node])
            case Violation():
                self._counts[f"violation-{effect.rule}"] += 1
            case Notice() | PodNotice():
                self._counts[f"notice-{effect.event}"] += 1
            case _:
                assert_never(effect)

    def _carry_out(self, period: int) -> None:
        """The shims take the orders that have come; the PATCHes leave a tenth of a second later."""
        is_up = not is_within(self._world.faults.api_down_seconds, period / PERIODS_PER_SECOND)
        orders = [
            (self._node_of[send.node], order) for send in self._orders for order in send.orders
        ]
        self._credit |= self._shims.take(orders, period=period + 1, api_is_up=is_up)
        self._orders.clear()
