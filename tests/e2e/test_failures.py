"""What breaks is no worse than no MBCAS: servers, shims, kubelets and API servers that die."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import tenacity

from tests.e2e.cluster.cluster import (
    NODE,
    Cluster,
    kill,
    start_api_server,
    start_controllers,
    start_kubelet,
)
from tests.e2e.conftest import MakePod, cgroup_of, get, pod_cgroup_of, wait_until
from tests.e2e.installed import NAMESPACE, Installed, install

DOWN_SECONDS = 60
FAILSAFE_SECONDS = 10
SETTLE_SECONDS = 8
"""A row that needs nothing is left alone for at least this long."""
BACK_SECONDS = 90
SETTINGS = {
    "mode": "auto",
    "policy": "requests-and-limits",
    "round_period_seconds": 2,
    "startup_grace_seconds": 0,
    "failsafe_after_seconds": FAILSAFE_SECONDS,
    "failsafe_spread_seconds": 0,
}
ADMITTED = {
    "requests": {"cpu": "100m", "memory": "16Mi"},
    "limits": {"cpu": "200m", "memory": "32Mi"},
}
LIFTED_MILLICORES = 300
BUSY = "while :; do :; done"
"""Wants more than it may get, whatever else the machine does."""


@pytest.fixture(scope="module")
def release(cluster: Cluster) -> Iterator[Installed]:
    """MBCAS that resizes everything, and whose shims soon miss their server."""
    with install(cluster, server={"settings": SETTINGS}) as installed:
        yield installed


@pytest.fixture
def lifted(cluster: Cluster, release: Installed, pod: MakePod) -> str:
    """A pod with more than it was admitted with, beside one with less; both have settled."""
    here = {"nodeName": NODE}  # Schedulers may still be starting again.
    pod("idle", spec=here, **ADMITTED)
    most = {"mbcas.io/max-cpu": f"{LIFTED_MILLICORES}m"}
    pod("lifted", script=BUSY, annotations=most, spec=here, **ADMITTED)
    wait_until(
        lambda: millicores(cluster, "lifted", "limits") == LIFTED_MILLICORES, seconds=BACK_SECONDS
    )
    wait_until(lambda: millicores(cluster, "idle", "requests") < 100, seconds=BACK_SECONDS)
    settle(cluster, "lifted")
    return "lifted"


def millicores(cluster: Cluster, name: str, kind: str) -> int:
    """Returns a pod's CPU request or limit as its spec says, written by us in millicores."""
    text = get(cluster, name)["spec"]["containers"][0]["resources"][kind]["cpu"]
    return int(text.removesuffix("m")) if text.endswith("m") else round(float(text) * 1000)


def resources_of(cluster: Cluster, name: str) -> tuple[int, dict[str, Any]]:
    """Returns the generation of a pod, which rises with each patch, and what its spec says."""
    pod = get(cluster, name)
    resources: dict[str, Any] = pod["spec"]["containers"][0]["resources"]
    return int(pod["metadata"]["generation"]), resources


def generation(cluster: Cluster, name: str) -> int:
    return int(get(cluster, name)["metadata"]["generation"])


def settle(cluster: Cluster, name: str) -> int:
    """Waits until a pod is resized no more; returns its generation."""
    seen = [generation(cluster, name)]

    def calm() -> bool:
        seen.append(generation(cluster, name))
        return seen[-1] == seen[-2]

    tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda held: not held),
        wait=tenacity.wait_fixed(SETTLE_SECONDS),
        stop=tenacity.stop_after_attempt(12),
    )(calm)
    return seen[-1]


def kill_container(cluster: Cluster, release: Installed, component: str) -> None:
    """Ends every process of a component's container at once, as kill -9 does."""
    of_component = get(cluster, release.pod_of(component), NAMESPACE)
    for pid in (cgroup_of(cluster, of_component) / "cgroup.procs").read_text().split():
        os.kill(int(pid), signal.SIGKILL)


def is_back(cluster: Cluster, release: Installed, component: str, restarts: int) -> bool:
    status = get(cluster, release.pod_of(component), NAMESPACE)["status"]["containerStatuses"][0]
    return status["restartCount"] > restarts and bool(status["ready"])


def restarts_of(cluster: Cluster, release: Installed, component: str) -> int:
    status = get(cluster, release.pod_of(component), NAMESPACE)["status"]
    return int(status["containerStatuses"][0]["restartCount"])


