"""What a server on Kubernetes has beside the others, put together for `app`."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mbcas_server.auth import KubernetesAuthenticator
from mbcas_server.kube.client import KubeClient, connect
from mbcas_server.kube.lease import LeaseLeadership
from mbcas_server.kube.objects import OwnObjects
from mbcas_server.kube.reviews import OTHER_REVIEWS_AT_ONCE, SHIM_REVIEWS_AT_ONCE, KubeReviews
from mbcas_server.kube.watches import ClusterWatches
from mbcas_server.settings import Settings
from mbcas_server.shell import Shell

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where every pod finds its own."""


class NoNamespaceError(Exception):
    """Nobody says where the Lease is; the message names the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Who decides, who may call, and what the cluster adds."""

    leadership: LeaseLeadership
    authenticator: KubernetesAuthenticator
    objects: OwnObjects


@asynccontextmanager
async def on_kubernetes(
    shell: Shell,
    *,
    prepare: Callable[[], Awaitable[None]],
    displaced: Callable[[], None],
) -> AsyncIterator[Cluster]:
    """Connects, follows the cluster, and takes the Lease once it is free.

    Args:
        shell: What there is already.
        prepare: What else must be done before this server decides.
        displaced: Called once another server decides.

    Raises:
        CannotConnectError: There is no way to an API server.
        NoNamespaceError: There is no place for the Lease.
    """
    namespace = _namespace(shell.settings)
    client = await connect(shell.settings.kubeconfig)
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[None]] = []
            cluster = _make(
                shell,
                client,
                namespace,
                start=lambda name, work: tasks.append(group.create_task(work, name=name)),
                prepare=prepare,
                displaced=displaced,
            )
            try:
                yield cluster
            except Exception as error:  # noqa: BLE001 - raised below: the group would wrap it.
                failure = error
            for task in tasks:
                task.cancel()
        await cluster.leadership.give_up()
    finally:
        await client.close()
    if failure is not None:
        raise failure


def _make(
    shell: Shell,
    client: KubeClient,
    namespace: str,
    *,
    start: Callable[[str, Coroutine[None, None, None]], None],
    prepare: Callable[[], Awaitable[None]],
    displaced: Callable[[], None],
) -> Cluster:
    clock, metrics, links = shell.clock, shell.metrics, shell.links

    def review(namespaces: AbstractSet[str], nodes: AbstractSet[str]) -> None:
        objects.surroundings_changed(namespaces, nodes)

    watches = ClusterWatches(
        client=client,
        clock=clock,
        metrics=metrics,
        on_change=review,
    )

    async def load() -> None:
        """Reads what must be known before the first report is taken in."""
        for mirror in watches.mirrors:
            await mirror.start()
        # Not before the Lease is held: the one who held it may have written until then.
        await objects.start()
        start("objects", objects.run())
        await prepare()

    leadership = LeaseLeadership(
        client=client,
        clock=clock,
        metrics=metrics,
        settings=shell.settings,
        namespace=namespace,
        identity=f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}",
        prepare=load,
        end_streams=links.end_streams,
        lose=displaced,
    )
    objects = OwnObjects(
        client=client,
        facts=watches,
        leadership=leadership,
        links=links,
        core=shell.core,
        settings=shell.settings,
        clock=clock,
        metrics=metrics,
    )
    for mirror in watches.mirrors:
        start(f"watch {mirror.path}", mirror.run())
    start("lease", leadership.run())
    reviews = partial(KubeReviews, client=client, clock=clock, metrics=metrics)
    authenticator = KubernetesAuthenticator(
        reviews(at_once=OTHER_REVIEWS_AT_ONCE),
        shim_reviews=reviews(at_once=SHIM_REVIEWS_AT_ONCE),
        shim_service_account=shell.settings.shim_service_account,
    )
    return Cluster(leadership=leadership, authenticator=authenticator, objects=objects)


def _namespace(settings: Settings) -> str:
    if settings.kubernetes_namespace:
        return settings.kubernetes_namespace
    try:
        return NAMESPACE_FILE.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NoNamespaceError(
            f"kubernetes_namespace: is not set, and this is no pod: {error}"
        ) from error
