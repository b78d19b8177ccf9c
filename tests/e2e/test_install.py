"""Installed by its chart: nothing is touched unasked, upgrades keep, uninstalling gives back."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster.cluster import Cluster
from tests.e2e.conftest import MakePod, cgroup_of, get, pod_cgroup_of, wait_until
from tests.e2e.installed import CHART, NAMESPACE, RELEASE, Installed, Values, install

DECIDE_SECONDS = 90
"""Until a throttled container has been watched for long enough and a round has been cleared."""
TIGHT = {
    "requests": {"cpu": "50m", "memory": "16Mi"},
    "limits": {"cpu": "60m", "memory": "32Mi"},
}
BURN = "while :; do :; done"
QUICK: Values = {"round_period_seconds": 2, "startup_grace_seconds": 0}
RESIZE = {"resource": "pods", "subresource": "resize"}


def resizes_answered(cluster: Cluster) -> float:
    """How many calls to pods/resize the API server has answered, whatever it said."""
    text = cluster.kubectl("get", "--raw", "/metrics").stdout
    found = re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)$", text, re.MULTILINE)
    return sum(
        float(count)
        for labels, count in found
        if all(f'{key}="{value}"' in labels for key, value in RESIZE.items())
    )


def managers(cluster: Cluster, name: str) -> set[str]:
    """Who has written a pod, its subresources included."""
    shown = cluster.kubectl("get", "pod", name, "--show-managed-fields", "-o", "json").stdout
    return {entry["manager"] for entry in json.loads(shown)["metadata"]["managedFields"]}


def limit_of(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["containers"][0]["resources"]["limits"]["cpu"])


def intended(release: Installed, name: str) -> list[dict[str, Any]]:
    """What would be set for a pod's containers, as mbcasctl has it."""
    answer = json.loads(release.ctl("recommend", f"default/{name}", "-o", "json").stdout)
    return [each for each in answer["recommendations"] if each.get("patch")]


def has_no_burst(folder: Path) -> bool:
    return (folder / "cpu.cfs_burst_us").read_text().strip() == "0"


@pytest.fixture(scope="module")
def unasked(cluster: Cluster) -> Iterator[Installed]:
    """Installed with what this machine makes necessary, and no values beside."""
    with install(cluster) as release:
        yield release


def test_without_values_no_pod_is_touched_and_what_would_be_done_can_be_seen(
    cluster: Cluster, unasked: Installed, pod: MakePod
) -> None:
    before = resizes_answered(cluster)
    pod("tight", script=BURN, **TIGHT)

    wait_until(lambda: bool(intended(unasked, "tight")), seconds=DECIDE_SECONDS)

    (wanted,) = intended(unasked, "tight")
    after = get(cluster, "tight")
    assert "limits" in json.dumps(wanted["patch"])
    assert (after["metadata"]["generation"], limit_of(after)) == (1, "60m")
    assert "mbcas" not in managers(cluster, "tight")
    assert resizes_answered(cluster) == before
    assert cluster.kubectl("get", "podallocations", "-A", "-o", "name").stdout == ""


def test_metrics_and_readiness_are_served(unasked: Installed) -> None:
    def read(path: str) -> str:
        address = f"http://127.0.0.1:{unasked.http_port}{path}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return str(answer.read().decode())

    wait_until(lambda: "mbcas_server_connected_nodes 1.0" in read("/metrics"))
    assert read("/readyz") == "ok\n"


def test_admitted_values_and_the_certificate_outlive_an_upgrade_and_uninstalling_gives_back(
    cluster: Cluster, pod: MakePod
) -> None:
    policy = {"policy": "requests-and-limits"}
    with install(cluster, server={"settings": QUICK | policy | {"mode": "auto"}}) as release:
        pod("lent", script=BURN, **TIGHT)
        pod("idle", **TIGHT)
        wait_until(lambda: limit_of(get(cluster, "lent")) != "60m", seconds=DECIDE_SECONDS)
        assert "mbcas" in managers(cluster, "lent")
        old_server, old_certificate = release.pod_of("server"), certificate(cluster)

        release.upgrade(server={"settings": QUICK | {"mode": "recommend"}})

        assert certificate(cluster) == old_certificate
        assert release.pod_of("server") != old_server
        (remembered,) = allocations_of(cluster, "lent")
        assert remembered["spec"]["containers"][0]["admitted"]["limit"] == "60m"

        release.uninstall()

        assert release.helm("list", "--short").stdout == ""
    for name in ("lent", "idle"):
        left = get(cluster, name)
        assert left["spec"]["containers"][0]["resources"] == TIGHT
        assert left["status"]["containerStatuses"][0]["restartCount"] == 0
        assert has_no_burst(cgroup_of(cluster, left))
        assert has_no_burst(pod_cgroup_of(cluster, left))
    wait_until(lambda: quota_of(cgroup_of(cluster, get(cluster, "lent"))) == 6_000)
    assert "mbcas" not in cluster.kubectl("get", "clusterroles", "-o", "name").stdout


