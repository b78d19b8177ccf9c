"""What is in force on m nodes, and how a PATCH gets there.

A PATCH changes the spec at once; the kubelet carries it out after a delay (`latency`). It admits a
pod whose requests rise only where they fit beside what it has admitted to the others; else the
whole PATCH is *deferred*, its limits too, and tried again every second (a real kubelet does so
whenever a pod of its node changes). Raises that come due together are admitted in the order of the
pods.
"""

import numpy as np

from mbcas_core.units import MILLICORES_PER_CORE, BoolArray, FloatArray, IntArray
from mbcas_loadtest.simulation.kernels import admit
from mbcas_loadtest.simulation.latency import Draws, find_delay_seconds
from mbcas_loadtest.simulation.system import Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared, Faults

NEVER = np.iinfo(np.int64).max // 2
"""A period that does not come."""
LEAST_LIMIT_MILLICORES = 10.0
"""Smaller limits act as this one: kubernetes.md, row 53."""


def declared_settings(declared: Declared, nodes: int) -> Settings:
    """Returns what the manifests say, (m, n)."""
    shape = (nodes, len(declared.names))
    limit = declared.limit_millicores.astype(np.float64)
    limit = np.where(limit > 0, np.maximum(limit, LEAST_LIMIT_MILLICORES), np.inf)
    request = declared.request_millicores.astype(np.float64)
    return Settings(
        request_millicores=np.broadcast_to(request, shape).copy(),
        limit_millicores=np.broadcast_to(limit, shape).copy(),
        burst_millicores=np.zeros(shape),
    )


class Enforced:
    """What the kernels of m nodes enforce, and how often that changed."""

    def __init__(self, declared: Declared, nodes: int) -> None:
        self._declared = declared_settings(declared, nodes)
        now = declared_settings(declared, nodes)
        self.request_millicores: FloatArray = now.request_millicores
        self.limit_millicores: FloatArray = now.limit_millicores
        self.burst_millicores: FloatArray = now.burst_millicores
        self.changes: FloatArray = np.zeros(self.request_millicores.shape)

    def show(self) -> Settings:
        """Returns it as it is now; later changes do not show in it."""
        return Settings(
            request_millicores=self.request_millicores.copy(),
            limit_millicores=self.limit_millicores.copy(),
            burst_millicores=self.burst_millicores.copy(),
        )

    def write(self, where: BoolArray, wanted: Settings) -> BoolArray:
        """Sets what is wanted where it is another; returns where a quota was written."""
        limit = np.maximum(wanted.limit_millicores, LEAST_LIMIT_MILLICORES)
        quota: BoolArray = where & (limit != self.limit_millicores)
        burst = where & (wanted.burst_millicores != self.burst_millicores)
        request = where & (wanted.request_millicores != self.request_millicores)
        self.changes += quota | burst | request
        np.copyto(self.limit_millicores, limit, where=quota)
        np.copyto(self.request_millicores, wanted.request_millicores, where=request)
        np.copyto(self.burst_millicores, wanted.burst_millicores, where=where)
        np.minimum(self.burst_millicores, self.limit_millicores, out=self.burst_millicores)
        written: BoolArray = quota | burst
        return written

    def reset(self, slots: BoolArray) -> None:
        """Containers that appear anew, (n,), have what their manifests say; that is no change."""
        self.request_millicores[:, slots] = self._declared.request_millicores[:, slots]
        self.limit_millicores[:, slots] = self._declared.limit_millicores[:, slots]
        self.burst_millicores[:, slots] = 0.0


