"""Runs one system at one value of its knob, in one world or several side by side, in virtual time.

The plant lives through blocks of periods that end where the system is asked again; what reaches the
kernel within a block does so in its own period. What agents could have seen is kept for a stretch
of some steps at a time, and added up at its end, and where pods come or go or the warm-up ends.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.errors import SimulationError
from mbcas_loadtest.plant.batch import Plant, Quota, empty_periods
from mbcas_loadtest.simulation.actuation import Api, Channel, Direct, is_within, sample_rate
from mbcas_loadtest.simulation.core_shell import CoreShell
from mbcas_loadtest.simulation.kubelet import Enforced, Kubelets
from mbcas_loadtest.simulation.latency import Draws
from mbcas_loadtest.simulation.mbcas import CoreSystem
from mbcas_loadtest.simulation.outcome import Outcome
from mbcas_loadtest.simulation.server import Server
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, System
from mbcas_loadtest.simulation.tally import Stretch, Tally
from mbcas_loadtest.simulation.telemetry import USEC_PER_MILLICORE, Line
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Faults, World

STRETCH_PERIODS = 200
"""Added up together, or as many as lie between two steps: few enough for the processor's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What a run is like, beyond world and system."""

    cluster_nodes: int = 60
    """Of the cluster that the world's m nodes are a sample of: it sets the resize budget, of which
    they have their share."""
    pod_spacing_seconds: float = 3.0
    """Time between two PATCHes of one pod; below it a real kubelet takes 0.5 to 2 s for the next.
    MBCAS keeps its own."""
    tau_ratio: float = 0.05
    """Throttling up to which a container counts as settled."""
    series_node: int | None = None
    """Of which of the m nodes to keep a series."""
    audit_share: float = 1.0
    """Share of MBCAS's rounds whose every property is audited."""
    report_reorder_ratio: float = 0.0
    """Share of MBCAS's reports that come a second late, after the next one."""
    report_delay_seconds: int = 0
    """How late MBCAS's reports come."""


class Shell(Protocol):
    """A system and its way to the kernels."""

    interval_periods: int

    @property
    def channel(self) -> Channel: ...

    def step(self, seen: Seen) -> None:
        """Asks the system what it wants now, and takes it to the channel."""
        ...

    def end_second(self, seconds: float) -> None:
        """Does what is left when everybody has decided."""
        ...

    def leave(self, seconds: float) -> None:
        """The world is over."""
        ...

    def count(self) -> dict[str, int]:
        """Returns what was counted, by name."""
        ...


class RivalShell:
    """A system that answers with settings."""

    def __init__(self, system: System, channel: Channel, faults: Faults) -> None:
        self.interval_periods = system.interval_periods
        self._channel = channel
        self._system, self._faults = system, faults

    @property
    def channel(self) -> Channel:
        return self._channel

    def step(self, seen: Seen) -> None:
        """While no report passes, it is not asked."""
        seconds = seen.period / PERIODS_PER_SECOND
        if is_within(self._faults.shim_lost_seconds, seconds):
            return
        wanted = self._system.step(seen)
        if wanted is not None:
            throttled: BoolArray = np.any(seen.throttled, axis=0)
            self._channel.want(wanted, throttled=throttled)

    def end_second(self, seconds: float) -> None:
        """Has nothing left to do."""

    def leave(self, seconds: float) -> None:
        """Has nobody to tell."""

    def count(self) -> dict[str, int]:
        return {}


def simulate(
    world: World, rival: Rival, knob: float, *, settings: RunSettings | None = None
) -> Outcome:
    """Lives through the world once.

    The same arguments give the same outcome: every random draw comes from a stream of its node's
    own seed, whatever other nodes there are and whatever the system does.

    Raises:
        SimulationError: The world or the system is not of a form that can be run.
    """
    return simulate_together([world], rival, knob, settings=settings)[0]


def simulate_together(
    worlds: Sequence[World],
    rival: Rival,
    knob: float,
    *,
    settings: RunSettings | None = None,
    watch: Callable[[Server, float], None] = lambda *_: None,
) -> list[Outcome]:
    """Lives through several worlds at once; what comes of each is what comes of it alone.

    Only a system that is MBCAS gains by it: one core decides for all, and its counters are in
    the first outcome. `watch` is told of each server and second, when it has ticked.

    Raises:
        SimulationError: As `simulate`; or two worlds have the same name.
    """
    settings = settings or RunSettings()
    servers: list[Server] = []
    runs: list[_Run] = []
    for world in worlds:
        system = _make(world, rival, knob)
        server: Server | None = None
        if isinstance(system, CoreSystem):
            server = _find_server(servers, world, system, settings)
        runs.append(_Run(world, _set_up(world, system, settings, server), settings))
    lives = [run.live() for run in runs]
    while lives:
        moments = [next(life, None) for life in lives]
        lives = [life for life, now in zip(lives, moments, strict=True) if now is not None]
        for server in servers if lives else ():
            now = max(each for each in moments if each is not None)
            server.tick(now)
            watch(server, now)
    return [run.tell(rival.name, knob) for run in runs]


