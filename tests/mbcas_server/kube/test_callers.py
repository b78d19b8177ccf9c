"""Who may call a server on Kubernetes, and what: the whole server beside the fake."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from mbcas.v1 import market_pb2 as pb
from mbcas.v1 import operator_pb2 as op
from mbcas.v1.market_pb2_grpc import MarketStub
from mbcas.v1.operator_pb2_grpc import OperatorStub
from mbcas_core.events import ReleaseAsked, WritesFrozen
from mbcas_server.kube.allocation import PodKey
from mbcas_server.kube.client import KubeClient, Object
from tests.kube.fake_cluster import FakeCluster
from tests.kube.requests import Fault
from tests.kube.reviews import User
from tests.mbcas_server.fakes import (
    FakeCore,
    Server,
    Shim,
    container_view,
    decision_view,
    eventually,
    live_market,
    market_view,
    report,
    server,
)
from tests.mbcas_server.kube.rig import resized_facts, write_kubeconfig
from tests.mbcas_server.test_market_service import refusal

SHIM = "system:serviceaccount:mbcas-system:mbcas-shim"
USERS = {
    "shim": User(name=SHIM, audiences=("mbcas",), node="node-a"),
    "unbound": User(name=SHIM, audiences=("mbcas",)),
    "for-the-api": User(name=SHIM, node="node-a"),
    "no-shim": User(name="system:serviceaccount:shop:web", audiences=("mbcas",), node="node-a"),
    "nobody": User(name="nobody", audiences=("mbcas",)),
    "developer": User(
        name="developer", audiences=("mbcas",), rights=frozenset({"get pods in shop"})
    ),
    "viewer": User(name="viewer", audiences=("mbcas",), rights=frozenset({"get pods"})),
    "owner": User(
        name="owner", audiences=("mbcas",), rights=frozenset({"update podallocations in shop"})
    ),
    "operator": User(
        name="operator", audiences=("mbcas",), rights=frozenset({"update podallocations"})
    ),
}
"""By token."""
Metadata = tuple[tuple[str, str], ...]


def showing(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def core() -> FakeCore:
    core = FakeCore()
    rows = [
        container_view(namespace="shop"),
        container_view("side", namespace="shop"),
        container_view(namespace="bank", pod="vault"),
    ]
    core.views["node-a"] = market_view("node-a", containers=rows)
    core.live["node-a"] = live_market(500)
    for row in rows[1:]:
        core.pods[row.namespace, row.pod] = [decision_view(row)]
    return core


@pytest.fixture
async def world(cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Server]:
    with cluster.store.changed:
        cluster.api.users |= USERS
    given: dict[str, Any] = {
        "kubernetes": True,
        "kubeconfig": write_kubeconfig(cluster, tmp_path),
        "kubernetes_namespace": "mbcas-system",
        "lease_retry_seconds": 0.1,
    }
    async with server(core(), **given) as world:
        await eventually(lambda: world.running.leadership.leads)
        yield world


def reviews(cluster: FakeCluster, kind: str) -> int:
    with cluster.store.changed:
        return sum(kind in request.path for request in cluster.api.requests)


async def test_the_shim_of_a_node_speaks_for_it(world: Server) -> None:
    shim = Shim(world.channel, authorization="Bearer shim")
    await shim.send(report("node-a"))

    assert (await shim.read()).server_epoch == world.running.leadership.epoch


@pytest.mark.parametrize(
    ("token", "node", "code", "words"),
    [
        ("", "node-a", grpc.StatusCode.UNAUTHENTICATED, "none was shown"),
        ("made-up", "node-a", grpc.StatusCode.UNAUTHENTICATED, "kubectl create token"),
        ("for-the-api", "node-a", grpc.StatusCode.UNAUTHENTICATED, "audience 'mbcas'"),
        ("unbound", "node-a", grpc.StatusCode.PERMISSION_DENIED, "bound to no pod"),
        ("shim", "node-b", grpc.StatusCode.PERMISSION_DENIED, "of a pod on node-a"),
        ("no-shim", "node-a", grpc.StatusCode.PERMISSION_DENIED, "shim_service_account"),
        ("operator", "node-a", grpc.StatusCode.PERMISSION_DENIED, "shim_service_account"),
    ],
)
async def test_nobody_else_does(
    world: Server, token: str, node: str, code: grpc.StatusCode, words: str
) -> None:
    shim = Shim(world.channel, **({"authorization": f"Bearer {token}"} if token else {}))
    await shim.send(report(node))

    error = await shim.ending()

    assert error.code() is code
    assert words in (error.details() or "")
    assert not world.running.metrics.connected_nodes._value.get()


async def test_shims_do_not_wait_behind_bad_tokens_on_other_calls(
    world: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, real, held = asyncio.Event(), KubeClient.call, 0

    async def call(self: KubeClient, method: str, path: str, **given: Any) -> Object:  # noqa: ANN401 - as the client's.
        nonlocal held
        if "made-up" in str(given.get("body")):
            held += 1
            await release.wait()
        return await real(self, method, path, **given)

    monkeypatch.setattr(KubeClient, "call", call)
    stub = MarketStub(world.channel)
    flood = [
        stub.ListMarkets(pb.ListMarketsRequest(), metadata=showing(f"made-up-{number}"))
        for number in range(50)
    ]
    await eventually(lambda: held)

    shim = Shim(world.channel, authorization="Bearer shim")
    await shim.send(report("node-a"))
    first = await shim.read()
    release.set()

    assert first.HasField("settings")
    assert {await each.code() for each in flood} == {grpc.StatusCode.UNAUTHENTICATED}
    assert held == len(flood)


async def test_nothing_is_looked_up_for_a_report_of_somebody_else(
    world: Server, cluster: FakeCluster
) -> None:
    container = resized_facts(PodKey("shop", "web", "uid-web"), controller="ReplicaSet/web-1")
    other = Shim(world.channel, authorization="Bearer no-shim")
    await other.send(report("node-a", containers=[container]))
    await other.ending()
    assert reviews(cluster, "replicasets") == 0

    shim = Shim(world.channel, authorization="Bearer shim")
    await shim.send(report("node-a", containers=[container]))
    await eventually(lambda: reviews(cluster, "replicasets") == 1)


async def test_the_rows_of_other_namespaces_are_left_out_and_counted(world: Server) -> None:
    stub = MarketStub(world.channel)
    request = pb.GetMarketRequest(node="node-a")

    whole = await stub.GetMarket(request, metadata=showing("viewer"))
    part = await stub.GetMarket(request, metadata=showing("developer"))
    none = await stub.GetMarket(request, metadata=showing("nobody"))

    assert [len(market.containers) for market in (whole, part, none)] == [3, 2, 0]
    assert [market.hidden_containers for market in (whole, part, none)] == [0, 1, 3]
    assert {row.namespace for row in part.containers} == {"shop"}
    assert part.reservation == whole.reservation == none.reservation


async def test_lists_and_watches_leave_out_the_same(world: Server) -> None:
    stub = MarketStub(world.channel)
    told = showing("developer")

    listed = await stub.ListMarkets(pb.ListMarketsRequest(include_containers=True), metadata=told)
    watch = stub.WatchMarkets(pb.WatchMarketsRequest(include_containers=True), metadata=told)
    watched = await watch.read()
    watch.cancel()

    for answer in (listed, watched):
        assert isinstance(answer, pb.ListMarketsResponse | pb.WatchMarketsResponse)
        assert [row.namespace for row in answer.markets[0].containers] == ["shop", "shop"]
        assert answer.markets[0].hidden_containers == 1


async def test_a_pod_is_explained_to_those_who_may_get_it(world: Server) -> None:
    stub = MarketStub(world.channel)
    own = pb.ExplainPodRequest(namespace="shop", name="web")

    answer = await stub.ExplainPod(own, metadata=showing("developer"))
    assert answer.decisions

    for name in ("vault", "there-is-none"):
        other = pb.ExplainPodRequest(namespace="bank", name=name)
        error = await refusal(stub.ExplainPod(other, metadata=showing("developer")))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "get pods in bank" in (error.details() or "")


async def test_allocate_takes_any_token_for_this_server_but_takes_one(world: Server) -> None:
    stub = MarketStub(world.channel)
    await eventually(lambda: world.core.tick_count)
    request = pb.AllocateRequest(
        node="node-a", bids=[pb.Bid(id="a", need_millicores=100, weight=1)]
    )

    answer = await stub.Allocate(request, metadata=showing("nobody"))
    assert answer.allocations

    for metadata in ((), showing("for-the-api")):
        error = await refusal(stub.Allocate(request, metadata=metadata))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("token", "namespace", "allowed"),
    [
        ("operator", "", True),
        ("operator", "shop", True),
        ("owner", "shop", True),
        ("owner", "bank", False),
        ("owner", "", False),
        ("viewer", "shop", False),
    ],
)
async def test_a_release_takes_the_right_to_update_allocations(
    world: Server, token: str, namespace: str, *, allowed: bool
) -> None:
    call = OperatorStub(world.channel).Release(
        op.ReleaseRequest(namespace=namespace), metadata=showing(token)
    )

    if allowed:
        assert (await call).containers == 5
        await eventually(lambda: world.core.of_type(ReleaseAsked))
        return
    error = await refusal(call)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "update podallocations.mbcas.io" in (error.details() or "")
    get_one = "kubectl -n mbcas-system create token mbcas-release --audience mbcas"
    assert get_one in (error.details() or "")
    assert not world.core.of_type(ReleaseAsked)


async def test_a_freeze_takes_the_right_in_all_namespaces_and_is_written_down(
    world: Server, cluster: FakeCluster
) -> None:
    stub = OperatorStub(world.channel)
    request = op.SetFrozenRequest(frozen=True)
    error = await refusal(stub.SetFrozen(request, metadata=showing("owner")))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED

    first = await stub.SetFrozen(request, metadata=showing("operator"))
    again = await stub.SetFrozen(request, metadata=showing("operator"))

    assert (first.was_frozen, again.was_frozen) == (False, True)
    assert first.outlives_restart
    await eventually(lambda: world.core.of_type(WritesFrozen))
    with cluster.store.changed:
        lease = cluster.store.get("leases", "mbcas-system", "mbcas")
    assert lease["metadata"]["annotations"] == {"mbcas.io/frozen": "true"}


async def test_the_log_says_who_intervened(world: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="mbcas_server.operator_service")
    stub = OperatorStub(world.channel)

    await stub.SetFrozen(op.SetFrozenRequest(frozen=True), metadata=showing("operator"))
    await stub.Release(op.ReleaseRequest(namespace="shop"), metadata=showing("operator"))

    told = [item for item in caplog.records if item.name == "mbcas_server.operator_service"]
    assert [f"user={USERS['operator'].name!r}" in item.message for item in told] == [True] * 2


async def health_of(world: Server, service: str = "") -> int:
    check = world.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    answer = await check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def test_health_and_reflection_ask_nobody(world: Server) -> None:
    for service in ("", "mbcas.v1.Market", "mbcas.v1.Operator"):
        # It is told once a second, and has no event.
        while await health_of(world, service) != health_pb2.HealthCheckResponse.SERVING:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_while_reviews_fail_nobody_new_gets_in(world: Server, cluster: FakeCluster) -> None:
    cluster.fail(Fault(code=500, times=100, path_part="tokenreviews"))

    error = await refusal(
        MarketStub(world.channel).ListMarkets(pb.ListMarketsRequest(), metadata=showing("viewer"))
    )

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "TokenReview: HTTP 500" in (error.details() or "")


async def test_rights_that_cannot_be_found_out_are_not_given(
    world: Server, cluster: FakeCluster
) -> None:
    cluster.fail(Fault(code=503, times=100, path_part="subjectaccessreviews"))

    error = await refusal(
        MarketStub(world.channel).GetMarket(
            pb.GetMarketRequest(node="node-a"), metadata=showing("developer")
        )
    )

    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_answers_are_remembered_for_a_while(world: Server, cluster: FakeCluster) -> None:
    stub = MarketStub(world.channel)
    for _ in range(5):
        await stub.GetMarket(pb.GetMarketRequest(node="node-a"), metadata=showing("developer"))

    assert reviews(cluster, "tokenreviews") == 1
    assert reviews(cluster, "subjectaccessreviews") == 3  # All, shop and bank.


async def test_a_standby_is_not_ready_and_sends_callers_away(
    world: Server, cluster: FakeCluster, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        "kubernetes": True,
        "kubeconfig": write_kubeconfig(cluster, tmp_path),
        "kubernetes_namespace": "mbcas-system",
    }
    async with server(core(), **given) as second:
        health = await health_of(second)
        error = await refusal(
            MarketStub(second.channel).ListMarkets(
                pb.ListMarketsRequest(), metadata=showing("viewer")
            )
        )
        shim = Shim(second.channel, authorization="Bearer shim")
        ending = await shim.ending()

    assert health == health_pb2.HealthCheckResponse.NOT_SERVING
    assert error.code() is ending.code() is grpc.StatusCode.UNAVAILABLE
    assert "does not decide" in (error.details() or "")
    assert world.running.leadership.leads
