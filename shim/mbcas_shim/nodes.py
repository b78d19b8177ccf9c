"""The two kinds of node: where containers come from, and who changes what they may use."""

import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from mbcas_shim.cgroup import CgroupTree
from mbcas_shim.clock import Clock
from mbcas_shim.counters import Counters
from mbcas_shim.enforce import NodeEnforcer
from mbcas_shim.enforce_cgroup import CgroupEnforcer
from mbcas_shim.inventory import Inventory
from mbcas_shim.kube.api import KubeApi, find_api
from mbcas_shim.kube.bursts import Bursts
from mbcas_shim.kube.container_paths import ContainerPaths
from mbcas_shim.kube.enforce_resize import ResizeEnforcer
from mbcas_shim.kube.pod_source import PodSource
from mbcas_shim.kube.resizer import AT_ONCE, Resizer
from mbcas_shim.kube.start_check import StartCheck
from mbcas_shim.local import LocalSource
from mbcas_shim.outbox import Outbox
from mbcas_shim.sampling import Sampler
from mbcas_shim.settings import Settings
from mbcas_shim.source import Source

_FAILSAFE_SPREAD_MAX_SECONDS = 3600.0  # As much as a server may ask for.


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What both kinds of node are made with."""

    settings: Settings
    clock: Clock
    uniform: Callable[[], float]
    tree: CgroupTree
    inventory: Inventory
    sampler: Sampler
    counters: Counters

    def outbox(self, source: Source) -> Outbox:
        return Outbox(
            sampler=self.sampler, inventory=self.inventory, counters=self.counters, source=source
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Where containers come from and who changes them, on one kind of node."""

    source: Source
    outbox: Outbox
    enforcer: NodeEnforcer
    tasks: tuple[tuple[str, Callable[[], Coroutine[None, None, None]]], ...] = ()
    failsafe_spread_max_seconds: float = 0.0
    orders_at_once: int = 1


def local_node(parts: Parts) -> Node:
    """A machine whose containers a file declares, and whose cgroups are this shim's."""
    assert parts.settings.containers_file is not None, "the settings are checked"
    source = LocalSource(parts.settings.containers_file, parts.tree, parts.counters)
    outbox = parts.outbox(source)
    enforcer = CgroupEnforcer(
        parts.inventory,
        parts.counters,
        allocatable_millicores=source.room_millicores,
        on_change=outbox.add_facts,
    )
    return Node(source=source, outbox=outbox, enforcer=enforcer)


def kubernetes_node(parts: Parts) -> Node:
    """A node of a cluster, whose pods are resized through the API server.

    Raises:
        ConfigurationError: The API server cannot be found.
    """
    settings, counters = parts.settings, parts.counters
    api = KubeApi(
        find_api(
            os.environ,
            url=settings.kube_api,
            ca_file=settings.kube_ca,
            token_file=settings.kube_token_file,
        )
    )
    check = StartCheck(api, clock=parts.clock, counters=counters)
    source = PodSource(
        api,
        ContainerPaths(parts.tree, kubelet_cgroup_root=settings.kubelet_cgroup_root),
        counters,
        node_name=settings.node_name,
        uniform=parts.uniform,
        cgroup_version=parts.tree.version,
        burst_writable=settings.burst,
        skip_reason=lambda: check.skip_reason,
    )
    outbox = parts.outbox(source)
    check.on_change = outbox.request_inventory
    enforcer = ResizeEnforcer(
        Resizer(api, source, counters, check=check),
        clock=parts.clock,
        room_millicores=source.room_millicores,
        bursts=Bursts(parts.inventory, parts.tree, counters) if settings.burst else None,
    )
    return Node(
        source=source,
        outbox=outbox,
        enforcer=enforcer,
        tasks=(
            ("pods", source.run),
            ("rights", check.run),
            ("bursts", enforcer.run_bursts),
        ),
        failsafe_spread_max_seconds=_FAILSAFE_SPREAD_MAX_SECONDS,
        orders_at_once=AT_ONCE,
    )
