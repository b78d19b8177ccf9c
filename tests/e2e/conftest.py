"""The running cluster and pods on it, for every test in this folder."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tenacity

from tests.e2e.cluster.cluster import Cluster, load
from tests.e2e.cluster.images import BUSYBOX_IMAGE

CPU_CGROUPS = Path("/sys/fs/cgroup/cpu")
POD_SECONDS = 60

MakePod = Callable[..., dict[str, Any]]
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that `make e2e` started for this process."""
    folders = os.environ.get("MBCAS_E2E_CLUSTER")
    if folders is None:
        pytest.skip("needs a Kubernetes: make e2e starts one")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return load(Path(folders.split(os.pathsep)[int(worker)]))


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Kubectl:
    """Runs kubectl as the cluster's administrator."""
    return cluster.kubectl


@pytest.fixture
def pod(cluster: Cluster) -> Iterator[MakePod]:
    """Makes running pods, and deletes them after the test."""
    made: list[tuple[str, str]] = []

    def make(
        name: str,
        *,
        namespace: str = "default",
        script: str = "",
        containers: Mapping[str, Mapping[str, Any]] | None = None,
        annotations: Mapping[str, str] | None = None,
        spec: Mapping[str, Any] | None = None,
        **resources: dict[str, str],
    ) -> dict[str, Any]:
        """Makes one pod; without `containers`, of one named main with these resources.

        Args:
            name: of the pod.
            namespace: is made where it is not there.
            script: what each container runs; without one it sleeps.
            containers: resources by name, of several; none make a pod BestEffort.
            annotations: of the pod.
            spec: what else the pod says.
            resources: requests and limits of the one container.
        """
        shapes = containers if containers is not None else {"main": resources}
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "annotations": dict(annotations or {}),
            },
            "spec": {
                "hostNetwork": True,
                "terminationGracePeriodSeconds": 0,
                "containers": [_container(each, shapes[each], script) for each in shapes],
                **(spec or {}),
            },
        }
        _make_namespace(cluster, namespace)
        path = cluster.folder / f"pod-{namespace}-{name}.json"
        path.write_text(json.dumps(manifest))
        made.append((namespace, name))
        cluster.kubectl("apply", "-f", str(path))
        within = ("-n", namespace)
        ready = ("--for=condition=Ready", f"--timeout={POD_SECONDS}s")
        cluster.kubectl(*within, "wait", f"pod/{name}", *ready)
        return get(cluster, name, namespace)

    yield make
    for namespace, name in made:
        now = ("--ignore-not-found", "--grace-period=0", "--force")
        cluster.kubectl("-n", namespace, "delete", "pod", name, *now)


def _container(name: str, resources: Mapping[str, Any], script: str) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": name,
        "image": BUSYBOX_IMAGE,
        "imagePullPolicy": "Never",
        "resources": dict(resources),
    }
    if script:
        container["command"] = ["/bin/sh", "-c", script]
    return container


def _make_namespace(cluster: Cluster, name: str) -> None:
    """Makes a namespace that pods can be made in; the next test may find it there."""
    if cluster.kubectl("get", "namespace", name, check=False).returncode == 0:
        return
    cluster.kubectl("create", "namespace", name)
    account = ("-n", name, "get", "serviceaccount", "default")
    wait_until(lambda: cluster.kubectl(*account, check=False).returncode == 0)


def get(cluster: Cluster, name: str, namespace: str = "default") -> dict[str, Any]:
    """Returns a pod as the API server has it."""
    printed = cluster.kubectl("-n", namespace, "get", "pod", name, "-o", "json").stdout
    found: dict[str, Any] = json.loads(printed)
    return found


def pod_cgroup_of(cluster: Cluster, pod: dict[str, Any]) -> Path:
    """Returns the folder of the pod in the cpu controller."""
    qos = pod["status"]["qosClass"].lower()
    top = CPU_CGROUPS / cluster.cgroup_root / "kubepods"
    return (top if qos == "guaranteed" else top / qos) / f"pod{pod['metadata']['uid']}"


def cgroup_of(cluster: Cluster, pod: dict[str, Any], container: str = "") -> Path:
    """Returns the folder of a container in the cpu controller; without a name, of the first."""
    status = pod["status"]
    statuses = [*status["containerStatuses"], *status.get("initContainerStatuses", [])]
    found = next(each for each in statuses if container in ("", each["name"]))
    return pod_cgroup_of(cluster, pod) / str(found["containerID"].rpartition("/")[2])


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