def _find_server(
    servers: list[Server], world: World, system: CoreSystem, settings: RunSettings
) -> Server:
    """Returns one for this world: of its own where it restarts, else that of all others."""
    nodes = world.shape[0]
    rate = sample_rate(max(settings.cluster_nodes, nodes), nodes)
    is_alone = bool(world.faults.server_restart_seconds)
    for server in servers:
        if not is_alone and server.serves(rate):
            return server
    servers.append(
        Server(
            system,
            rate_per_second=rate,
            audit_share=settings.audit_share,
            is_shared=not is_alone,
        )
    )
    return servers[-1]


def _make(world: World, rival: Rival, knob: float) -> System:
    if rival.make is not None:
        return rival.make(world.declared, knob)
    if rival.make_with_truth is not None:
        return rival.make_with_truth(world, knob)
    raise SimulationError(f"{rival.name}: the catalog does not say how to make it")


def _set_up(world: World, system: System, settings: RunSettings, server: Server | None) -> Shell:
    """Makes the way from the system to the kernels."""
    in_force = Enforced(world.declared, world.shape[0])
    if system.actuation is Actuation.DIRECT:
        return RivalShell(system, Direct(in_force), world.faults)
    nodes, pods = world.shape[0], int(world.declared.pod[-1]) + 1
    draws = Draws(world.seeds, seconds=world.seconds, pods=pods)
    faults = world.faults
    kubelets = Kubelets(in_force, world.declared, draws=draws, faults=faults)
    if server is not None:
        line = Line(
            loss_ratio=faults.report_loss_ratio,
            reorder_ratio=settings.report_reorder_ratio,
            delay_seconds=settings.report_delay_seconds,
            clock_skew_seconds=faults.clock_skew_seconds,
        )
        return CoreShell(world, server, kubelets, draws=draws, line=line)
    api = Api(
        kubelets,
        faults=faults,
        rate_per_second=sample_rate(max(settings.cluster_nodes, nodes), nodes),
        spacing_seconds=settings.pod_spacing_seconds,
    )
    return RivalShell(system, api, faults)


