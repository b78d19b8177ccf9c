"""A small simulated cluster around the core: nodes, shims, kubelets and kernels in virtual time.

`World.second(mishap)` lives through one second: loads run under their quotas, shims carry out or
lose orders and report, the core ticks. A `Mishap` says what goes wrong in it; which node or
container it hits comes from the seed. The world knows what is really set, so watchers can hold the
core against the truth instead of against its own books.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mbcas_core.effects import Effect, Order, RequestInventory, SendOrders
from mbcas_core.events import (
    ContainerFacts,
    CpuResources,
    Enforcement,
    Event,
    Mode,
    NodeAttached,
    NodeDetached,
    NodeFacts,
    OrderResult,
    Outcome,
    Policy,
    Report,
    ReportArrived,
    Samples,
    TickDue,
    WritesFrozen,
)
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds
from tests.mbcas_core.cluster import (
    MAX_CONTAINERS,
    ORDERS_GO,
    SAMPLE_NOW,
    Container,
    Mishap,
    Node,
    Pending,
    draw_container,
    spoil,
    take_samples,
)

FAST_PARAMETERS = Parameters(
    mode=Mode.AUTO,
    round_period_seconds=4.0,
    startup_grace_seconds=3.0,
    dwell_down_seconds=4.0,
    pod_spacing_seconds=3.0,
    backoff_seconds=3.0,
    foreign_rest_seconds=10.0,
    stale_after_seconds=8.0,
    emergency_decay_seconds=8.0,
    need_window_seconds=4.0,
    audit_share=1.0,
)
"""Short times, so that much happens in a short history."""
MATE_CHANCE = 0.3


Watcher = Callable[["World", Event, Effect], None]


class World:
    """Everything outside the core, and the core."""

    def __init__(self, seed: int, *, parameters: Parameters = FAST_PARAMETERS) -> None:
        self.random = np.random.default_rng(seed)
        self.parameters = parameters
        self.rounds = Rounds(parameters)
        self.now = 1000.0
        self.frozen = False
        self.thaw_at = np.inf
        self.log: list[tuple[Event, list[Effect]]] = []
        self.on_effect: list[Watcher] = []
        self.before_tick: list[Callable[[World], None]] = []
        self.on_tick: list[Callable[[World], None]] = []
        self.nodes = [
            Node(name="resize-node", facts=self._node_facts(Enforcement.RESIZE)),
            Node(name="cgroup-node", facts=self._node_facts(Enforcement.CGROUP)),
        ]
        self._serial = 0
        for node in self.nodes:
            for _ in range(int(self.random.integers(2, 6))):
                self._arrive(node)
            self._attach(node)

    def run(self, mishaps: list[Mishap]) -> "World":
        for mishap in mishaps:
            self.second(mishap)
        return self

    def second(self, mishap: Mishap = Mishap.NOTHING) -> None:
        """Lives through a second in which this happens."""
        self.now += 1.0
        node = self.nodes[int(self.random.integers(len(self.nodes)))]
        self._happen(mishap, node)
        if self.now >= self.thaw_at:
            self._freeze(frozen=False)
        for each in self.nodes:
            if self.now >= each.back_at:
                self._attach(each)
            self._execute(each)
            for container in each.containers:
                container.kernel.second(cpus=each.facts.cpu_count)
            self._report(each, mishap if each is node else Mishap.NOTHING)
            self._arrive_reports(each)
        for watch in self.before_tick:
            watch(self)
        self.tell(TickDue(time_seconds=self.now + 0.5))
        for watch in self.on_tick:
            watch(self)

    def tell(self, event: Event) -> None:
        """Lets the core handle an event and carries out what follows."""
        effects = self.rounds.handle(event)
        self.log.append((event, effects))
        for effect in effects:
            for watch in self.on_effect:
                watch(self, event, effect)
            match effect:
                case SendOrders():
                    self._take_orders(effect)
                case RequestInventory():
                    self.node(effect.node).wants_inventory = True
                case _:
                    pass

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def find(self, node: str, order: Order) -> Container | None:
        """The container that an order is about."""
        key = (order.pod_uid, order.container)
        return next((c for c in self.node(node).containers if c.key == key), None)

    # What happens.

    def _happen(self, mishap: Mishap, node: Node) -> None:
        container = self._one_of(node)
        if container is not None:
            self._happen_to_container(mishap, node, container)
        self._happen_to_node(mishap, node)
        self._happen_to_link(mishap, node)

    def _happen_to_container(self, mishap: Mishap, node: Node, container: Container) -> None:
        match mishap:
            case Mishap.SURGE:
                container.kernel.mean_millicores = float(self.random.integers(300, 3000))
            case Mishap.CALM:
                container.kernel.mean_millicores = float(self.random.integers(0, 60))
            case Mishap.RESTART:
                self._restart(container)
            case Mishap.LEAVE:
                node.containers.remove(container)
                if container.told:
                    node.removed.append(container.facts.handle)
            case Mishap.FOREIGN_CHANGE:
                self._change_elsewhere(node, container)
            case _:
                pass

    def _happen_to_node(self, mishap: Mishap, node: Node) -> None:
        facts = node.facts
        match mishap:
            case Mishap.ARRIVE if len(node.containers) < MAX_CONTAINERS:
                self._arrive(node)
            case Mishap.NODE_SHRINKS:
                self._set_node(node, allocatable=int(facts.allocatable_millicores * 0.6))
            case Mishap.NODE_GROWS:
                self._set_node(node, allocatable=int(facts.allocatable_millicores * 1.4))
            case Mishap.UNMANAGED_GROWS:
                more = int(self.random.integers(-500, 1500))
                self._set_node(node, unmanaged=max(0, facts.unmanaged_millicores + more))
            case Mishap.CLOCK_JUMP:
                node.clock_offset += float(self.random.choice([-500.0, -2.0, 3.0, 1000.0]))
            case _:
                pass

    def _happen_to_link(self, mishap: Mishap, node: Node) -> None:
        if mishap in ORDERS_GO:
            node.orders_go = mishap
        match mishap:
            case Mishap.SILENCE:
                node.silent_until = self.now + 12.0
            case Mishap.DETACH if node.connected:
                self._detach(node)
            case Mishap.REATTACH:
                self._attach(node)
            case Mishap.FREEZE:
                self._freeze(frozen=True)
                self.thaw_at = self.now + 5.0
            case _:
                pass

    def _one_of(self, node: Node) -> Container | None:
        if not node.containers:
            return None
        return node.containers[int(self.random.integers(len(node.containers)))]

    def _set_node(
        self, node: Node, *, allocatable: int | None = None, unmanaged: int | None = None
    ) -> None:
        facts = node.facts
        node.facts = replace(
            facts,
            allocatable_millicores=min(
                max(allocatable or facts.allocatable_millicores, 200), 16000
            ),
            unmanaged_millicores=facts.unmanaged_millicores if unmanaged is None else unmanaged,
        )
        node.facts_changed = True

    def _node_facts(self, enforcement: Enforcement) -> NodeFacts:
        return NodeFacts(
            allocatable_millicores=int(self.random.integers(1000, 3500)),
            unmanaged_millicores=int(self.random.integers(0, 300)),
            cpu_count=4,
            enforcement=enforcement,
        )

    def _freeze(self, *, frozen: bool) -> None:
        self.frozen, self.thaw_at = frozen, np.inf
        self.tell(WritesFrozen(frozen=frozen))

    def _attach(self, node: Node) -> None:
        """A new stream: handles are given out anew, and orders not begun are void."""
        node.connected = node.wants_inventory = node.facts_changed = True
        node.reports, node.results, node.removed, node.back_at = [], [], [], np.inf
        for container in node.containers:
            container.pending = []
        for handle, container in enumerate(reversed(node.containers), start=1):
            container.facts = replace(container.facts, handle=handle)
        node.next_handle = len(node.containers) + 1
        self.tell(NodeAttached(node=node.name, time_seconds=self.now))

    def _detach(self, node: Node) -> None:
        node.connected = False
        node.reports = []
        node.back_at = self.now + float(self.random.integers(1, 12))
        self.tell(NodeDetached(node=node.name, time_seconds=self.now))

    def _arrive(self, node: Node) -> None:
        """A container starts, by chance in another one's pod and with a handle that was used."""
        self._serial += 1
        used = {c.facts.handle for c in node.containers} | set(node.removed)
        free = [handle for handle in range(1, node.next_handle) if handle not in used]
        handle = free[0] if free else node.next_handle
        node.next_handle = max(node.next_handle, handle + 1)
        mate = self._one_of(node) if self.random.random() < MATE_CHANCE else None
        local = node.facts.enforcement == Enforcement.CGROUP
        node.containers.append(
            draw_container(self.random, handle, self._serial, mate=mate, local=local)
        )

    def _restart(self, container: Container) -> None:
        self._serial += 1
        container.facts = replace(
            container.facts,
            container_id=f"run-{self._serial}",
            restart_count=container.facts.restart_count + 1,
            age_seconds=0.0,
        )
        container.kernel.restart(container.limit)
        container.changed = True

    def _change_elsewhere(self, node: Node, container: Container) -> None:
        """Somebody patches the pod; where the shim writes cgroups itself, nobody else does."""
        if node.facts.enforcement == Enforcement.CGROUP or container.request is None:
            return
        if container.untold is None:
            container.untold = container.truth()
        request = int(self.random.integers(1, 20)) * 50
        limit = None if container.limit is None else request
        if limit is not None and container.facts.policy != Policy.HARD_QUOTA:
            limit += 200
        container.request = container.actual_request = request
        container.limit = limit
        container.follows_at = self.now + 1.0
        container.changed = True
        container.facts = replace(container.facts, generation=container.facts.generation + 1)

    # Orders.

    def _take_orders(self, effect: SendOrders) -> None:
        node = self.node(effect.node)
        for order in effect.orders:
            container = self.find(effect.node, order)
            if container is None:
                result = OrderResult(order_id=order.order_id, outcome=Outcome.STALE)
                node.results.append((self.now + 1.0, result))
                continue
            container.pending.append(self._fate(node, order))

    def _fate(self, node: Node, order: Order) -> Pending:
        due = self.now + float(self.random.choice([0.6, 0.6, 2.0, 4.0]))
        happens, outcome, answer = True, Outcome.APPLIED, due + 0.2
        match node.orders_go:
            case Mishap.REFUSE_ORDERS:
                happens, outcome = False, Outcome.REFUSED
            case Mishap.FAIL_ORDERS:
                happens, outcome = bool(self.random.random() < 0.5), Outcome.FAILED
            case Mishap.LOSE_ORDERS:
                happens = bool(self.random.random() < 0.5)
                return Pending(order, due, outcome, happens, None)
            case Mishap.SLOW_ORDERS:
                answer = due + 12.0
            case _:
                pass
        return Pending(order, due, outcome, happens, answer)

    def _execute(self, node: Node) -> None:
        for container in node.containers:
            for pending in [p for p in container.pending if p.due <= self.now]:
                container.pending.remove(pending)
                self._carry_out(node, container, pending)
            if container.follows_at <= self.now:
                container.follows_at = np.inf
                container.kernel.set_limit(container.limit)
                container.actual_request = container.request
                container.changed = container.changed or bool(self.random.random() < 0.5)

    def _carry_out(self, node: Node, container: Container, pending: Pending) -> None:
        order, outcome = pending.order, pending.outcome
        local = node.facts.enforcement == Enforcement.CGROUP
        if not local and order.expected_generation not in (0, container.facts.generation):
            pending.happens, outcome = False, Outcome.STALE
        if pending.happens:
            desired = order.desired
            container.request = desired.request_millicores or container.request
            container.limit = desired.limit_millicores or container.limit
            if local:
                container.actual_request = container.request
                container.kernel.set_limit(container.limit)
            else:
                container.follows_at = self.now + float(self.random.choice([0.0, 1.0, 5.0]))
                generation = container.facts.generation + 1
                container.facts = replace(container.facts, generation=generation)
                container.changed = True
        if pending.answers_at is not None:
            actual = CpuResources(
                request_millicores=container.request, limit_millicores=container.limit
            )
            result = OrderResult(
                order_id=order.order_id,
                outcome=outcome,
                generation=container.facts.generation,
                actual=actual if local else None,
            )
            node.results.append((pending.answers_at, result))

    # Reports.

    def _report(self, node: Node, mishap: Mishap) -> None:
        if not node.connected or self.now < node.silent_until:
            return
        due = [result for time, result in node.results if time <= self.now]
        node.results = [(time, result) for time, result in node.results if time > self.now]
        full = node.wants_inventory
        listed = [c for c in node.containers if full or c.changed]
        samples = self._sample(node, mishap)
        if mishap is Mishap.LOSE_REPORT:
            # The server sees the gap in the sequence and asks for everything.
            node.wants_inventory = node.facts_changed = True
            node.removed = []
            return
        report = Report(
            full_inventory=full,
            node_facts=node.facts if node.facts_changed or full else None,
            removed_handles=() if full else tuple(node.removed),
            containers=tuple(self._facts(container) for container in listed),
            samples=() if mishap is Mishap.LOSE_SAMPLES else samples,
            results=tuple(due),
        )
        for container in listed:
            container.changed = False
        node.wants_inventory = node.facts_changed = False
        node.removed = []
        lag = 3.0 if mishap is Mishap.DELAY_REPORTS else 0.1
        after = max([self.now + lag, *(time for time, _, _ in node.reports)])
        event = ReportArrived(node=node.name, time_seconds=after, report=report)
        node.reports.append((after, event, listed))

    def _facts(self, container: Container) -> ContainerFacts:
        limit = container.limit
        return replace(
            container.facts,
            spec=CpuResources(request_millicores=container.request, limit_millicores=limit),
            allocated=CpuResources(request_millicores=container.request, limit_millicores=limit),
            actual=CpuResources(
                request_millicores=container.actual_request,
                limit_millicores=container.kernel.limit_millicores if limit else None,
            ),
        )

    def _arrive_reports(self, node: Node) -> None:
        while node.reports and node.reports[0][0] <= self.now + 0.4:
            _, event, listed = node.reports.pop(0)
            self._note_told(node, event.report)
            for container, facts in zip(listed, event.report.containers, strict=True):
                container.told = True
                if facts.generation == container.facts.generation:
                    container.untold = None
            self.tell(event)

    def _note_told(self, node: Node, report: Report) -> None:
        node.last_arrival = self.now
        node.told_facts = report.node_facts or node.told_facts
        if report.full_inventory:
            node.known = {}
        for handle in report.removed_handles:
            node.known.pop(handle, None)
        for facts in report.containers:
            node.known[facts.handle] = (facts.pod_uid, facts.container)

    def _sample(self, node: Node, mishap: Mishap) -> tuple[Samples, ...]:
        due = [c for c in node.containers if c.kernel.sample_is_due() or mishap in SAMPLE_NOW]
        if not due:
            return ()
        samples = take_samples(due, time_seconds=self.now + node.clock_offset)
        before, node.last_samples = node.last_samples, samples
        match mishap:
            case Mishap.REPEAT_SAMPLES:
                return (samples, samples)
            case Mishap.REORDER_SAMPLES if before is not None:
                return (samples, before)
            case Mishap.GARBAGE_COUNTERS:
                return (spoil(self.random, samples),)
            case _:
                return (samples,)
