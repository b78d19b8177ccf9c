"""The Kubernetes side of simulated shims: what they say of pods, and how they carry orders out.

Every pod is Burstable and was admitted with what its manifest says. An order is one PATCH of its
pod, together with the others that came for it at once; the API server answers within a second. What
the kubelet has made of it is told with the next report: seen, deferred, in force.
"""

import zlib
from collections.abc import Iterable
from dataclasses import replace
from itertools import count

import numpy as np

from mbcas_core.effects import Order
from mbcas_core.events import (
    ContainerFacts,
    CpuResources,
    Enforcement,
    NodeFacts,
    OrderResult,
    Outcome,
    Pending,
    QosClass,
    Report,
)
from mbcas_core.stability.resize_budget import BUCKET_SECONDS
from mbcas_core.units import MILLICORES_PER_CORE, BoolArray, FloatArray, IntArray
from mbcas_loadtest.simulation.kubelet import Kubelets, declared_settings
from mbcas_loadtest.simulation.system import Settings
from mbcas_loadtest.simulation.telemetry import USEC_PER_MILLICORE
from mbcas_loadtest.simulation.world import World

LUMP_SECONDS = BUCKET_SECONDS
LUMP_WIDTH_MILLISECONDS = 900
OLD_SECONDS = 3600.0
"""Age of the containers that are there when a world starts."""
UNAVAILABLE, CONFLICT, OK = 503, 409, 200


