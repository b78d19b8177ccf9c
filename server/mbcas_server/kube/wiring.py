"""What a server on Kubernetes has beside the others, put together for `app`."""

import asyncio
import logging
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mbcas_server.auth import KubernetesAuthenticator
from mbcas_server.clock import Clock
from mbcas_server.kube.client import connect
from mbcas_server.kube.lease import LeaseLeadership
from mbcas_server.kube.reviews import KubeReviews
from mbcas_server.kube.watches import ClusterWatches
from mbcas_server.links import Links
from mbcas_server.metrics import Metrics
from mbcas_server.settings import Settings

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where every pod finds its own."""

logger = logging.getLogger(__name__)


class NoNamespaceError(Exception):
    """Nobody says where the Lease is; the message names the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Who decides, who may call, and what the cluster knows."""

    leadership: LeaseLeadership
    authenticator: KubernetesAuthenticator


@asynccontextmanager
async def on_kubernetes(
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    links: Links,
    *,
    prepare: Callable[[], Awaitable[None]],
    displaced: Callable[[], None],
) -> AsyncIterator[Cluster]:
    """Connects, follows the cluster, and takes the Lease once it is free.

    Args:
        settings: Those of a server with `kubernetes`.
        clock: The time.
        metrics: Where failures are counted.
        links: The streams that a change of the cluster concerns.
        prepare: What else must be done before this server decides.
        displaced: Called once another server decides.

    Raises:
        CannotConnectError: There is no way to an API server.
        NoNamespaceError: There is no place for the Lease.
    """
    namespace = _namespace(settings)
    client = await connect(settings.kubeconfig)
    watches = ClusterWatches(
        client=client, clock=clock, metrics=metrics, on_change=_Reviewer(links).review
    )

    async def load() -> None:
        for mirror in watches.mirrors:
            await mirror.start()
        await prepare()

    leadership = LeaseLeadership(
        client=client,
        clock=clock,
        metrics=metrics,
        settings=settings,
        namespace=namespace,
        identity=f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}",
        prepare=load,
        end_streams=links.end_streams,
        lose=displaced,
    )
    reviews = KubeReviews(client=client, clock=clock, metrics=metrics)
    authenticator = KubernetesAuthenticator(
        reviews, shim_service_account=settings.shim_service_account
    )
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(leadership.run(), name="lease")]
            tasks += [
                group.create_task(mirror.run(), name=f"watch {mirror.path}")
                for mirror in watches.mirrors
            ]
            try:
                yield Cluster(leadership=leadership, authenticator=authenticator)
            except Exception as error:  # noqa: BLE001 - raised below: the group would wrap it.
                failure = error
            for task in tasks:
                task.cancel()
        await leadership.give_up()
    finally:
        await client.close()
    if failure is not None:
        raise failure


class _Reviewer:
    """Has the shims send anew what a change of the cluster concerns."""

    def __init__(self, links: Links) -> None:
        self._links = links

    def review(self, namespaces: AbstractSet[str], nodes: AbstractSet[str]) -> None:
        for link in self._links.connected():
            if link.node in nodes or not link.namespaces.isdisjoint(namespaces):
                link.inbox.ask_inventory("cluster")
                self._links.mark_due(link)


def _namespace(settings: Settings) -> str:
    if settings.kubernetes_namespace:
        return settings.kubernetes_namespace
    try:
        return NAMESPACE_FILE.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NoNamespaceError(
            f"kubernetes_namespace: is not set, and this is no pod: {error}"
        ) from error
