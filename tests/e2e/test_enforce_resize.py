"""The shim's enforcer against the real API server and kubelet."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.cgroup_tree import open_tree
from mbcas_shim.inventory import Cpu, Inventory
from mbcas_shim.kube.api import KubeApi, KubeApiAddress
from mbcas_shim.kube.bursts import Bursts
from mbcas_shim.kube.enforce_resize import ResizeEnforcer
from mbcas_shim.kube.pods import Pod
from mbcas_shim.kube.start_check import AGAIN_SECONDS
from tests.e2e.conftest import CPU_CGROUPS, cgroup_of
from tests.e2e.test_real_keeps_the_contract import RealKube, namespace
from tests.kube.kube import Kube
from tests.kube.shapes import BURSTABLE, single
from tests.mbcas_shim.kube.resize_bench import Container, Enforcing, order_for

__all__ = ["namespace"]  # A fixture, taken over.

POLICIES = "/apis/admissionregistration.k8s.io/v1"


class Bench(Enforcing):
    """An enforcer with the rights of the token that is in its file."""

    def __init__(self, kube: RealKube, folder: Path) -> None:
        self.token_file = folder / "token"
        self.token_file.write_text(kube.token)
        self.address = KubeApiAddress(
            url=kube.server, ca_file=kube.cluster.ca, token_file=self.token_file
        )
        self.cluster = kube.cluster
        super().__init__(kube, KubeApi(self.address))

    def with_bursts(self, running: Pod) -> Bursts:
        """Lets the enforcer write burst credit of this pod's container."""
        made = self.kube.get(running.name)
        path = cgroup_of(self.cluster, made).relative_to(CPU_CGROUPS)
        tree = open_tree(CPU_CGROUPS.parent)
        inventory = Inventory(tree, self.counters, boot_id="boot")
        inventory.declare([Container("main", running.uid, str(path))])
        inventory.refresh()
        bursts = Bursts(inventory, tree, self.counters)
        self.enforcer = ResizeEnforcer(
            self.resizer, clock=self.clock, room_millicores=lambda: 0, bursts=bursts
        )
        return bursts

    async def outcome(
        self, running: Pod, *, limit: int, burst: int | None = None
    ) -> tuple[object, ...]:
        order = replace(order_for(running, limit=limit), burst_usec=burst)
        (answer,) = await self.enforcer.apply([order])
        return answer.outcome, answer.status, answer.cause, answer.field


@pytest.fixture
def bench(namespace: RealKube, tmp_path: Path) -> Iterator[Bench]:
    built = Bench(namespace, tmp_path)
    yield built
    built.close()
    namespace.call("DELETE", namespace.pods, gracePeriodSeconds="0")
    namespace.wait(lambda: not namespace.call("GET", namespace.pods).body["items"])


async def test_an_order_reaches_the_kernel_and_is_known_as_ours(bench: Bench) -> None:
    running = bench.make(single("ours", BURSTABLE))

    (answer,) = await bench.enforcer.apply([order_for(running, limit=250)])

    assert (answer.outcome, answer.generation) == (pb.OUTCOME_APPLIED, running.generation + 1)
    made = bench.kube.get("ours")
    bench.kube.wait(lambda: bench.kube.cgroup_of(made, "main").quota_us == 25_000)
    bench.look()
    (container,) = bench.seen.by_uid[running.uid].containers
    assert (container.limit_set_by_mbcas, container.request_set_by_mbcas) == (True, False)


async def test_a_pod_back_under_its_name_is_left_alone(bench: Bench) -> None:
    running = bench.make(single("back", BURSTABLE))
    bench.kube.delete("back")
    gone = await bench.outcome(running, limit=250)
    bench.kube.create_pod(single("back", BURSTABLE))
    follower = await bench.outcome(running, limit=250)

    assert gone == (pb.OUTCOME_STALE, 404, "NotFound", "")
    assert follower == (pb.OUTCOME_STALE, 422, "Uid", "metadata.uid")
    assert bench.cpu_of("back") == Cpu(20, 500)