class Shims:
    """The shims of m nodes, as far as pods and orders go."""

    def __init__(self, world: World, kubelets: Kubelets, *, burst_credit: bool) -> None:
        self._declared, self._kubelets = world.declared, kubelets
        self.namespace = world.scenario
        self._burst_credit = burst_credit
        self._slots = {name: slot for slot, name in enumerate(world.declared.names)}
        self.nodes = tuple(_name_node(f"{world.scenario}-{seed}") for seed in world.seeds)
        pods = kubelets.patched.shape
        self._generation: IntArray = np.ones(pods, np.int64)
        self._run: IntArray = np.zeros(pods[1], np.int64)
        """How often each pod appeared anew."""
        self._born: FloatArray = np.full(pods[1], -OLD_SECONDS)
        self._set: BoolArray = np.zeros(pods, np.bool_)
        """Its numbers were last set by MBCAS."""
        self._news: BoolArray = np.zeros(pods, np.bool_)
        """Something about the pod has not been told yet."""
        self.refused: FloatArray = np.zeros(pods)
        """How many PATCHes were answered with an error."""
        self._results: dict[int, list[OrderResult]] = {}
        self._removed: list[int] = []
        admitted = declared_settings(world.declared, pods[0])
        self._admitted = [self._resources(admitted, node) for node in range(pods[0])]

    def inventory(self, node: int, *, exists: BoolArray, seconds: float) -> Report:
        """Returns what the first report of a connection says; `exists` is (n,)."""
        self._news[node] = False
        facts = NodeFacts(
            allocatable_millicores=self._declared.cpus * MILLICORES_PER_CORE,
            cpu_count=self._declared.cpus,
            enforcement=Enforcement.RESIZE,
            burst_writable=self._burst_credit,
        )
        now = self._now()
        slots = np.flatnonzero(exists).tolist()
        containers = tuple(self._facts(node, slot, now, seconds) for slot in slots)
        return Report(full_inventory=True, node_facts=facts, containers=containers)

    def news(self, *, exists: BoolArray, seconds: float) -> dict[int, Report]:
        """Returns what there is to tell of each node since the last report, by node."""
        removed, self._removed = tuple(self._removed), []
        told: dict[int, Report] = {}
        if self._news.any():
            now = self._now()
            changed = self._news[:, self._kubelets.pod] & exists
            self._news[:] = False
            for node in np.flatnonzero(changed.any(axis=1)).tolist():
                slots = np.flatnonzero(changed[node]).tolist()
                containers = tuple(self._facts(node, slot, now, seconds) for slot in slots)
                told[node] = Report(containers=containers)
        for node, results in self._results.items():
            told[node] = replace(told.get(node, Report()), results=tuple(results))
        self._results = {}
        if removed:
            for node in range(len(self.nodes)):
                told[node] = replace(told.get(node, Report()), removed_handles=removed)
        return told

    def land(self, period: int) -> BoolArray:
        """Carries out what is due; returns where quotas were written."""
        landed, written = self._kubelets.land(period)
        self._news |= landed | self._kubelets.is_deferred
        return written

    def take(
        self, orders: Iterable[tuple[int, Order]], *, period: int, api_is_up: bool
    ) -> BoolArray:
        """Carries out orders, each with its node; returns where credit alone is written, (m, n)."""
        kubelets = self._kubelets
        spec = kubelets.spec
        wanted = Settings(
            request_millicores=spec.request_millicores.copy(),
            limit_millicores=spec.limit_millicores.copy(),
            burst_millicores=spec.burst_millicores.copy(),
        )
        pods: BoolArray = np.zeros(kubelets.patched.shape, np.bool_)
        credit: BoolArray = np.zeros(spec.limit_millicores.shape, np.bool_)
        accepted: list[tuple[int, int, Order]] = []
        for node, order in orders:
            slot = self._slots[order.container]
            pod = int(kubelets.pod[slot])
            patches = order.desired != CpuResources()
            if patches and not api_is_up:
                self.refused[node, pod] += 1
                self._answer(node, order, Outcome.FAILED, UNAVAILABLE)
                continue
            if order.expected_generation not in (0, self._generation[node, pod]):
                self._answer(node, order, Outcome.STALE, CONFLICT)
                continue
            _write(wanted, node, slot, order)
            credit[node, slot] = not patches
            pods[node, pod] |= patches
            accepted.append((node, pod, order))
        self._generation += pods
        self._set |= pods
        self._news |= pods
        for node, pod, order in accepted:
            generation = int(self._generation[node, pod])
            self._answer(node, order, Outcome.APPLIED, OK, generation=generation)
        if pods.any():
            kubelets.patch(pods, wanted, period=period)
        np.copyto(spec.burst_millicores, wanted.burst_millicores, where=credit)
        return credit

    def write_credit(self, where: BoolArray) -> BoolArray:
        """Writes burst credit alone, (m, n); returns where that was a change."""
        now = self._kubelets.in_force.show()
        wanted = replace(now, burst_millicores=self._kubelets.spec.burst_millicores)
        return self._kubelets.in_force.write(where, wanted)

    def drop_news(self) -> None:
        """An inventory follows, and whoever waited for results is gone."""
        self._results, self._removed = {}, []

    def reappear(self, slots: BoolArray, seconds: float) -> None:
        """Containers (n,) appear anew: their pods are others than before."""
        self._kubelets.forget(slots)
        pods = np.unique(self._kubelets.pod[slots])
        self._run[pods] += 1
        self._born[pods] = seconds
        self._generation[:, pods] = 1
        self._set[:, pods] = False
        self._news[:, pods] = True

    def vanish(self, slots: BoolArray) -> None:
        """Containers (n,) are gone."""
        self._removed += (np.flatnonzero(slots) + 1).tolist()

    def restore(self, period: int) -> None:
        """The fail-safe: every pod gets back what it was admitted with."""
        wanted = declared_settings(self._declared, len(self.nodes))
        pods = self._set.copy()
        if pods.any():
            self._kubelets.patch(pods, wanted, period=period)
            self._generation += pods
            self._set[:] = False
            self._news |= pods

    def _now(self) -> Settings:
        return self._kubelets.in_force.show()

    def _facts(self, node: int, slot: int, now: Settings, seconds: float) -> ContainerFacts:
        declared, pod = self._declared, int(self._kubelets.pod[slot])
        is_set = bool(self._set[node, pod])
        has_limit = bool(np.isfinite(self._kubelets.spec.limit_millicores[node, slot]))
        in_force = _at(now, node, slot)
        deferred = bool(self._kubelets.is_deferred[node, pod])
        generation = int(self._generation[node, pod])
        return ContainerFacts(
            handle=slot + 1,
            pod_uid=f"{self.nodes[node]}-{pod}-{self._run[pod]}",
            namespace=self.namespace,
            pod=f"pod-{pod}-{self._run[pod]}",
            container=declared.names[slot],
            container_id=f"{slot}-{self._run[pod]}",
            owner=f"owner-{self.nodes[node]}-{pod}",
            image_id=f"{self.namespace}/{declared.names[slot]}",
            spec=_at(self._kubelets.spec, node, slot),
            allocated=in_force,
            actual=in_force,
            admitted=self._admitted[node][slot] if is_set else None,
            request_set=is_set,
            limit_set=is_set and has_limit,
            generation=generation,
            observed_generation=generation,
            pending=Pending.DEFERRED if deferred else Pending.NOTHING,
            qos=QosClass.BURSTABLE,
            age_seconds=max(seconds - float(self._born[pod]), 0.0),
            priority_class=declared.priority[slot],
        )

    def _resources(self, settings: Settings, node: int) -> list[CpuResources]:
        return [_at(settings, node, slot) for slot in range(len(self._slots))]

    def _answer(
        self, node: int, order: Order, outcome: Outcome, status: int, *, generation: int = 0
    ) -> None:
        result = OrderResult(
            order_id=order.order_id, outcome=outcome, status=status, generation=generation
        )
        self._results.setdefault(node, []).append(result)


def _name_node(prefix: str) -> str:
    """Returns a name whose phase is near a multiple of LUMP_SECONDS.

    A round costs the same for one node as for ten, so they come in lumps, as far apart as the
    resize budget may be saved up for: the budget is no narrower than with even phases.
    """
    for number in count():
        name = f"{prefix}-{number}"
        if zlib.crc32(name.encode()) % round(LUMP_SECONDS * 1000) < LUMP_WIDTH_MILLISECONDS:
            return name
    raise AssertionError("numbers do not end")


def _at(settings: Settings, node: int, slot: int) -> CpuResources:
    limit = float(settings.limit_millicores[node, slot])
    return CpuResources(
        request_millicores=round(float(settings.request_millicores[node, slot])),
        limit_millicores=None if np.isinf(limit) else round(limit),
    )


def _write(wanted: Settings, node: int, slot: int, order: Order) -> None:
    desired = order.desired
    if desired.request_millicores is not None:
        wanted.request_millicores[node, slot] = desired.request_millicores
    if desired.limit_millicores is not None:
        wanted.limit_millicores[node, slot] = desired.limit_millicores
    if order.burst_usec is not None:
        wanted.burst_millicores[node, slot] = order.burst_usec / USEC_PER_MILLICORE
