"""What a pod asked for, from the template of the object that made it.

For pods that MBCAS has resized and whose PodAllocation is lost. The template may have changed since
(a StatefulSet's, a DaemonSet's), and what admission added to the pod is not in it: so it is the
second best, and what it leaves open stays unknown.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from mbcas_core.events import CpuResources
from mbcas_server.annotations import parse_cpu
from mbcas_server.clock import Clock
from mbcas_server.kube.client import ApiError, KubeClient, Object, api_path
from mbcas_server.logs import LimitedLog
from mbcas_server.metrics import Metrics

RESOURCES = {
    "ReplicaSet": ("apps/v1", "replicasets"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "DaemonSet": ("apps/v1", "daemonsets"),
    "Job": ("batch/v1", "jobs"),
    "ReplicationController": ("v1", "replicationcontrollers"),
}
KNOWN_MAX = 10_000  # Controllers; a few kB for each.
WAITING_MAX = 5_000
LOOKUPS_AT_ONCE = 5
KEEP_SECONDS = 600.0  # An answer, also that there is none; then it is asked for anew.
RETRY_SECONDS = 5.0

Template = Mapping[str, CpuResources]
"""By container."""

logger = logging.getLogger(__name__)


class Controller(NamedTuple):
    """The object that made a pod."""

    namespace: str
    kind: str
    name: str


class Found(NamedTuple):
    """What is known of a template."""

    template: Template | None
    until_seconds: float


@dataclass(eq=False, slots=True, kw_only=True)
class Templates:
    """Looks templates up in the background, each once, and says who waits for them."""

    client: KubeClient
    clock: Clock
    metrics: Metrics
    done: Callable[[str], None]
    """Called with a node once all that it waited for is known."""
    _known: OrderedDict[Controller, Found] = field(init=False, default_factory=OrderedDict)
    _waiting: dict[Controller, set[str]] = field(init=False, default_factory=dict)
    """The nodes that wait for each."""
    _queue: asyncio.Queue[Controller] = field(init=False, default_factory=asyncio.Queue)
    _log: LimitedLog = field(init=False)

    def __post_init__(self) -> None:
        self._log = LimitedLog(logger, self.clock)

    def find(self, node: str, controller: Controller) -> Found | None:
        """Returns what is known; None where it is looked up now, for this node among others."""
        found = self._known.get(controller)
        if found is not None and self.clock.now_seconds() < found.until_seconds:
            return found
        if controller.kind not in RESOURCES:
            return Found(None, 0.0)
        nodes = self._waiting.get(controller)
        if nodes is not None:
            nodes.add(node)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting[controller] = {node}
            self._queue.put_nowait(controller)
        else:
            self.metrics.template_lookups.labels(result="dropped").inc()
            return Found(None, 0.0)
        return None

    async def run(self) -> None:
        """Looks up what is asked for, for as long as it is let."""
        async with asyncio.TaskGroup() as group:
            for number in range(LOOKUPS_AT_ONCE):
                group.create_task(self._serve(), name=f"template {number}")

    async def _serve(self) -> None:
        while True:
            controller = await self._queue.get()
            while not await self._look_up(controller):
                await self.clock.sleep_until(self.clock.now_seconds() + RETRY_SECONDS)
            nodes = self._waiting.pop(controller)
            still = set(chain.from_iterable(self._waiting.values()))
            for node in sorted(nodes - still):
                self.done(node)

    async def _look_up(self, controller: Controller) -> bool:
        """Asks once; returns whether there is an answer, though it be that there is none."""
        group, resource = RESOURCES[controller.kind]
        path = api_path(group, resource, namespace=controller.namespace, name=controller.name)
        template: Template | None = None
        try:
            template = _template(await self.client.call("GET", path))
        except ApiError as error:
            self._log.log(
                logging.WARNING,
                "template not found",
                f"controller={controller.namespace}/{controller.kind}/{controller.name} "
                f"error={error}",
            )
            if error.is_transient:
                self.metrics.template_lookups.labels(result="failed").inc()
                return False
        result = "missing" if template is None else "found"
        self.metrics.template_lookups.labels(result=result).inc()
        self._known[controller] = Found(template, self.clock.now_seconds() + KEEP_SECONDS)
        self._known.move_to_end(controller)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return True


def controller_of(namespace: str, text: str) -> Controller | None:
    """Reads "ReplicaSet/web-6d4cf56db6"; None where a pod has no controller."""
    kind, _, name = text.partition("/")
    return Controller(namespace, kind, name) if kind and name else None


def _template(given: Object) -> Template | None:
    """Returns the CPU of the containers of a controller's template; None where it has none."""
    found: object = given
    for key in ("spec", "template", "spec"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return None
    containers: dict[str, CpuResources] = {}
    for key in ("initContainers", "containers"):
        for container in found.get(key) or ():
            if isinstance(container, dict) and isinstance(container.get("name"), str):
                containers[container["name"]] = _resources(container)
    return containers


def _resources(container: Object) -> CpuResources:
    resources = container.get("resources")
    resources = resources if isinstance(resources, dict) else {}
    limit = _cpu(resources.get("limits"))
    request = _cpu(resources.get("requests"))
    # Pods get their limit as request where a template names no request.
    return CpuResources(
        request_millicores=limit if request is None else request, limit_millicores=limit
    )


def _cpu(amounts: object) -> int | None:
    given = amounts.get("cpu") if isinstance(amounts, dict) else None
    return None if given is None else parse_cpu(str(given))
