from pathlib import Path

from tests.e2e.cluster.cluster import Cluster
from tests.e2e.conftest import MakePod, cgroup_of, wait_until

BURSTABLE = {
    "requests": {"cpu": "100m", "memory": "32Mi"},
    "limits": {"cpu": "500m", "memory": "64Mi"},
}
HALVE = '{"spec":{"containers":[{"name":"main","resources":{"limits":{"cpu":"250m"}}}]}}'


def quota_of(cgroup: Path) -> int:
    return int((cgroup / "cpu.cfs_quota_us").read_text())


def test_a_resize_through_the_api_reaches_the_kernel(cluster: Cluster, pod: MakePod) -> None:
    running = pod("resized", **BURSTABLE)
    cgroup = cgroup_of(cluster, running)
    assert quota_of(cgroup) == 50_000

    cluster.kubectl(
        "patch", "pod", "resized", "--subresource", "resize", "--type", "strategic", "-p", HALVE
    )

    wait_until(lambda: quota_of(cgroup) == 25_000)
