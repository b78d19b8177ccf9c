"""The server's own objects on Kubernetes, put together: PodAllocations, their gate, and events."""

import asyncio
import logging
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from mbcas_core.effects import Order, PodNotice
from mbcas_server.clock import Clock
from mbcas_server.core_thread import CoreThread
from mbcas_server.kube.client import KubeClient
from mbcas_server.kube.events import PodEvents
from mbcas_server.kube.facts import ClusterFacts
from mbcas_server.kube.gate import Gate, pod_of
from mbcas_server.kube.pod_allocations import PodAllocations
from mbcas_server.kube.status import StatusWriter
from mbcas_server.kube.surroundings import ClusterSurroundings
from mbcas_server.kube.templates import Templates
from mbcas_server.leadership import Leadership
from mbcas_server.links import Link, Links
from mbcas_server.metrics import Metrics
from mbcas_server.settings import Settings

ASK_SECONDS = 1.0
NODES_MAX = 10_000  # A node whose shim never comes stays here.

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, kw_only=True)
class OwnObjects:
    """Implements `driver.KubeObjects`. Only the server that decides starts it."""

    client: KubeClient
    facts: ClusterFacts
    leadership: Leadership
    links: Links
    core: CoreThread
    settings: Settings
    clock: Clock
    metrics: Metrics
    surroundings: ClusterSurroundings = field(init=False)
    """What reports are read with."""
    allocations: PodAllocations = field(init=False)
    _gate: Gate = field(init=False)
    _events: PodEvents = field(init=False)
    _status: StatusWriter = field(init=False)
    _templates: Templates = field(init=False)
    _found: set[str] = field(init=False, default_factory=set)
    """Nodes that wait for no template any more."""

    def __post_init__(self) -> None:
        client, clock, metrics = self.client, self.clock, self.metrics
        self.allocations = PodAllocations(client=client, clock=clock, metrics=metrics)
        self._templates = Templates(
            client=client, clock=clock, metrics=metrics, done=self._template_found
        )
        self.surroundings = ClusterSurroundings(
            facts=self.facts, allocations=self.allocations, templates=self._templates
        )
        self._gate = Gate(
            allocations=self.allocations,
            leadership=self.leadership,
            links=self.links,
            clock=clock,
            metrics=metrics,
        )
        self._events = PodEvents(client=client, clock=clock, metrics=metrics)
        self._status = StatusWriter(
            allocations=self.allocations,
            core=self.core,
            clock=clock,
            metrics=metrics,
            writes_per_second=self.settings.status_writes_per_second,
        )

    def send(self, link: Link, orders: tuple[Order, ...]) -> None:
        self._gate.put(link, orders)
        for order in orders:
            self._status.note(pod_of(order))

    def tell(self, notice: PodNotice) -> None:
        self._events.put(notice)

    async def start(self) -> None:
        """Lists what was admitted; tries until it is known. No report may be taken in before."""
        await self.allocations.mirror.start()
        logger.info("PodAllocations listed count=%d", len(self.allocations))

    async def run(self) -> None:
        """Watches and writes, for as long as it is let."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.allocations.mirror.run(), name="PodAllocations")
            group.create_task(self._gate.run(), name="gate")
            group.create_task(self._events.run(), name="events")
            group.create_task(self._status.run(), name="status")
            group.create_task(self._templates.run(), name="templates")
            group.create_task(self._ask_again(), name="ask again")

    def surroundings_changed(self, namespaces: AbstractSet[str], nodes: AbstractSet[str]) -> None:
        """Sees the containers of these namespaces, and these nodes, anew."""
        for name in nodes:
            link, millicores = self.links.stream(name), self.facts.allocatable_millicores(name)
            if link is not None and millicores and link.inbox.renew_allocatable(millicores):
                self.links.mark_due(link)
        if not namespaces:
            return
        for link in self.links.connected():
            if not namespaces.isdisjoint(link.inbox.namespaces):
                self._ask_inventory(link, "namespace")

    def _template_found(self, node: str) -> None:
        if len(self._found) < NODES_MAX:
            self._found.add(node)

    async def _ask_again(self) -> None:
        """Has containers whose template was found sent anew.

        Not at once: the report that made the server look may be a stream's first, and not in yet.
        """
        while True:
            await self.clock.sleep_until(self.clock.now_seconds() + ASK_SECONDS)
            for node in sorted(self._found):
                link = self.links.link(node)
                if link is not None:
                    self._found.discard(node)
                    self._ask_inventory(link, "template")

    def _ask_inventory(self, link: Link, why: str) -> None:
        link.inbox.ask_inventory(why)
        self.links.mark_due(link)
