"""The way from what a system wants to the kernel: written directly, or through the API.

*Direct*: an agent on the node writes the cgroup; it is in force from the next period on.

*API*: a change is a PATCH of its pod (`kubelet`). Of one pod, a PATCH is sent once the one before
is in force or deferred, and `pod_spacing_seconds` after it; of the cluster, as many as the resize
budget allows, of which a sample of nodes has its share. What may not be sent now stays wanted, and
the newest wish counts. The budget goes to *emergencies* first, raises of containers that were
throttled since the system's last step, for which half of it is kept; then to the largest changes.
The API server refuses to remove a limit.
"""

from typing import Protocol

import numpy as np

from mbcas_core.stability.resize_budget import ResizeBudget, cluster_rate
from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.simulation.kubelet import (
    LEAST_LIMIT_MILLICORES,
    NEVER,
    Enforced,
    Kubelets,
)
from mbcas_loadtest.simulation.system import Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Faults

COUNTED = ("patches", "unfunded_seconds", "refused", "deferred")
Span = tuple[float, float]


def is_within(spans: tuple[Span, ...], seconds: float) -> bool:
    """True where a moment lies in one of these spans, their ends excluded."""
    return any(start <= seconds < end for start, end in spans)


def sample_rate(cluster_nodes: int, nodes: int) -> float:
    """PATCHes a second that `nodes` nodes of a cluster have as their share of its budget."""
    return cluster_rate(cluster_nodes) * nodes / cluster_nodes


class Channel(Protocol):
    """What stands between a system and the kernels of m nodes of n containers."""

    in_force: Enforced

    def counted(self) -> dict[str, FloatArray]:
        """Returns what was counted so far, (m, n) each, at each pod's first container.

        Names are those of COUNTED, with the meaning they have in `outcome.Phase`.
        """
        ...

    def want(self, settings: Settings, *, throttled: BoolArray) -> None:
        """Takes a new wish; `throttled` (m, n) tells who was since the last step."""
        ...

    def advance(self, period: int) -> BoolArray | None:
        """Does what is due at the begin of a period; returns where quotas were written, or None."""
        ...

    def next_period(self, period: int) -> int:
        """The first period from this one on in which `advance` may have something to do."""
        ...

    def change_pods(self, *, came: BoolArray, gone: BoolArray, period: int) -> None:
        """Containers (n,) appear anew, with what they declare, and others are gone."""
        ...


class Direct:
    """An agent on the node that writes cgroups."""

    def __init__(self, in_force: Enforced) -> None:
        self.in_force = in_force
        self._everywhere: BoolArray = np.ones(in_force.changes.shape, np.bool_)
        self._wanted: Settings | None = None

    def counted(self) -> dict[str, FloatArray]:
        """Nothing of the API's."""
        return {name: np.zeros(self.in_force.changes.shape) for name in COUNTED}

    def want(self, settings: Settings, *, throttled: BoolArray) -> None:
        """Takes a new wish, which the next period meets; the kernel counts in microseconds."""
        del throttled
        self._wanted = clean(settings, self.in_force.changes.shape, decimals=2)

    def advance(self, period: int) -> BoolArray | None:
        del period
        wanted, self._wanted = self._wanted, None
        return None if wanted is None else self.in_force.write(self._everywhere, wanted)

    def next_period(self, period: int) -> int:
        return NEVER if self._wanted is None else period

    def change_pods(self, *, came: BoolArray, gone: BoolArray, period: int) -> None:
        """What is wanted of them comes with the next wish."""