class _Kept:
    """What a stretch of up to k periods was like, as it comes; (k, m, n) each."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.periods = empty_periods(shape)
        self.limit_millicores: FloatArray = np.empty(shape)
        self.request_millicores: FloatArray = np.empty(shape)


class _Run:
    """One run, from its first period to its last."""

    def __init__(self, world: World, shell: Shell, settings: RunSettings) -> None:
        if shell.interval_periods < 1 or world.arrivals_usec.shape[0] % PERIODS_PER_SECOND:
            raise SimulationError("a step takes a period at least, and a world whole seconds")
        self._world, self._shell, self._settings = world, shell, settings
        self._in_force = shell.channel.in_force
        self._tally = Tally(world, series_node=settings.series_node)
        declared = world.declared
        several = bool(np.any(np.diff(declared.pod, prepend=-1) == 0))
        self._first: IntArray | None = None
        """Each pod's first container, where some pod has several."""
        if several:
            self._first = np.flatnonzero(np.diff(declared.pod, prepend=-1))
        self._plant = Plant(
            world.shape,
            cpus=declared.cpus,
            threads=world.threads,
            max_backlog_usec=world.max_backlog_usec,
            request_usec=world.request_usec,
            pod=declared.pod if several else None,
        )
        moved = np.any(world.exists[1:] != world.exists[:-1], axis=1)
        self._edges = set(((np.flatnonzero(moved) + 1) * PERIODS_PER_SECOND).tolist())
        """Periods in which containers appear or go."""

    def live(self) -> Iterator[float]:
        """Lives through the world; stops after each step of the system and tells the second."""
        world, interval = self._world, self._shell.interval_periods
        step = math.lcm(interval, PERIODS_PER_SECOND)
        length = step * max(1, STRETCH_PERIODS // step)
        total = world.arrivals_usec.shape[0]
        warmup = min(world.warmup_seconds, world.seconds)
        if warmup == 0:
            self._tally.end_phase(self._shell.channel)
        for start in range(0, total, length):
            yield from self._live(start, min(length, total - start), warmup)
        self._shell.leave(world.seconds)
        self._tally.end_phase(self._shell.channel)

    def tell(self, system: str, knob: float) -> Outcome:
        """Returns what came of it, at its end."""
        warmup, measured = self._tally.phases()
        return Outcome(
            scenario=self._world.scenario,
            system=system,
            knob=knob,
            seeds=self._world.seeds,
            cpus=self._world.declared.cpus,
            warmup=warmup,
            measured=measured,
            settling_seconds=self._tally.settling_seconds(self._settings.tau_ratio),
            peak_throttled_ratio=self._tally.peak_throttled_ratio(),
            counts=self._shell.count(),
            series=self._tally.series(),
        )

    def _live(self, start: int, count: int, warmup: int) -> Iterator[float]:
        """Lives through one stretch."""
        world, interval = self._world, self._shell.interval_periods
        exists = world.exists[start // PERIODS_PER_SECOND : (start + count) // PERIODS_PER_SECOND]
        arrivals = world.arrivals_usec[start : start + count].astype(np.float64)
        if not exists.all():
            arrivals *= np.repeat(exists, PERIODS_PER_SECOND, axis=0)[:, np.newaxis, :]
        kept = _Kept(arrivals.shape)
        stretch = Stretch(
            second=start // PERIODS_PER_SECOND,
            periods=kept.periods,
            arrivals_usec=arrivals,
            limit_millicores=kept.limit_millicores,
            request_millicores=kept.request_millicores,
            exists=exists,
        )
        boundary = warmup * PERIODS_PER_SECOND - start
        cuts = {edge - start for edge in self._edges} | {boundary, count}
        stops = {*range(interval, count + 1, interval), *cuts}
        place = added = 0
        for stop in sorted(stop for stop in stops if 0 < stop <= count):
            if start + place in self._edges:
                self._change_pods((start + place) // PERIODS_PER_SECOND)
            self._block(start, slice(place, stop), arrivals, kept)
            place = stop
            if stop in cuts:
                self._tally.add(stretch.cut(added, stop))
                added = stop
            if stop == boundary:
                self._tally.end_phase(self._shell.channel)
            if stop % interval == 0:
                self._shell.step(self._look(start + stop, slice(stop - interval, stop), kept))
                seconds = (start + stop) / PERIODS_PER_SECOND
                yield seconds
                self._shell.end_second(seconds)

    def _change_pods(self, second: int) -> None:
        before, now = self._world.exists[second - 1], self._world.exists[second]
        other = np.broadcast_to(before != now, self._world.shape)
        self._plant.forget(other)
        self._tally.forget(other)
        came: BoolArray = now & ~before
        self._in_force.reset(came)
        self._shell.channel.change_pods(
            came=came, gone=before & ~now, period=second * PERIODS_PER_SECOND
        )

    def _block(self, start: int, own: slice, arrivals: FloatArray, kept: _Kept) -> None:
        """Lives through some periods of a stretch; orders that come due meanwhile take effect."""
        channel, now = self._shell.channel, self._in_force
        limit, request = kept.limit_millicores[own], kept.request_millicores[own]
        burst = now.burst_millicores[np.newaxis].copy()  # Of all periods, until it changes.
        written: BoolArray = np.zeros((1, 1, 1), np.bool_)
        period, end = start + own.start, start + own.stop
        place = 0
        while period < end:
            wrote = channel.advance(period)
            limit[place:], request[place:] = now.limit_millicores, now.request_millicores
            if wrote is not None and wrote.any():
                if written.shape != limit.shape:
                    written = np.zeros(limit.shape, np.bool_)
                written[place] = wrote
                if not np.array_equal(burst[-1], now.burst_millicores):
                    burst = np.broadcast_to(burst, limit.shape).copy()
                    burst[place:] = now.burst_millicores
            period = max(channel.next_period(period + 1), period + 1)
            place = period - start - own.start
        self._plant.weight[...] = np.maximum(request[0], 1.0)
        quota = self._quota(limit, burst, written)
        self._plant.run(arrivals[own], quota, done=kept.periods, first=own.start)

    def _quota(self, limit: FloatArray, burst: FloatArray, written: BoolArray) -> Quota:
        pod_quota: FloatArray | None = None
        pod_burst: FloatArray | None = None
        if self._first is not None:
            # A pod has a quota where all of its containers have one.
            pod_quota = np.add.reduceat(limit, self._first, axis=-1) * USEC_PER_MILLICORE
            pod_burst = np.add.reduceat(burst, self._first, axis=-1) * USEC_PER_MILLICORE
        return Quota(
            quota_usec=limit * USEC_PER_MILLICORE,
            burst_usec=burst * USEC_PER_MILLICORE,
            written=written,
            pod_quota_usec=pod_quota,
            pod_burst_usec=pod_burst,
        )

    def _look(self, period: int, own: slice, kept: _Kept) -> Seen:
        periods = kept.periods
        return Seen(
            period=period,
            usage_usec=periods.usage_usec[own],
            throttled=periods.throttled[own],
            throttled_usec=periods.throttled_usec[own],
            timer_ran=periods.timer_ran[own],
            bursts=periods.bursts[own],
            applied=self._in_force.show(),
            exists=np.broadcast_to(
                self._world.exists[(period - 1) // PERIODS_PER_SECOND], self._world.shape
            ),
            admitted_usec=periods.admitted_usec[own],
            backlog_usec=periods.backlog_usec[own],
        )
