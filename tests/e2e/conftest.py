"""The running cluster and pods on it, for every test in this folder."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tenacity
import yaml

from tests.e2e.cluster.cluster import Cluster, load
from tests.e2e.cluster.images import BUSYBOX_IMAGE

CPU_CGROUPS = Path("/sys/fs/cgroup/cpu")
POD_SECONDS = 60

MakePod = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that `make e2e` started."""
    folder = os.environ.get("MBCAS_E2E_CLUSTER")
    if folder is None:
        pytest.skip("needs a Kubernetes: make e2e starts one")
    return load(Path(folder))


@pytest.fixture
def pod(cluster: Cluster) -> Iterator[MakePod]:
    """Makes running pods, and deletes them after the test."""
    made: list[str] = []

    def make(name: str, *, script: str = "", **resources: dict[str, str]) -> dict[str, Any]:
        container: dict[str, Any] = {
            "name": "main",
            "image": BUSYBOX_IMAGE,
            "imagePullPolicy": "Never",
            "resources": resources,
        }
        if script:
            container["command"] = ["/bin/sh", "-c", script]
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "hostNetwork": True,
                "terminationGracePeriodSeconds": 0,
                "containers": [container],
            },
        }
        path = cluster.folder / f"pod-{name}.yaml"
        path.write_text(yaml.safe_dump(manifest))
        made.append(name)
        cluster.kubectl("apply", "-f", str(path))
        cluster.kubectl("wait", f"pod/{name}", "--for=condition=Ready", f"--timeout={POD_SECONDS}s")
        return get(cluster, name)

    yield make
    if made:
        cluster.kubectl("delete", "pod", *made, "--ignore-not-found", "--grace-period=0", "--force")


def get(cluster: Cluster, name: str) -> dict[str, Any]:
    """Returns a pod as the API server has it."""
    found: dict[str, Any] = yaml.safe_load(cluster.kubectl("get", "pod", name, "-o", "yaml").stdout)
    return found


def pod_cgroup_of(cluster: Cluster, pod: dict[str, Any]) -> Path:
    """Returns the folder of the pod in the cpu controller."""
    qos = pod["status"]["qosClass"].lower()
    top = CPU_CGROUPS / cluster.cgroup_root / "kubepods"
    return (top if qos == "guaranteed" else top / qos) / f"pod{pod['metadata']['uid']}"


def cgroup_of(cluster: Cluster, pod: dict[str, Any]) -> Path:
    """Returns the folder of the pod's first container in the cpu controller."""
    container_id = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    return pod_cgroup_of(cluster, pod) / str(container_id)


def wait_until(done: Callable[[], bool], *, seconds: float = 30) -> None:
    """Waits until something holds.

    Raises:
        tenacity.RetryError: it did not.
    """
    tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda held: not held),
        wait=tenacity.wait_fixed(0.05),
        stop=tenacity.stop_after_delay(seconds),
    )(done)