class Api:
    """A client of the API server that may PATCH pods/resize."""

    def __init__(
        self, kubelets: Kubelets, *, faults: Faults, rate_per_second: float, spacing_seconds: float
    ) -> None:
        """Starts with specs as they are in force.

        Args:
            kubelets: Carry out what is sent.
            faults: When the API is down, and when nothing passes.
            rate_per_second: The share of the resize budget.
            spacing_seconds: Between two PATCHes of one pod.
        """
        self.in_force = kubelets.in_force
        self._kubelets, self._faults = kubelets, faults
        self._rate, self._spacing = rate_per_second, round(spacing_seconds * PERIODS_PER_SECOND)
        self._budget = ResizeBudget()
        self._wanted = self.in_force.show()
        self._open = False
        """Something that is wanted is not in its spec."""
        self._is_new = False
        """Nothing was tried since the last wish; what waits is tried every second."""
        shape = kubelets.patched.shape
        self._throttled: BoolArray = np.zeros(self.in_force.changes.shape, np.bool_)
        self._tried: IntArray = np.full(shape, -NEVER)
        """The period of each pod's last failed PATCH."""
        self._unfunded: FloatArray = np.zeros(shape)
        self._refused: FloatArray = np.zeros(shape)

    def counted(self) -> dict[str, FloatArray]:
        kubelets = self._kubelets
        of_pods = (kubelets.patches, self._unfunded, self._refused, kubelets.deferred)
        return {name: kubelets.at_first(each) for name, each in zip(COUNTED, of_pods, strict=True)}

    def want(self, settings: Settings, *, throttled: BoolArray) -> None:
        """Takes a new wish; the API counts in millicores."""
        wanted = clean(settings, self.in_force.changes.shape, decimals=0)
        unlimited = np.isinf(wanted.limit_millicores)
        removes = unlimited & np.isfinite(self._kubelets.spec.limit_millicores)
        if removes.any():
            np.copyto(wanted.limit_millicores, self._kubelets.spec.limit_millicores, where=removes)
            np.minimum(
                wanted.request_millicores, wanted.limit_millicores, out=wanted.request_millicores
            )
            self._refused += self._kubelets.sums(removes.astype(np.float64))
        self._wanted, self._throttled = wanted, throttled
        self._open = self._is_new = bool(self._changed().any())

    def advance(self, period: int) -> BoolArray | None:
        if self._open and (self._is_new or period % PERIODS_PER_SECOND == 0):
            self._is_new = False
            self._send(period)
        if period < self._kubelets.next_due:
            return None
        return self._kubelets.land(period)[1]

    def next_period(self, period: int) -> int:
        if not self._open:
            return max(self._kubelets.next_due, period)
        next_try = -(-period // PERIODS_PER_SECOND) * PERIODS_PER_SECOND
        return max(min(next_try, self._kubelets.next_due), period)

    def change_pods(self, *, came: BoolArray, gone: BoolArray, period: int) -> None:
        del period
        self._kubelets.forget(came)
        spec, anew = self._kubelets.spec, came | gone  # Nothing is wanted of who is gone.
        self._wanted.request_millicores[:, anew] = spec.request_millicores[:, anew]
        self._wanted.limit_millicores[:, anew] = spec.limit_millicores[:, anew]
        self._wanted.burst_millicores[:, anew] = spec.burst_millicores[:, anew]

    def _changed(self) -> BoolArray:
        """True where a container (m, n) is wanted otherwise than its spec says."""
        spec, wanted = self._kubelets.spec, self._wanted
        changed: BoolArray = wanted.limit_millicores != spec.limit_millicores
        changed |= wanted.request_millicores != spec.request_millicores
        changed |= wanted.burst_millicores != spec.burst_millicores
        return changed

    def _send(self, period: int) -> None:
        """Sends what may be sent now."""
        seconds = period / PERIODS_PER_SECOND
        if is_within(self._faults.shim_lost_seconds, seconds):
            return
        kubelets = self._kubelets
        changed = self._changed()
        self._open = bool(changed.any())
        pods = kubelets.any_of(changed) & (~kubelets.is_moving() | kubelets.is_deferred)
        pods &= period - np.maximum(kubelets.patched, self._tried) >= self._spacing
        if not pods.any():
            return
        if is_within(self._faults.api_down_seconds, seconds):
            self._refused += pods
            self._tried[pods] = period
            return
        self._budget.refill(rate_per_second=self._rate, now_seconds=seconds)
        funded = self._fund(pods, period)
        if funded.any():
            kubelets.patch(funded, self._wanted, period=period)
            self._open = bool(self._changed().any())

    def _fund(self, pods: BoolArray, period: int) -> BoolArray:
        """Takes tokens for these pods (m, p); returns for which there were any."""
        funded: BoolArray = np.zeros(pods.shape, np.bool_)
        if self._budget.available(emergency=True):
            urgent, size = self._weigh()
            for emergency, some in ((True, pods & urgent), (False, pods & ~urgent)):
                places = np.flatnonzero(some)
                count = min(self._budget.available(emergency=emergency), places.size)
                if count:
                    order = np.argsort(-size.flat[places], kind="stable")
                    funded.flat[places[order[:count]]] = True
                    self._budget.take(count, emergency=emergency)
        if period % PERIODS_PER_SECOND == 0:
            self._unfunded += pods & ~funded
        return funded

    def _weigh(self) -> tuple[BoolArray, FloatArray]:
        """Returns which pods (m, p) are emergencies, and how large the changes are."""
        spec, wanted = self._kubelets.spec, self._wanted
        move = np.minimum(wanted.limit_millicores, 1e6) - np.minimum(spec.limit_millicores, 1e6)
        move += wanted.request_millicores - spec.request_millicores
        urgent = self._kubelets.any_of((move > 0) & self._throttled)
        return urgent, self._kubelets.sums(np.abs(move))


def clean(settings: Settings, shape: tuple[int, ...], *, decimals: int) -> Settings:
    """Returns settings as they can be written, (m, n) each: rounded, none below its least."""
    limit, request, burst = np.empty(shape), np.empty(shape), np.empty(shape)
    np.maximum(settings.limit_millicores, LEAST_LIMIT_MILLICORES, out=limit)
    limit.round(decimals, out=limit)
    for out, value, least in (
        (request, settings.request_millicores, 1.0),
        (burst, settings.burst_millicores, 0.0),
    ):
        np.maximum(value, least, out=out)
        np.minimum(out, limit, out=out)
        out.round(decimals, out=out)
    return Settings(request_millicores=request, limit_millicores=limit, burst_millicores=burst)