def test_burst_credit_that_was_asked_for_is_given_and_taken_back_by_uninstalling(
    cluster: Cluster, pod: MakePod
) -> None:
    burst = {"burst": {"enabled": True, "podsFolder": "kubepods"}}
    with install(cluster, server={"settings": QUICK | {"mode": "auto"}}, shim=burst) as release:
        running = pod("bursty", script=BURN, **TIGHT)
        cgroups = [cgroup_of(cluster, running), pod_cgroup_of(cluster, running)]
        wait_until(lambda: not any(map(has_no_burst, cgroups)), seconds=DECIDE_SECONDS)

        release.uninstall()

    assert all(map(has_no_burst, cgroups))
    assert limit_of(get(cluster, "bursty")) == "60m"


def test_without_a_server_uninstalling_stops_in_time_and_removes_nothing(
    cluster: Cluster,
) -> None:
    with install(cluster, server={"replicas": 0}, uninstall={"timeoutSeconds": 10}) as release:
        done = release.uninstall("--timeout=60s", check=False)
        said = said_by(cluster, "release")

        assert done.returncode != 0
        assert "mbcas-release" in done.stderr
        assert "cannot" in said
        assert f"127.0.0.1:{release.grpc_port}" in said
        assert release.pod_of("shim")
        assert state_of(release) == "uninstalling"
        assert release.helm("upgrade", RELEASE, str(CHART), check=False).returncode != 0
        release.helm("rollback", RELEASE, "1")
        assert state_of(release) == "deployed"
        assert release.uninstall("--no-hooks").returncode == 0
    left = cluster.kubectl("get", "daemonsets,deployments", "-n", NAMESPACE, "-o", "name")
    assert left.stdout == ""


def test_the_notes_of_an_installation_say_that_an_earlier_one_was_frozen(cluster: Cluster) -> None:
    def notes() -> str:
        return release.helm("get", "notes", RELEASE).stdout

    with install(cluster, server={"replicas": 0}) as release:
        freeze = ("annotate", "lease", "mbcas", "-n", NAMESPACE)
        cluster.kubectl("apply", "-f", str(lease(cluster)))
        try:
            release.upgrade(server={"replicas": 0})
            before = notes()
            cluster.kubectl(*freeze, "mbcas.io/frozen=true")
            release.upgrade(server={"replicas": 0})
            assert "all writes are frozen" not in before
            assert "all writes are frozen" in notes()
        finally:
            cluster.kubectl(*freeze, "mbcas.io/frozen-")


def lease(cluster: Cluster) -> Path:
    """Returns a file with the Lease that an earlier installation has left."""
    metadata = {"name": "mbcas", "namespace": NAMESPACE}
    path = cluster.folder / "lease.json"
    manifest = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    path.write_text(json.dumps(manifest))
    return path


def state_of(release: Installed) -> str:
    (found,) = json.loads(release.helm("list", "--output", "json").stdout)
    return str(found["status"])


def quota_of(folder: Path) -> int:
    return int((folder / "cpu.cfs_quota_us").read_text())


def certificate(cluster: Cluster) -> dict[str, str]:
    asked = ("get", "secret", "mbcas-server-tls", "-n", NAMESPACE, "-o", "json")
    data: dict[str, str] = json.loads(cluster.kubectl(*asked).stdout)["data"]
    return data


def allocations_of(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    listed = json.loads(cluster.kubectl("get", "podallocations", "-o", "json").stdout)
    return [each for each in listed["items"] if each["spec"]["podName"] == name]


def said_by(cluster: Cluster, component: str) -> str:
    logs = (cluster.folder / "pod-logs").glob(f"{NAMESPACE}_mbcas-{component}-*/*/*.log")
    return "".join(path.read_text(errors="replace") for path in logs)