async def test_quota_range_policy_and_right_refuse_each_in_its_own_way(bench: Bench) -> None:
    running = bench.make(single("refused", BURSTABLE))
    kube, core = bench.kube, f"/api/v1/namespaces/{bench.kube.namespace}"
    refused = (pb.OUTCOME_REFUSED, 403, "Forbidden", "")

    kube.create(f"{core}/resourcequotas", "ResourceQuota", "q", spec={"hard": {"limits.cpu": "1"}})
    kube.wait(lambda: "hard" in kube.call("GET", f"{core}/resourcequotas/q").body["status"])
    assert await bench.outcome(running, limit=1100) == refused
    kube.call("DELETE", f"{core}/resourcequotas/q")

    entry = {"type": "Container", "max": {"cpu": "1"}}
    kube.create(f"{core}/limitranges", "LimitRange", "r", spec={"limits": [entry]})
    above = {"main": {"limits": {"cpu": "1200m"}}}
    kube.wait(lambda: kube.resize("refused", above, dryRun="All").code == 403)
    assert await bench.outcome(running, limit=1200) == refused
    kube.call("DELETE", f"{core}/limitranges/r")
    kube.wait(lambda: kube.resize("refused", above, dryRun="All").code == 200)

    _forbid_resizes(kube)
    try:
        kube.wait(lambda: kube.resize("refused", above, dryRun="All").code == 422)
        policy = await bench.outcome(running, limit=1200)
    finally:
        kube.call("DELETE", f"{POLICIES}/validatingadmissionpolicybindings/mbcas-test")
        kube.call("DELETE", f"{POLICIES}/validatingadmissionpolicies/mbcas-test")
    assert policy == (pb.OUTCOME_REFUSED, 422, "Policy", "")
    kube.wait(lambda: kube.resize("refused", above, dryRun="All").code == 200)

    bench.token_file.write_text(kube.with_rights("patch pods").token)
    bench.clock.now += AGAIN_SECONDS  # Before, what was learned a moment ago counts.
    assert await bench.outcome(running, limit=250) == (
        pb.OUTCOME_REFUSED,
        403,
        "AccessDenied",
        "",
    )
    assert bench.cpu_of("refused") == Cpu(20, 500)


async def test_what_was_cut_comes_back_when_the_server_is_silent(bench: Bench) -> None:
    running = bench.make(single("cut", BURSTABLE))
    await bench.enforcer.apply([order_for(running, limit=100, admitted=Cpu(20, 500))])
    bench.look()

    failed = await bench.enforcer.restore(lambda: True)

    assert failed == 0
    made = bench.kube.get("cut")
    bench.kube.wait(lambda: bench.kube.cgroup_of(made, "main").quota_us == 50_000)


async def test_a_cut_finds_the_burst_out_of_its_way(bench: Bench) -> None:
    running = bench.make(single("burst", BURSTABLE))
    bursts = bench.with_bursts(running)
    folder = cgroup_of(bench.cluster, bench.kube.get("burst"))
    groups = folder, folder.parent
    full = await bench.outcome(running, limit=500, burst=50_000)
    before = [int((group / "cpu.cfs_burst_us").read_text()) for group in groups]

    cut = await bench.outcome(running, limit=200, burst=20_000)

    quota = folder / "cpu.cfs_quota_us"
    bench.kube.wait(lambda: int(quota.read_text()) == 20_000)
    bench.kube.wait(lambda: bench.kube.settled("burst"))
    assert (full[0], cut[0], before) == (pb.OUTCOME_APPLIED, pb.OUTCOME_APPLIED, [50_000, 50_000])
    assert not _resize_errors(bench.kube)
    assert bursts.zero() == 0
    assert [int((group / "cpu.cfs_burst_us").read_text()) for group in groups] == [0, 0]


def _resize_errors(kube: Kube) -> list[dict[str, Any]]:
    events = kube.call("GET", f"/api/v1/namespaces/{kube.namespace}/events").body["items"]
    return [event for event in events if event["reason"] == "ResizeError"]


def _forbid_resizes(kube: Kube) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"]}
    _make(
        kube,
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        matchConstraints={"resourceRules": [rule | {"resources": ["pods/resize"]}]},
        validations=[{"expression": "false", "message": "no resizes here"}],
    )
    labels = {"kubernetes.io/metadata.name": kube.namespace}
    _make(
        kube,
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        policyName="mbcas-test",
        validationActions=["Deny"],
        matchResources={"namespaceSelector": {"matchLabels": labels}},
    )


def _make(kube: Kube, kind: str, plural: str, **spec: Any) -> None:  # noqa: ANN401 - as the API has it.
    version = "admissionregistration.k8s.io/v1"
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": "mbcas-test"}, "spec": spec}
    answer = kube.call("POST", f"{POLICIES}/{plural}", body)
    assert answer.code == 201, answer