def admitted(cluster: Cluster, name: str) -> dict[str, str]:
    """Returns what the pod's PodAllocation says it was admitted with."""
    uid = get(cluster, name)["metadata"]["uid"]
    short = f"podallocation/{name}-{uid.replace('-', '')[:8]}"
    path = "jsonpath={.spec.containers[0].admitted.request} {.spec.containers[0].admitted.limit}"
    request, limit = cluster.kubectl("get", short, "-o", path).stdout.split()
    return {"request": request, "limit": limit}


def row_of(release: Installed, name: str) -> dict[str, Any]:
    """Returns what the server has of a pod's container; nothing until its shim is back."""
    return release.rows().get(f"default/{name}/main", {})


def is_decided(release: Installed, name: str) -> bool:
    return row_of(release, name).get("ceiling", {}).get("target_millicores") is not None


def quota_millicores(cluster: Cluster, name: str) -> int:
    folder = cgroup_of(cluster, get(cluster, name))
    return int((folder / "cpu.cfs_quota_us").read_text()) // 100


def outage(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251 - the outage is of real programs.


@pytest.mark.parametrize("components", [("server",), ("shim",), ("server", "shim")])
def test_a_killed_daemon_comes_back_without_a_needless_patch(
    cluster: Cluster, release: Installed, lifted: str, components: tuple[str, ...]
) -> None:
    before = resources_of(cluster, lifted)
    restarts = {each: restarts_of(cluster, release, each) for each in components}

    for component in components:
        kill_container(cluster, release, component)

    def are_back() -> bool:
        return all(is_back(cluster, release, each, restarts[each]) for each in components)

    wait_until(are_back, seconds=BACK_SECONDS)
    wait_until(lambda: is_decided(release, lifted), seconds=BACK_SECONDS)
    settle(cluster, lifted)
    assert resources_of(cluster, lifted) == before
    assert admitted(cluster, lifted) == {"request": "100m", "limit": "200m"}
    assert row_of(release, lifted)["ceiling"]["admitted_millicores"] == 200


def test_without_a_server_the_shim_gives_back_what_was_taken_and_leaves_what_was_given(
    cluster: Cluster, release: Installed, lifted: str
) -> None:
    limit = millicores(cluster, lifted, "limits")
    cluster.kubectl("scale", "deployment/mbcas-server", "--replicas=0", "-n", NAMESPACE)
    try:
        wait_until(lambda: millicores(cluster, "idle", "requests") == 100, seconds=BACK_SECONDS)
        assert millicores(cluster, lifted, "limits") >= limit
        assert quota_millicores(cluster, "idle") >= 200
    finally:
        cluster.kubectl("scale", "deployment/mbcas-server", "--replicas=1", "-n", NAMESPACE)
        cluster.kubectl(
            "rollout", "status", "deployment/mbcas-server", "-n", NAMESPACE, "--timeout=90s"
        )
    wait_until(lambda: is_decided(release, lifted), seconds=BACK_SECONDS)
    assert admitted(cluster, lifted) == {"request": "100m", "limit": "200m"}


def test_a_node_whose_kubelet_is_gone_for_a_minute_is_left_alone_and_goes_on_afterwards(
    cluster: Cluster, release: Installed, lifted: str
) -> None:
    before, quota = generation(cluster, lifted), quota_millicores(cluster, lifted)
    processes = cluster.processes()
    kill(processes, "kubelet")
    try:
        outage(DOWN_SECONDS)
        assert quota_millicores(cluster, lifted) == quota
    finally:
        start_kubelet(processes, cluster)
    settle(cluster, lifted)
    assert generation(cluster, lifted) <= before + 1
    pod = get(cluster, lifted)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    assert int((pod_cgroup_of(cluster, pod) / "cpu.cfs_quota_us").read_text()) >= 20_000


def test_an_api_server_that_is_gone_for_a_minute_changes_nothing(
    cluster: Cluster, release: Installed, lifted: str
) -> None:
    before, quota = resources_of(cluster, lifted), quota_millicores(cluster, lifted)
    folders = [cgroup_of(cluster, get(cluster, name)) for name in (lifted, "idle")]
    processes = cluster.processes()
    for name in ("kube-scheduler", "kube-controller-manager"):  # They do not all outlive it.
        processes.stop(name)
    kill(processes, "kube-apiserver")
    try:
        outage(DOWN_SECONDS)
        quotas = [int((folder / "cpu.cfs_quota_us").read_text()) for folder in folders]
    finally:
        start_api_server(processes, cluster)
        start_controllers(processes, cluster)
    assert min(quotas) >= 20_000
    wait_until(lambda: is_decided(release, lifted), seconds=BACK_SECONDS)
    settle(cluster, lifted)
    assert (resources_of(cluster, lifted), quota_millicores(cluster, lifted)) == (before, quota)
    assert admitted(cluster, lifted) == {"request": "100m", "limit": "200m"}
