"""Runs one system at one value of its knob in one world, in virtual time.

The plant lives through blocks of periods that end where the system is asked again; what reaches the
kernel within a block does so in its own period. What agents could have seen is kept for a stretch
of some steps at a time, and what came of it is added up stretch by stretch.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.errors import SimulationError
from mbcas_loadtest.plant.batch import Periods, Plant, Quota
from mbcas_loadtest.simulation.actuation import Api, Channel, Direct, is_within, sample_rate
from mbcas_loadtest.simulation.core_shell import CoreShell
from mbcas_loadtest.simulation.kubelet import Enforced, Kubelets
from mbcas_loadtest.simulation.latency import Draws
from mbcas_loadtest.simulation.mbcas import CoreSystem
from mbcas_loadtest.simulation.outcome import Outcome
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
    settings = settings or RunSettings()
    in_force = Enforced(world.declared, world.shape[0])
    shell = _set_up(world, rival, knob, settings, in_force)
    if shell.interval_periods < 1 or world.arrivals_usec.shape[0] % PERIODS_PER_SECOND:
        raise SimulationError("a step takes a period at least, and a world whole seconds")
    tally = Tally(world, series_node=settings.series_node)
    _Run(world, shell, in_force, tally).run()
    warmup, measured = tally.phases()
    return Outcome(
        scenario=world.scenario,
        system=rival.name,
        knob=knob,
        seeds=world.seeds,
        cpus=world.declared.cpus,
        warmup=warmup,
        measured=measured,
        settling_seconds=tally.settling_seconds(settings.tau_ratio),
        counts=shell.count(),
        series=tally.series(),
    )


def _set_up(
    world: World, rival: Rival, knob: float, settings: RunSettings, in_force: Enforced
) -> Shell:
    """Makes the system, and the way from it to the kernels."""
    if rival.make is not None:
        system = rival.make(world.declared, knob)
    elif rival.make_with_truth is not None:
        system = rival.make_with_truth(world, knob)
    else:
        raise SimulationError(f"{rival.name}: the catalog does not say how to make it")
    if system.actuation is Actuation.DIRECT:
        return RivalShell(system, Direct(in_force), world.faults)
    nodes = world.shape[0]
    pods = int(world.declared.pod[-1]) + 1
    draws = Draws(world.seeds, seconds=world.seconds, pods=pods)
    kubelets = Kubelets(in_force, world.declared, draws=draws, faults=world.faults)
    rate = sample_rate(max(settings.cluster_nodes, nodes), nodes)
    if isinstance(system, CoreSystem):
        faults = world.faults
        line = Line(
            loss_ratio=faults.report_loss_ratio,
            reorder_ratio=settings.report_reorder_ratio,
            delay_seconds=settings.report_delay_seconds,
            clock_skew_seconds=faults.clock_skew_seconds,
        )
        return CoreShell(
            world,
            system,
            kubelets,
            draws=draws,
            line=line,
            rate_per_second=rate,
            audit_share=settings.audit_share,
        )
    api = Api(
        kubelets,
        faults=world.faults,
        rate_per_second=rate,
        spacing_seconds=settings.pod_spacing_seconds,
    )
    return RivalShell(system, api, world.faults)


class _Kept:
    """What a stretch of up to k periods was like, as it comes; (k, m, n) each."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.periods = Periods(
            admitted_usec=np.empty(shape),
            usage_usec=np.empty(shape),
            throttled=np.empty(shape, np.bool_),
            throttled_usec=np.empty(shape),
            timer_ran=np.empty(shape, np.bool_),
            bursts=np.empty(shape, np.bool_),
            backlog_usec=np.empty(shape),
        )
        self.limit_millicores: FloatArray = np.empty(shape)
        self.request_millicores: FloatArray = np.empty(shape)

    def put(self, own: slice, periods: Periods) -> None:
        kept = self.periods
        kept.admitted_usec[own] = periods.admitted_usec
        kept.usage_usec[own] = periods.usage_usec
        kept.throttled[own] = periods.throttled
        kept.throttled_usec[own] = periods.throttled_usec
        kept.timer_ran[own] = periods.timer_ran
        kept.bursts[own] = periods.bursts
        kept.backlog_usec[own] = periods.backlog_usec


