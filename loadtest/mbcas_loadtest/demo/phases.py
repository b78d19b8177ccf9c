"""One phase: start the work, watch it second by second, sum it up."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event

from mbcas_core.units import MILLICORES_PER_CORE
from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.demo.control import Control
from mbcas_loadtest.demo.market_watch import reason_text
from mbcas_loadtest.demo.observer import Observer, Track
from mbcas_loadtest.demo.record import Phase, PhaseName, Series
from mbcas_loadtest.demo.results import container_result, delay_percentile_ms, delays_seconds
from mbcas_loadtest.demo.snapshot import Snapshot, SnapshotNode, SnapshotRow, View
from mbcas_loadtest.errors import DemoError, Interrupted
from mbcas_loadtest.node.cgroups import Counters
from mbcas_loadtest.node.container import Container
from mbcas_loadtest.node.machine import Machine
from mbcas_loadtest.pages.series import ContainerSeries

KNOWN_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    """What a phase is."""

    name: PhaseName
    number: int
    count: int
    duration_seconds: float
    """The warm-up included."""
    warmup_seconds: float
    policy: str
    node_millicores: int
    notes: tuple[str, ...]


@dataclass(slots=True)
class PhaseRun:
    """A phase as it runs. `run` does it all; what it leaves is then read."""

    plan: PhasePlan
    containers: Sequence[Container]
    machine: Machine
    control: Control | None
    """MBCAS itself; None in the static phase."""
    view: View
    stop: Event
    tracks: dict[str, Track] = field(default_factory=dict)
    series: Series = field(default_factory=Series)
    _start_seconds: float = 0.0

    def run(self) -> Phase:
        """Runs the phase.

        Raises:
            DemoError: Something ended that should not have.
            Interrupted: `stop` was set.
        """
        self.series.containers.extend(ContainerSeries(name=c.name) for c in self.containers)
        observer = Observer(
            [container.name for container in self.containers],
            read=self.machine.read,
            reservation=self._reservation,
            node_millicores=self.plan.node_millicores,
        )
        with ExitStack() as cleanup:
            self._start_seconds = self.machine.start()
            if self.control is not None:
                self.control.show_containers(self.containers)
            cleanup.callback(observer.stop)
            observer.start()
            self._watch(observer)
            self.tracks = observer.stop()
            return self._summary()

    def _watch(self, observer: Observer) -> None:
        plan = self.plan
        whole = {float(second) for second in range(1, int(plan.duration_seconds) + 1)}
        for second in sorted({plan.warmup_seconds, plan.duration_seconds} | whole):
            self._await(second)
            self._check(observer)
            if second == plan.warmup_seconds:
                observer.start_counting()
                if self.control is not None:
                    self.control.start_counting()
            if second in whole:
                self._show(second, observer.take_recent())

    def _await(self, second: float) -> None:
        wait_seconds = self._start_seconds + second - monotonic_seconds()
        if self.stop.wait(max(0.0, wait_seconds)):
            raise Interrupted

    def _await_known(self, second: float) -> None:
        while self.machine.known_seconds() < second:
            self.machine.check()
            if self.stop.wait(KNOWN_POLL_SECONDS):
                raise Interrupted

    def _check(self, observer: Observer) -> None:
        if self.control is not None:
            self.control.check()
        self.machine.check()
        if observer.failure is not None:
            raise DemoError(f"the counters cannot be read: {observer.failure}")

    def _reservation(self, name: str, counters: Counters) -> float:
        """Returns a container's reservation now: from the kernel where it can tell."""
        declared = next(c.declared.millicores for c in self.containers if c.name == name)
        if self.control is None:
            return declared
        if self.plan.policy == "hard-quota" and counters.quota_millicores is not None:
            return counters.quota_millicores
        if counters.shares_millicores is not None:
            return counters.shares_millicores
        row = self.control.market.container(name)
        if row is not None and row.reservation.HasField("applied_millicores"):
            return row.reservation.applied_millicores
        return declared

    def _show(self, second: float, tracks: dict[str, Track]) -> None:
        self._append_series(second, tracks)
        plan = self.plan
        is_warm = second > plan.warmup_seconds
        rows = tuple(self._row(container, tracks[container.name]) for container in self.containers)
        self.view.update(
            Snapshot(
                environment=self.machine.environment,
                phase=plan.name,
                phase_number=plan.number,
                phase_count=plan.count,
                elapsed_seconds=second,
                duration_seconds=plan.duration_seconds,
                warmup_seconds=plan.warmup_seconds,
                now="counted" if is_warm else "warm-up: shown, not counted",
                notes=plan.notes,
                rows=rows,
                node=self._node(rows),
            )
        )

    def _append_series(self, second: float, tracks: dict[str, Track]) -> None:
        self.series.seconds.append(second)
        for series in self.series.containers:
            track = tracks[series.name]
            ceiling = track.ceiling_millicores
            series.usage_millicores.append(_usage_millicores(track))
            series.reservation_millicores.append(track.reservation_millicores)
            series.ceiling_millicores.append(
                self.plan.node_millicores if ceiling is None else ceiling
            )
            series.throttled_ratio.append(track.recent.throttled_ratio)
        price, shortage = self._prices()
        self.series.shadow_price.append(price or 0.0)
        self.series.shortage.append(shortage or 0.0)

    def _row(self, container: Container, track: Track) -> SnapshotRow:
        row = self.control.market.container(container.name) if self.control else None
        need = None
        if row is not None:
            good = row.reservation if self.plan.policy == "hard-quota" else row.ceiling
            need = good.need_millicores if good.HasField("need_millicores") else None
        undecided = "declared" if self.control is None else "no decision yet"
        return SnapshotRow(
            name=container.name,
            role=container.declared.workload.role,
            priority_class=container.declared.workload.priority_class,
            usage_millicores=_usage_millicores(track),
            throttled_ratio=track.recent.throttled_ratio,
            reservation_millicores=track.reservation_millicores,
            ceiling_millicores=track.ceiling_millicores,
            need_millicores=need,
            reason=undecided if row is None else reason_text(row.reason),
            delay_p99_ms=self._delay_p99_ms(container),
        )

    def _delay_p99_ms(self, container: Container) -> float | None:
        if container.arrivals is None:
            return None
        now_seconds = self.machine.known_seconds()
        from_seconds = self.plan.warmup_seconds if now_seconds > self.plan.warmup_seconds else 0.0
        delays = delays_seconds(
            container.arrivals,
            self.machine.done_seconds(container.name),
            from_seconds=from_seconds,
            now_seconds=now_seconds,
        )
        return delay_percentile_ms(delays, 99)

    def _node(self, rows: Sequence[SnapshotRow]) -> SnapshotNode:
        reserved = sum(row.reservation_millicores for row in rows)
        price, shortage = self._prices()
        return SnapshotNode(
            node_millicores=self.plan.node_millicores,
            usage_millicores=sum(row.usage_millicores for row in rows),
            reserved_millicores=reserved,
            free_millicores=self.plan.node_millicores - reserved,
            shadow_price=price,
            shortage=shortage,
        )

    def _prices(self) -> tuple[float | None, float | None]:
        market = self.control.market.latest if self.control else None
        if market is None or not market.round:
            return None, None
        price = market.reservation.price
        return price.shadow_price, price.shortage

    def _summary(self) -> Phase:
        now_seconds = self.plan.duration_seconds
        self._await_known(now_seconds)
        results = [
            container_result(
                container,
                self.tracks[container.name],
                self.machine.done_seconds(container.name),
                from_seconds=self.plan.warmup_seconds,
                now_seconds=now_seconds,
            )
            for container in self.containers
        ]
        return Phase(
            name=self.plan.name,
            duration_seconds=now_seconds - self.plan.warmup_seconds,
            resizes=self.control.resizes() if self.control else 0,
            invariant_violations=self.control.invariant_violations() if self.control else 0,
            containers=results,
            series=self.series,
        )


def _usage_millicores(track: Track) -> float:
    recent = track.recent
    return recent.usage_core_seconds / max(recent.seconds, 1e-9) * MILLICORES_PER_CORE
