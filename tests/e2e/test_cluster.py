from pathlib import Path

from tests.e2e.cluster.cluster import Cluster
from tests.e2e.conftest import Kubectl, MakePod, cgroup_of, pod_cgroup_of, wait_until

BURSTABLE = {
    "requests": {"cpu": "100m", "memory": "32Mi"},
    "limits": {"cpu": "500m", "memory": "64Mi"},
}
HALVE = '{"spec":{"containers":[{"name":"main","resources":{"limits":{"cpu":"250m"}}}]}}'


def quota_of(cgroup: Path) -> int:
    return int((cgroup / "cpu.cfs_quota_us").read_text())


def test_a_resize_through_the_api_reaches_the_kernel(
    cluster: Cluster, kubectl: Kubectl, pod: MakePod
) -> None:
    running = pod("resized", **BURSTABLE)
    cgroup = cgroup_of(cluster, running)
    assert quota_of(cgroup) == 50_000

    kubectl(
        "patch", "pod", "resized", "--subresource", "resize", "--type", "strategic", "-p", HALVE
    )

    wait_until(lambda: quota_of(cgroup) == 25_000)


def test_a_pod_may_be_of_any_class_in_any_namespace(cluster: Cluster, pod: MakePod) -> None:
    both = {"cpu": "50m", "memory": "32Mi"}
    several = {"one": {"requests": both, "limits": both}, "two": {"requests": both, "limits": both}}
    guaranteed = pod("guaranteed", namespace="e2e-other", containers=several)
    best_effort = pod("best-effort", containers={"main": {}})

    assert guaranteed["status"]["qosClass"] == "Guaranteed"
    assert quota_of(cgroup_of(cluster, guaranteed, "two")) == 5_000
    assert quota_of(pod_cgroup_of(cluster, guaranteed)) == 10_000
    assert best_effort["status"]["qosClass"] == "BestEffort"
    assert quota_of(cgroup_of(cluster, best_effort)) == -1
