"""The example's extender in a real kube-scheduler, between the real node and one by kwok."""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
import tenacity
import yaml

from mbcas.v1 import market_pb2 as pb
from mbcas.v1 import node_link_pb2 as messages
from mbcas.v1.market_pb2_grpc import MarketStub
from tests.e2e.cluster.cluster import NODE, Cluster, free_ports
from tests.e2e.cluster.images import BUSYBOX_IMAGE
from tests.e2e.cluster.processes import Processes
from tests.e2e.cluster.scheduling import (
    EXAMPLE,
    FAKE_NODE,
    TAINT,
    start_extender,
    start_kwok,
    start_scheduler,
)
from tests.e2e.conftest import wait_until
from tests.mbcas_server.fakes import Shim, container, report, samples

REPORT_SECONDS = 0.5
WAIT_SECONDS = 30
REQUEST, EXPECTED = 100, 900
NODES = (NODE, FAKE_NODE)
PROCESSES = ("second-scheduler", "scheduler-extender", "extender-server", "kwok")
BID = pb.Bid(id="pod", need_millicores=EXPECTED, floor_millicores=REQUEST, weight=REQUEST)


@dataclass(frozen=True, slots=True)
class World:
    """What the tests of this module share."""

    cluster: Cluster
    server_address: str
    scheduler: str
    processes: Processes


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[World]:
    processes = cluster.processes()
    for name in PROCESSES:
        processes.log(name).unlink(missing_ok=True)
    try:
        start_kwok(processes, cluster)
        server_address = _start_server(processes)
        port = start_extender(processes, server_address)
        wait_until(lambda: "ready" in processes.log("scheduler-extender").read_text())
        scheduler = start_scheduler(processes, cluster, port)
        yield World(cluster, server_address, scheduler, processes)
    finally:
        cluster.kubectl("delete", "node", FAKE_NODE, "--ignore-not-found")
        for name in PROCESSES:
            processes.stop(name)


@pytest.mark.parametrize("crowded", NODES)
async def test_a_pod_lands_where_allocate_says_that_it_would_get_more(
    world: World, crowded: str
) -> None:
    calm = next(node for node in NODES if node != crowded)
    async with (
        grpc.aio.insecure_channel(world.server_address) as channel,
        _nodes(channel, crowded=crowded),
    ):
        await _until_more_is_offered(channel, on=calm, than_on=crowded)

        node = await asyncio.to_thread(_place, world, f"extended-{crowded}")

    assert node == calm


async def test_without_mbcas_pods_are_placed_all_the_same(world: World) -> None:
    world.processes.stop("scheduler-extender")

    node = await asyncio.to_thread(_place, world, "unextended")

    assert node in NODES


def test_the_manifests_are_what_a_real_api_server_takes(cluster: Cluster) -> None:
    done = cluster.kubectl("apply", "--dry-run=server", "-k", str(EXAMPLE), check=False)

    assert done.returncode == 0, done.stderr
    assert "deployment.apps/mbcas-scheduler created (server dry run)" in done.stdout


def _start_server(processes: Processes) -> str:
    """Starts a server for shims on this machine, and returns its address."""
    (port,) = free_ports(1)
    processes.start(
        "extender-server",
        [
            sys.executable,
            "-m",
            "mbcas_server",
            f"--listen-address=127.0.0.1:{port}",
            "--http-address=",
            "--round-period-seconds=1",
        ],
    )
    wait_until(lambda: "ready" in processes.log("extender-server").read_text())
    return f"127.0.0.1:{port}"


@asynccontextmanager
async def _nodes(channel: grpc.aio.Channel, *, crowded: str) -> AsyncIterator[None]:
    """Two nodes as their shims tell them: on one of them a pod takes most of what there is."""
    async with asyncio.TaskGroup() as group:
        telling = [group.create_task(_tell(channel, node, busy=node == crowded)) for node in NODES]
        yield
        for task in telling:
            task.cancel()


async def _tell(channel: grpc.aio.Channel, node: str, *, busy: bool) -> None:
    resources = messages.CpuResources(request_millicores=1500, limit_millicores=1500)
    there = [container(1, pod="neighbour", spec=resources)] if busy else []
    facts = messages.NodeFacts(
        allocatable_millicores=2000,
        cpu_count=2,
        cgroup_version=1,
        enforcement=messages.ENFORCEMENT_CGROUP,
    )
    shim = Shim(channel)
    start = time.monotonic_ns() // 1000  # Later than the one of the test before.
    for sequence in itertools.count(1):
        measured = samples((1,), usage=750_000 * sequence) if busy else None
        message = report(node, sequence=sequence, start=start, samples=measured)
        if sequence == 1:
            del message.containers[:]
            message.containers.extend(there)
            message.node_facts.CopyFrom(facts)
        await shim.send(message)
        await asyncio.sleep(REPORT_SECONDS)


async def _until_more_is_offered(channel: grpc.aio.Channel, *, on: str, than_on: str) -> None:
    """Waits until both markets know what their shims tell."""
    async for attempt in tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type((AssertionError, grpc.aio.AioRpcError)),
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(WAIT_SECONDS),
        reraise=True,
    ):
        with attempt:
            assert await _offer(channel, on) > await _offer(channel, than_on)


async def _offer(channel: grpc.aio.Channel, node: str) -> int:
    """Returns what the pod would get on a node."""
    answer = await MarketStub(channel).Allocate(pb.AllocateRequest(node=node, bids=[BID]))
    return answer.allocations[0].allocation_millicores


def _place(world: World, name: str) -> str:
    """Makes a pod that the second scheduler places, and returns its node."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "annotations": {"scheduling.mbcas.io/expected-cpu": f"{EXPECTED}m"},
        },
        "spec": {
            "schedulerName": world.scheduler,
            "hostNetwork": True,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [TAINT],
            "containers": [
                {
                    "name": "main",
                    "image": BUSYBOX_IMAGE,
                    "imagePullPolicy": "Never",
                    "resources": {"requests": {"cpu": f"{REQUEST}m"}},
                }
            ],
        },
    }
    cluster = world.cluster
    path = cluster.folder / f"pod-{name}.yaml"
    path.write_text(yaml.safe_dump(manifest))
    cluster.kubectl("apply", "-f", str(path))
    try:
        cluster.kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
        found = json.loads(cluster.kubectl("get", "pod", name, "-o", "json").stdout)
        return str(found["spec"]["nodeName"])
    finally:
        cluster.kubectl("delete", "pod", name, "--ignore-not-found", "--grace-period=0", "--force")
