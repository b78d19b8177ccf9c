"""A small Kubernetes in virtual time: pods, an API server, a kubelet, and what a shim sees of them.

The API server judges every patch as the real one does (QoS class, request above limit, generation,
quota); the kubelet sees, admits, carries out and shows it, each a little later. What nobody may ask
of it is collected in `crimes`.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from mbcas_core.effects import Order
from mbcas_core.events import (
    ContainerFacts,
    CpuResources,
    Enforcement,
    Mode,
    NodeFacts,
    OrderResult,
    Outcome,
    Pending,
    Policy,
    QosClass,
    Samples,
)
from tests.mbcas_core.load import Kernel

MEMORY = 64
MAX_PODS = 8


@dataclass
class KubeContainer:
    """One container: what it says, what is admitted, enforced and shown."""

    name: str
    request: int | None
    limit: int | None
    kernel: Kernel
    memory: tuple[int, int]
    admitted: CpuResources = field(default_factory=CpuResources)
    allocated_request: int | None = None
    allocated_limit: int | None = None
    shown: CpuResources = field(default_factory=CpuResources)
    request_set: bool = False
    limit_set: bool = False
    disowned: bool = False
    """Somebody has cleared `managedFields`, so nobody is said to have set anything."""
    handle: int = 0
    run: int = 0

    def __post_init__(self) -> None:
        self.admitted = CpuResources(request_millicores=self.request, limit_millicores=self.limit)
        self.shown = self.admitted
        self.allocated_request, self.allocated_limit = self.request, self.limit

    def most(self) -> int:
        """The request that it may be billed with."""
        return max(
            self.request or 0, self.allocated_request or 0, self.shown.request_millicores or 0
        )


@dataclass
class KubePod:
    """One pod and what the kubelet makes of it."""

    uid: str
    facts: ContainerFacts
    """What its containers have in common."""
    containers: list[KubeContainer]
    generation: int = 1
    observed: int = 1
    pending: Pending = Pending.NOTHING
    seen_at: float = 0.0
    changed: bool = True
    untold: bool = False
    """Somebody else changed it, and the core has not heard of it."""
    webhook: bool = False

    def qos(self) -> QosClass:
        return qos_of([(c.request, c.limit, c.memory) for c in self.containers])

    def disown(self) -> None:
        """Somebody clears its `managedFields`, without a word about who set what."""
        for container in self.containers:
            container.disowned = self.changed = True

    def but_for_cpu(self) -> bool:
        alike = qos_of([(1, 1, c.memory) for c in self.containers]) == QosClass.GUARANTEED
        return alike and self.qos() != QosClass.GUARANTEED


def qos_of(containers: list[tuple[int | None, int | None, tuple[int, int]]]) -> QosClass:
    """As Kubernetes computes it from CPU request, CPU limit and (memory request, limit)."""
    values = [v for request, limit, memory in containers for v in (request, limit, *memory)]
    if not any(values):
        return QosClass.BEST_EFFORT
    equal = all(
        request and request == limit and memory[0] and memory[0] == memory[1]
        for request, limit, memory in containers
    )
    return QosClass.GUARANTEED if equal else QosClass.BURSTABLE


class KubeCluster:
    """One node and its API server."""

    def __init__(self, seed: int, *, allocatable: int | None, fast: bool) -> None:
        self.random = np.random.default_rng(seed)
        self.now = 1000.0
        self.serial = 0
        self.pods: list[KubePod] = []
        self.removed: list[int] = []
        self.results: list[OrderResult] = []
        self.crimes: list[str] = []
        self.patches = 0
        self.neighbour = self.told_neighbour = 0
        self.neighbour_told_at = -np.inf
        self.kubelet_up = self.api_up = True
        self.too_many_until = -np.inf
        self.quota_full = False
        self.facts = NodeFacts(
            allocatable_millicores=allocatable or int(self.random.integers(1500, 4000)),
            cpu_count=8,
            enforcement=Enforcement.RESIZE,
            fast_kubelet=fast,
        )

    # Who is there.

    def fill(self) -> None:
        """The scheduler fills the node; the core hears of it some seconds later."""
        held = sum(c.allocated_request or 0 for pod in self.pods for c in pod.containers)
        self.neighbour = max(self.facts.allocatable_millicores - held, 0)
        self.neighbour_told_at = self.now + 4.0

    def arrive(self) -> KubePod:
        policy = Policy(int(self.random.integers(1, 5)))
        equal_memory = bool(self.random.random() < 0.5)
        memory = (MEMORY, MEMORY if equal_memory else 2 * MEMORY)
        guaranteed = equal_memory and bool(self.random.random() < 0.4)
        count = 2 if self.random.random() < 0.3 else 1
        cpu = [self._draw_cpu(guaranteed=guaranteed) for _ in range(count)]
        strict = bool(self.random.random() < 0.2)
        return self.add(cpu, memory=memory, policy=policy, strict=strict)

    def _draw_cpu(self, *, guaranteed: bool) -> tuple[int | None, int | None]:
        request = int(self.random.integers(1, 12)) * 50
        if guaranteed:
            return request, request
        kind = self.random.random()
        if kind < 0.05:
            return None, None
        if kind < 0.15:
            return request, None
        if kind < 0.25:  # As people write them, without a thought for the node.
            return request, 16_000
        return request, request + int(self.random.integers(0, 6)) * 100

    def add(
        self,
        cpu: list[tuple[int | None, int | None]],
        *,
        memory: tuple[int, int] = (MEMORY, 2 * MEMORY),
        policy: Policy = Policy.LIMITS_ONLY,
        mode: Mode | None = None,
        strict: bool = False,
        namespace: str = "shop",
    ) -> KubePod:
        """Starts a pod with these CPU requests and limits."""
        self.serial += 1
        uid = f"uid-{self.serial}"
        facts = ContainerFacts(
            handle=1,
            pod_uid=uid,
            namespace=namespace,
            pod=f"pod-{self.serial}",
            container="",
            container_id="",
            spec=CpuResources(),
            age_seconds=3600.0,
            policy=policy,
            mode=mode,
            strict=strict or None,
        )
        containers = []
        for number, (request, limit) in enumerate(cpu):
            kernel = Kernel(np.random.default_rng(int(self.random.integers(1 << 40))), limit)
            container = KubeContainer(f"c{number}", request, limit, kernel, memory)
            container.handle = self.serial * 10 + number
            containers.append(container)
        pod = KubePod(uid, facts, containers)
        self.pods.append(pod)
        return pod

    def change_elsewhere(self, pod: KubePod, limit: int | None = None) -> None:
        """Somebody else patches the first container, without changing the QoS class."""
        container, qos = pod.containers[0], pod.qos()
        if container.limit is None or qos == QosClass.BEST_EFFORT:
            return
        # A number that is never by chance the one that was just sent.
        new = limit or int(self.random.integers(2, 20)) * 50 + 7
        request = new if qos == QosClass.GUARANTEED else min(container.request or new, new)
        asked = [(c.request, c.limit, c.memory) for c in pod.containers]
        if (request, new) == asked[0][:2] or qos_of(
            [(request, new, asked[0][2]), *asked[1:]]
        ) != qos:
            return
        if request != container.request:
            container.request_set = False
        if new != container.limit:
            container.limit_set = False
        container.request, container.limit = request, new
        container.admitted = CpuResources(
            request_millicores=container.admitted.request_millicores
            if container.request_set
            else request,
            limit_millicores=container.admitted.limit_millicores if container.limit_set else new,
        )
        pod.generation += 1
        pod.changed = pod.untold = True

    # The API server.

    def find(self, order: Order) -> tuple[KubePod, KubeContainer] | None:
        for pod in self.pods:
            for container in pod.containers:
                if (pod.uid, container.name) == (order.pod_uid, order.container):
                    return pod, container
        return None

    def patch_pods(self, orders: list[Order]) -> None:
        """Carries out orders as a shim does: the containers of a pod together."""
        together: dict[str, list[Order]] = {}
        for order in orders:
            together.setdefault(order.pod_uid, []).append(order)
        for own in together.values():
            self._patch(own)

    def _patch(self, orders: list[Order]) -> None:
        if all(order.desired == CpuResources() for order in orders):
            self._answer(orders, Outcome.APPLIED)
            return
        found = self.find(orders[0])
        if found is None:
            self._answer(orders, Outcome.STALE, 404)
            return
        pod = found[0]
        refusal = self._refusal(pod, orders)
        if refusal is None:
            self._write(pod, orders)
            self._answer(orders, Outcome.APPLIED, 200, generation=pod.generation)
            return
        outcome, status = refusal
        if outcome == Outcome.FAILED and self.random.random() < 0.3:
            self._write(pod, orders)
        self._answer(orders, outcome, status, retry_after=3.0 if status == 429 else None)

    def _refusal(self, pod: KubePod, orders: list[Order]) -> tuple[Outcome, int] | None:
        if not self.api_up:
            return Outcome.FAILED, 503
        if self.now < self.too_many_until:
            return Outcome.REFUSED, 429
        if orders[0].expected_generation != pod.generation:
            return Outcome.STALE, 409
        if pod.webhook:
            return Outcome.REFUSED, 422
        if self.quota_full and self._raises(orders):
            return Outcome.REFUSED, 403
        return None

    def _raises(self, orders: list[Order]) -> bool:
        for order in orders:
            found = self.find(order)
            if found is None:
                continue
            desired, container = order.desired, found[1]
            if (desired.request_millicores or 0) > (container.request or 0):
                return True
            if (desired.limit_millicores or 0) > (container.limit or 0):
                return True
        return False

    def _write(self, pod: KubePod, orders: list[Order]) -> None:
        qos = pod.qos()
        for order in orders:
            found = self.find(order)
            if found is not None:
                self._write_container(found[1], order)
        if pod.qos() != qos:
            self.crimes.append(f"QoS class {qos.name} to {pod.qos().name}: {orders}")
        pod.generation += 1
        pod.changed = True
        self.patches += 1

    def _write_container(self, container: KubeContainer, order: Order) -> None:
        request, limit = order.desired.request_millicores, order.desired.limit_millicores
        container.disowned = False
        if request is not None:
            if container.request is None:
                self.crimes.append(f"adds a request: {order}")
            container.request, container.request_set = request, True
        if limit is not None:
            if container.limit is None:
                self.crimes.append(f"adds a limit: {order}")
            container.limit, container.limit_set = limit, True
        if container.limit is not None and (container.request or 0) > container.limit:
            self.crimes.append(f"request above limit: {order} {container}")

    def _answer(
        self,
        orders: list[Order],
        outcome: Outcome,
        status: int = 0,
        *,
        retry_after: float | None = None,
        generation: int = 0,
    ) -> None:
        self.results += [
            OrderResult(
                order_id=order.order_id,
                outcome=outcome,
                status=status,
                retry_after_seconds=retry_after,
                generation=generation,
                message="no CPU is left" if status == 403 else "",
            )
            for order in orders
        ]

    # The kubelet.

    def kubelet_second(self) -> None:
        for pod in self.pods:
            if pod.observed < pod.generation:
                pod.observed, pod.seen_at, pod.changed = pod.generation, self.now, True
            before = pod.pending
            self._admit(pod)
            if pod.pending == Pending.NOTHING and self.now > pod.seen_at:
                self._show(pod)
            pod.changed |= before != pod.pending

    def _admit(self, pod: KubePod) -> None:
        asked = sum(c.request or 0 for c in pod.containers)
        others = sum(
            c.allocated_request or 0 for p in self.pods if p is not pod for c in p.containers
        )
        held = sum(c.allocated_request or 0 for c in pod.containers)
        free = self.facts.allocatable_millicores - self.neighbour - others
        pod.pending = Pending.NOTHING
        if asked > held and asked > self.facts.allocatable_millicores:
            pod.pending = Pending.INFEASIBLE
        elif asked > held and asked > free:
            pod.pending = Pending.DEFERRED
        if pod.pending != Pending.NOTHING:
            return
        for container in pod.containers:
            container.allocated_request, container.allocated_limit = (
                container.request,
                container.limit,
            )
            container.kernel.set_limit(container.limit)

    def _show(self, pod: KubePod) -> None:
        """The status follows the kernel within a second or so."""
        for container in pod.containers:
            shown = CpuResources(
                request_millicores=container.allocated_request,
                limit_millicores=container.allocated_limit,
            )
            pod.changed |= shown != container.shown
            container.shown = shown

    # What a shim sees.

    def facts_of(self, pod: KubePod, container: KubeContainer) -> ContainerFacts:
        """What the shim and the server make of a container."""
        admitted = container.admitted
        request_set = container.request_set and not container.disowned
        limit_set = container.limit_set and not container.disowned
        return replace(
            pod.facts,
            handle=container.handle,
            container=container.name,
            container_id=f"{pod.uid}-{container.name}-{container.run}",
            spec=CpuResources(
                request_millicores=container.request, limit_millicores=container.limit
            ),
            allocated=CpuResources(request_millicores=container.allocated_request),
            actual=container.shown,
            admitted=CpuResources(
                request_millicores=admitted.request_millicores if request_set else None,
                limit_millicores=admitted.limit_millicores if limit_set else None,
            ),
            request_set=request_set,
            limit_set=limit_set,
            generation=pod.generation,
            observed_generation=pod.observed,
            pending=pod.pending if pod.observed == pod.generation else Pending.NOTHING,
            qos=pod.qos(),
            guaranteed_but_for_cpu=pod.but_for_cpu(),
            restart_count=container.run,
        )

    def take_samples(self) -> Samples:
        containers = [c for pod in self.pods for c in pod.containers]
        details = [c.kernel.take_detail() for c in containers]
        seconds = [second for detail in details for second in detail]
        columns = [c.kernel.counters() for c in containers]
        return Samples(
            node_time_seconds=self.now,
            handles=np.array([c.handle for c in containers], np.int32),
            counters=np.stack(columns, axis=1),
            detail_seconds=np.array([len(detail) for detail in details], np.uint8),
            slice_millicores=np.array([x for slices, _ in seconds for x in slices], np.uint16),
            second_throttled=np.array([count for _, count in seconds], np.uint8),
        )