class Kubelets:
    """The kubelets of m nodes of n containers in p pods."""

    def __init__(
        self, in_force: Enforced, declared: Declared, *, draws: Draws, faults: Faults
    ) -> None:
        self.in_force = in_force
        self.pod = declared.pod
        self.first = np.flatnonzero(np.diff(declared.pod, prepend=-1))
        """(p,) each pod's first container."""
        self._has_single = self.first.size == declared.pod.size
        """Every pod has one container, so that nothing need be added up."""
        self._room_millicores = declared.cpus * float(MILLICORES_PER_CORE)
        self._draws, self._faults = draws, faults
        self.spec = in_force.show()
        shape = (self.spec.request_millicores.shape[0], self.first.size)
        self._due: IntArray = np.full(shape, NEVER)
        self.patched: IntArray = np.full(shape, -NEVER)
        """The period of each pod's last PATCH."""
        self.is_deferred: BoolArray = np.zeros(shape, np.bool_)
        """Its requests do not fit now, or something else holds it up for long."""
        self.patches: FloatArray = np.zeros(shape)
        self.deferred: FloatArray = np.zeros(shape)
        self.next_due = NEVER
        """The first period in which anything comes due."""

    def at_first(self, of_pods: FloatArray) -> FloatArray:
        """Returns what was counted of pods (m, p), each at its first container, (m, n)."""
        counted: FloatArray = np.zeros(self.in_force.changes.shape)
        counted[:, self.first] = of_pods
        return counted

    def sums(self, values: FloatArray) -> FloatArray:
        """Returns the sums of pods (m, p), of their containers (m, n)."""
        return values if self._has_single else np.add.reduceat(values, self.first, axis=1)

    def any_of(self, flags: BoolArray) -> BoolArray:
        """Returns in which pods (m, p) any container (m, n) has a flag."""
        if self._has_single:
            return flags
        any_has: BoolArray = np.logical_or.reduceat(flags, self.first, axis=1)
        return any_has

    def containers_of(self, pods: BoolArray) -> BoolArray:
        """Returns the flag of its pod (m, p) for every container, (m, n)."""
        return pods if self._has_single else pods[:, self.pod]

    def is_moving(self) -> BoolArray:
        """True where a pod's last PATCH (m, p) is not in force yet."""
        moving: BoolArray = self._due < NEVER
        return moving

    def patch(self, pods: BoolArray, wanted: Settings, *, period: int) -> None:
        """Writes what is wanted into the specs of these pods (m, p)."""
        where = self.containers_of(pods)
        spec = self.spec
        np.copyto(spec.request_millicores, wanted.request_millicores, where=where)
        np.copyto(spec.limit_millicores, wanted.limit_millicores, where=where)
        np.copyto(spec.burst_millicores, wanted.burst_millicores, where=where)
        node, pod = np.nonzero(pods)
        draw = self._draws.of_patches(period // PERIODS_PER_SECOND, node, pod)
        since = (period - self.patched[node, pod]) / PERIODS_PER_SECOND
        delay = find_delay_seconds(draw[:, 0], since)
        put_off = draw[:, 1] < self._faults.deferred_ratio
        least, most = self._faults.deferred_seconds
        delay += np.where(put_off, least + (most - least) * draw[:, 2], 0.0)
        periods = np.maximum(np.ceil(delay * PERIODS_PER_SECOND), 1).astype(np.int64)
        self._due[node, pod] = period + periods
        self.patched[node, pod] = period
        self.is_deferred[node, pod] = put_off
        self.deferred[node, pod] += put_off
        self.patches[node, pod] += 1
        self.next_due = min(self.next_due, period + int(periods.min(initial=NEVER)))

    def land(self, period: int) -> tuple[BoolArray, BoolArray]:
        """Carries out what is due.

        Returns:
            The pods (m, p) whose spec is in force from this period on and was not before, and the
            containers (m, n) whose quota was written for it.
        """
        due = self._due <= period
        fits = due & self._admit(due)
        late = due & ~fits
        self.deferred += late & ~self.is_deferred
        self.is_deferred = (self.is_deferred & ~due) | late
        self._due[late] = period + PERIODS_PER_SECOND
        self._due[fits] = NEVER
        self.next_due = int(self._due.min())
        written = self.in_force.write(self.containers_of(fits), self.spec)
        return fits, written

    def forget(self, slots: BoolArray) -> None:
        """Containers (n,) appear anew: nothing of an earlier pod is on its way."""
        pods = np.logical_or.reduceat(slots, self.first)
        self._due[:, pods] = NEVER
        self.patched[:, pods] = -NEVER
        self.is_deferred[:, pods] = False
        now = self.in_force
        self.spec.request_millicores[:, slots] = now.request_millicores[:, slots]
        self.spec.limit_millicores[:, slots] = now.limit_millicores[:, slots]
        self.spec.burst_millicores[:, slots] = now.burst_millicores[:, slots]

    def _admit(self, due: BoolArray) -> BoolArray:
        """True where the requests of a pod that is due fit its node."""
        has = self.sums(self.in_force.request_millicores)
        asked = self.sums(self.spec.request_millicores)
        fits: BoolArray = np.ones(due.shape, np.bool_)
        admit(due, has, asked, self._room_millicores, fits)
        return fits