class _Run:
    """One run, from its first period to its last."""

    def __init__(self, world: World, shell: Shell, in_force: Enforced, tally: Tally) -> None:
        self._world, self._shell, self._in_force, self._tally = world, shell, in_force, tally
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

    def run(self) -> None:
        world, interval = self._world, self._shell.interval_periods
        step = math.lcm(interval, PERIODS_PER_SECOND)
        length = step * max(1, STRETCH_PERIODS // step)
        total = world.arrivals_usec.shape[0]
        warmup = min(world.warmup_seconds, world.seconds)
        if warmup == 0:
            self._tally.end_phase(self._shell.channel)
        for start in range(0, total, length):
            self._live(start, min(length, total - start), warmup)
        self._tally.end_phase(self._shell.channel)
        if len(self._tally.phases()) == 1:  # All of it was warm-up.
            self._tally.end_phase(self._shell.channel)

    def _live(self, start: int, count: int, warmup: int) -> None:
        """Lives through one stretch."""
        world, interval = self._world, self._shell.interval_periods
        exists = world.exists[start // PERIODS_PER_SECOND : (start + count) // PERIODS_PER_SECOND]
        arrivals = world.arrivals_usec[start : start + count].astype(np.float64)
        if not exists.all():
            arrivals *= np.repeat(exists, PERIODS_PER_SECOND, axis=0)[:, np.newaxis, :]
        kept = _Kept(arrivals.shape)
        edges = sorted(edge for edge in self._edges if start <= edge < start + count)
        place = 0
        boundary = warmup * PERIODS_PER_SECOND - start
        stops = {*range(interval, count + 1, interval), count, *(edge - start for edge in edges)}
        stops |= {boundary} if 0 < boundary < count else set()
        for stop in sorted(stops - {0}):
            if start + place in self._edges:
                self._change_pods((start + place) // PERIODS_PER_SECOND)
            own = slice(place, stop)
            self._block(start, own, arrivals, kept)
            place = stop
            if stop % interval == 0:
                self._shell.step(self._look(start + stop, slice(stop - interval, stop), kept))
        self._add(
            Stretch(
                second=start // PERIODS_PER_SECOND,
                periods=kept.periods,
                arrivals_usec=arrivals,
                limit_millicores=kept.limit_millicores,
                request_millicores=kept.request_millicores,
                exists=exists,
            ),
            boundary // PERIODS_PER_SECOND,
        )

    def _add(self, stretch: Stretch, boundary: int) -> None:
        """Adds it up; the warm-up ends after `boundary` of its seconds."""
        seconds = len(stretch.exists)
        if not 0 < boundary <= seconds:
            self._tally.add(stretch)
            return
        self._tally.add(stretch.cut(slice(0, boundary)))
        self._tally.end_phase(self._shell.channel)
        if boundary < seconds:
            self._tally.add(stretch.cut(slice(boundary, seconds)))

    def _change_pods(self, second: int) -> None:
        before, now = self._world.exists[second - 1], self._world.exists[second]
        self._plant.forget(np.broadcast_to(before != now, self._world.shape))
        came: BoolArray = now & ~before
        self._in_force.reset(came)
        self._shell.channel.change_pods(
            came=came, gone=before & ~now, period=second * PERIODS_PER_SECOND
        )

    def _block(self, start: int, own: slice, arrivals: FloatArray, kept: _Kept) -> None:
        """Lives through some periods of a stretch; orders that come due meanwhile take effect."""
        channel, now = self._shell.channel, self._in_force
        limit, request = kept.limit_millicores[own], kept.request_millicores[own]
        burst = np.broadcast_to(now.burst_millicores, limit.shape)
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
                if now.burst_millicores.any() or burst.any():
                    burst = burst.copy()
                    burst[place:] = now.burst_millicores
            period = max(channel.next_period(period + 1), period + 1)
            place = period - start - own.start
        self._plant.weight[...] = np.maximum(request[0], 1.0)
        kept.put(own, self._plant.run(arrivals[own], self._quota(limit, burst, written)))

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
