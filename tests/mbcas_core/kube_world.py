"""The core on a small Kubernetes: its shim, its server, and everything that goes wrong.

`KubeWorld.second(mishap)` lives through one second; which pod a mishap hits comes from the seed.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum, auto

import numpy as np

from mbcas_core import learned
from mbcas_core.effects import Effect, Order, PodNotice, RequestInventory, SendOrders
from mbcas_core.events import (
    Event,
    Mode,
    NodeAttached,
    Outcome,
    ReleaseAsked,
    Report,
    ReportArrived,
    TickDue,
    WritesFrozen,
)
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds
from tests.mbcas_core.kube_cluster import MAX_PODS, KubeCluster, KubePod

NODE = "n"

KUBE_PARAMETERS = Parameters(
    mode=Mode.AUTO,
    round_period_seconds=4.0,
    startup_grace_seconds=4.0,
    dwell_down_seconds=4.0,
    pod_spacing_seconds=5.0,
    backoff_seconds=3.0,
    foreign_rest_seconds=10.0,
    stale_after_seconds=8.0,
    emergency_decay_seconds=8.0,
    need_window_seconds=4.0,
    audit_share=1.0,
)
"""Short times, so that much happens in a short history."""


class Mishap(StrEnum):
    NOTHING = auto()
    SURGE = auto()
    CALM = auto()
    ARRIVE = auto()
    LEAVE = auto()
    RESTART = auto()
    FOREIGN_CHANGE = auto()
    DISOWN = auto()
    NEIGHBOUR = auto()
    FULL = auto()
    KUBELET_DOWN = auto()
    KUBELET_UP = auto()
    API_DOWN = auto()
    API_UP = auto()
    TOO_MANY = auto()
    QUOTA_FULL = auto()
    QUOTA_FREE = auto()
    WEBHOOK = auto()
    LOSE_REPORT = auto()
    REATTACH = auto()
    NEW_SERVER = auto()
    NEW_SERVER_REMEMBERS = auto()
    FREEZE = auto()
    RELEASE = auto()
    MODE = auto()
    HPA = auto()


Watcher = Callable[["KubeWorld", SendOrders], None]


class KubeWorld(KubeCluster):
    """One node, and the core."""

    def __init__(
        self,
        seed: int,
        *,
        parameters: Parameters = KUBE_PARAMETERS,
        pods: int = 4,
        allocatable: int | None = None,
        fast: bool = True,
    ) -> None:
        super().__init__(seed, allocatable=allocatable, fast=fast)
        self.parameters = parameters
        self.rounds = Rounds(parameters)
        self.orders: list[Order] = []
        self.sent: list[tuple[float, Order]] = []
        self.notices: list[PodNotice] = []
        self.effects: list[Effect] = []
        self.log: list[tuple[Event, str]] = []
        self.on_send: list[Watcher] = []
        self.ok: set[int] = set()
        """Orders of which this server was told that they were applied."""
        self.served_since = self.now
        self.kubelet_down_since = self.thaw_at = np.inf
        self.inventory = self.frozen = False
        for _ in range(pods):
            self.arrive()
        self.attach()

    def run(self, mishaps: list[Mishap]) -> "KubeWorld":
        for mishap in mishaps:
            self.second(mishap)
        return self

    def quiet(self, seconds: int) -> "KubeWorld":
        return self.run([Mishap.NOTHING] * seconds)

    def second(self, mishap: Mishap = Mishap.NOTHING) -> None:
        self.now += 1.0
        pod = self.pods[int(self.random.integers(len(self.pods)))] if self.pods else None
        happens = getattr(self, f"_on_{mishap.value}", None)
        hits = getattr(self, f"_hit_{mishap.value}", None)
        if happens is not None:
            happens()
        if hits is not None and pod is not None:
            hits(pod)
        if self.frozen and self.now >= self.thaw_at:
            self.freeze(frozen=False)
        orders, self.orders = self.orders, []
        self.patch_pods(orders)
        if self.kubelet_up:
            self.kubelet_second()
        for each in self.pods:
            for container in each.containers:
                container.kernel.second(cpus=self.facts.cpu_count)
        self._report(lost=mishap == Mishap.LOSE_REPORT)
        self.tell(TickDue(time_seconds=self.now))

    # What happens.

    def _hit_surge(self, pod: KubePod) -> None:
        pod.containers[0].kernel.mean_millicores = float(self.random.integers(300, 2500))

    def _hit_calm(self, pod: KubePod) -> None:
        pod.containers[0].kernel.mean_millicores = float(self.random.integers(0, 60))

    def _hit_leave(self, pod: KubePod) -> None:
        if len(self.pods) > 1:
            self.pods.remove(pod)
            self.removed += [container.handle for container in pod.containers]

    def _hit_restart(self, pod: KubePod) -> None:
        container = pod.containers[0]
        container.run += 1
        container.kernel.restart(container.allocated_limit)
        pod.changed = True

    def _hit_foreign_change(self, pod: KubePod) -> None:
        self.change_elsewhere(pod)

    def _hit_disown(self, pod: KubePod) -> None:
        pod.disown()

    def _hit_webhook(self, pod: KubePod) -> None:
        pod.webhook = not pod.webhook

    def _hit_mode(self, pod: KubePod) -> None:
        modes = [Mode.AUTO, Mode.AUTO, Mode.OFF, Mode.RECOMMEND]
        mode = modes[int(self.random.integers(len(modes)))]
        pod.facts, pod.changed = replace(pod.facts, mode=mode), True

    def _hit_hpa(self, pod: KubePod) -> None:
        scaled = not pod.facts.scaled_by_requests
        pod.facts, pod.changed = replace(pod.facts, scaled_by_requests=scaled), True

    def _on_arrive(self) -> None:
        if len(self.pods) < MAX_PODS:
            self.arrive()

    def _on_neighbour(self) -> None:
        self.neighbour = int(self.random.integers(0, self.facts.allocatable_millicores))

    def _on_full(self) -> None:
        self.fill()

    def _on_kubelet_down(self) -> None:
        if self.kubelet_up:
            self.kubelet_up, self.kubelet_down_since = False, self.now

    def _on_kubelet_up(self) -> None:
        self.kubelet_up, self.kubelet_down_since = True, np.inf

    def _on_api_down(self) -> None:
        self.api_up = False

    def _on_api_up(self) -> None:
        self.api_up = True

    def _on_too_many(self) -> None:
        self.too_many_until = self.now + 5.0

    def _on_quota_full(self) -> None:
        self.quota_full = True

    def _on_quota_free(self) -> None:
        self.quota_full = False

    def _on_reattach(self) -> None:
        self.attach()

    def _on_new_server(self) -> None:
        self.new_server(remembers=False)

    def _on_new_server_remembers(self) -> None:
        self.new_server(remembers=True)

    def _on_freeze(self) -> None:
        self.freeze(frozen=True)
        self.thaw_at = self.now + 5.0

    def _on_release(self) -> None:
        self.release(hold_seconds=10.0)

    # The server and the shim.

    def attach(self) -> None:
        self.orders, self.results, self.removed, self.inventory = [], [], [], True
        self.tell(NodeAttached(node=NODE, time_seconds=self.now))

    def new_server(self, *, remembers: bool) -> None:
        before, self.rounds = self.rounds, Rounds(self.parameters)
        self.log.clear()
        self.ok.clear()
        self.served_since = self.now
        for pod in self.pods:  # Its PodAllocation says what was set of it.
            for container in pod.containers:
                container.disowned = False
        if remembers:
            learned.restore(self.rounds, learned.export(before))
        self.frozen = False
        self.attach()

    def freeze(self, *, frozen: bool) -> None:
        self.frozen = frozen
        self.tell(WritesFrozen(frozen=frozen))

    def release(self, *, hold_seconds: float, namespace: str = "", pod: str = "") -> None:
        self.tell(
            ReleaseAsked(
                namespace=namespace, pod=pod, hold_seconds=hold_seconds, time_seconds=self.now
            )
        )

    def tell(self, event: Event) -> None:
        effects = self.rounds.handle(event)
        self.log.append((event, repr(effects)))
        self.effects += effects
        for effect in effects:
            match effect:
                case SendOrders():
                    for watch in self.on_send:
                        watch(self, effect)
                    self.orders += effect.orders
                    self.sent += [(self.now, order) for order in effect.orders]
                case RequestInventory():
                    self.inventory = True
                case PodNotice():
                    self.notices.append(effect)
                case _:
                    pass

    def _report(self, *, lost: bool) -> None:
        listed = [pod for pod in self.pods if pod.changed or self.inventory]
        if lost:
            self.inventory = True  # The server sees the gap and asks.
            self.removed = []
            return
        results, self.results = self.results, []
        removed, self.removed = self.removed, []
        if self.now >= self.neighbour_told_at:
            self.told_neighbour = self.neighbour
        facts = replace(self.facts, unmanaged_millicores=self.told_neighbour)
        report = Report(
            full_inventory=self.inventory,
            node_facts=facts,
            removed_handles=() if self.inventory else tuple(removed),
            containers=tuple(self.facts_of(pod, c) for pod in listed for c in pod.containers),
            samples=(self.take_samples(),),
            results=tuple(results),
        )
        self.ok |= {r.order_id for r in results if r.outcome == Outcome.APPLIED}
        self.inventory = False
        for pod in listed:
            pod.changed = pod.untold = False
        self.tell(ReportArrived(node=NODE, time_seconds=self.now, report=report))
