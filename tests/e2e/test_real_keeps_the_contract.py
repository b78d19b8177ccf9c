import itertools
import queue
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from tests.e2e.cluster.cluster import Cluster, start_kubelet
from tests.e2e.conftest import pod_cgroup_of, wait_until
from tests.kube.contract import ALONE, CASES, Case, name_of
from tests.kube.kube import Kube
from tests.kube.resources import Cgroup, Pod

NAMESPACE = "contract"
WORKERS = 4
WAIT_SECONDS = 60
RIGHTS_API = "/apis/rbac.authorization.k8s.io/v1/namespaces"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class RealKube(Kube):
    """The cluster of these tests; its clock is the world's."""

    _number = itertools.count()

    def __init__(self, cluster: Cluster, token: str, namespace: str = NAMESPACE) -> None:
        tls = ssl.create_default_context(cafile=str(cluster.ca))
        super().__init__(cluster.server, token, namespace, tls=tls)
        self.cluster = cluster

    def wait(self, done: Callable[[], bool]) -> None:
        wait_until(done, seconds=WAIT_SECONDS)

    def let_pass(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: TID251 - a real cluster has no other clock.

    def cgroup_of(self, pod: Pod, container: str = "") -> Cgroup:
        folder = self._folder_of(pod, container)
        quota_us, period_us, shares = (
            int((folder / name).read_text())
            for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares")
        )
        return Cgroup(quota_us, shares, period_us)

    def _folder_of(self, pod: Pod, container: str) -> Path:
        folder = pod_cgroup_of(self.cluster, pod)
        if not container:
            return folder
        statuses = self.get(pod["metadata"]["name"])["status"]["containerStatuses"]
        ids = {each["name"]: str(each["containerID"]) for each in statuses}
        return folder / ids[container].rpartition("/")[2]

    def with_rights(self, *rights: str) -> "RealKube":
        name = f"user-{next(self._number)}"
        core, rbac = f"/api/v1/namespaces/{self.namespace}", f"{RIGHTS_API}/{self.namespace}"
        self.create(f"{core}/serviceaccounts", "ServiceAccount", name)
        pairs = [right.split() for right in rights]
        rules = [{"apiGroups": [""], "resources": [what], "verbs": [verb]} for verb, what in pairs]
        self.create(f"{rbac}/roles", "Role", name, rules=rules)
        group = "rbac.authorization.k8s.io"
        self.create(
            f"{rbac}/rolebindings",
            "RoleBinding",
            name,
            roleRef={"apiGroup": group, "kind": "Role", "name": name},
            subjects=[{"kind": "ServiceAccount", "name": name, "namespace": self.namespace}],
        )
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = self.call("POST", f"{core}/serviceaccounts/{name}/token", asked)
        user = RealKube(self.cluster, answer.body["status"]["token"], self.namespace)
        self.wait(lambda: all(user._may(verb, what) for verb, what in pairs))
        return user

    def _may(self, verb: str, what: str) -> bool:
        resource, _, subresource = what.partition("/")
        attributes = {"verb": verb, "resource": resource, "namespace": self.namespace}
        if subresource:
            attributes["subresource"] = subresource
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        return bool(self.call("POST", REVIEWS, body).body["status"]["allowed"])

    def write_burst(self, pod: Pod, container: str, burst_us: int) -> None:
        (self._folder_of(pod, container) / "cpu.cfs_burst_us").write_text(str(burst_us))

    def end_container(self, name: str, container: str, *, exit_code: int = 0) -> None:
        """Does nothing: it ends by itself."""

    def stop_kubelet(self) -> None:
        self.cluster.processes().stop("kubelet")

    def start_kubelet(self) -> None:
        start_kubelet(self.cluster.processes(), self.cluster)

    def clear(self) -> None:
        """Deletes the namespace's pods, at once."""
        self.call("DELETE", self.pods, gracePeriodSeconds="0")
        self.wait(lambda: not self.call("GET", self.pods).body["items"])


def make_namespace(cluster: Cluster, name: str) -> RealKube:
    """Returns the administrator's view of a new namespace."""
    tokens = (cluster.folder / "tokens.csv").read_text().splitlines()
    admin = next(line.split(",")[0] for line in tokens if line.split(",")[1] == "admin")
    kube = RealKube(cluster, admin, name)
    kube.create("/api/v1/namespaces", "Namespace", name)
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    kube.wait(lambda: kube.call("GET", account).code == 200)
    return kube


def remove_namespaces(kubes: Iterable[RealKube]) -> None:
    """Deletes namespaces and waits until they are gone."""
    paths = {f"/api/v1/namespaces/{kube.namespace}": kube for kube in kubes}
    for path, kube in paths.items():
        kube.call("DELETE", path)
    for path, kube in paths.items():
        kube.wait(lambda path=path, kube=kube: kube.call("GET", path).code == 404)  # type: ignore[misc]  # mypy cannot type a lambda's default.


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[RealKube]:
    kube = make_namespace(cluster, NAMESPACE)
    yield kube
    remove_namespaces([kube])


@pytest.fixture
def kube(namespace: RealKube) -> Iterator[RealKube]:
    yield namespace
    namespace.clear()


class Together:
    """Runs cases beside each other, each in a namespace of its own: most of them only wait."""

    def __init__(self, cluster: Cluster, cases: Iterable[Case]) -> None:
        self._pool = ThreadPoolExecutor(WORKERS)
        self._kubes: queue.SimpleQueue[RealKube] = queue.SimpleQueue()
        for number in range(WORKERS):
            self._kubes.put(make_namespace(cluster, f"{NAMESPACE}-{number}"))
        self._runs = {case: self._pool.submit(self._run, case) for case in cases}

    def result(self, case: Case) -> None:
        """Waits for a case, and raises what it has raised."""
        self._runs[case].result()

    def end(self) -> None:
        """Waits until all have ended and their namespaces are gone."""
        self._pool.shutdown()
        remove_namespaces([self._kubes.get() for _ in range(WORKERS)])

    def _run(self, case: Case) -> None:
        kube = self._kubes.get()
        try:
            case(kube)
        finally:
            kube.clear()
            self._kubes.put(kube)


@pytest.fixture(scope="module")
def together(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Together]:
    here = [item for item in request.session.items if isinstance(item, pytest.Function)]
    chosen = [item for item in here if item.originalname == test_beside_others.__name__]
    cases = [cast("Case", item.callspec.params["case"]) for item in chosen]
    running = Together(cluster, cases)
    yield running
    running.end()


@pytest.mark.parametrize("case", [each for each in CASES if each not in ALONE], ids=name_of)
def test_beside_others(case: Case, together: Together) -> None:
    together.result(case)


@pytest.mark.parametrize("case", ALONE, ids=name_of)
def test_alone(case: Case, kube: RealKube) -> None:
    case(kube)
