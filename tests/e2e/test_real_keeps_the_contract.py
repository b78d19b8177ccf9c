import itertools
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster.cluster import Cluster, start_kubelet
from tests.e2e.cluster.processes import Processes
from tests.e2e.conftest import pod_cgroup_of, wait_until
from tests.kube.contract import CASES
from tests.kube.kube import Kube
from tests.kube.resources import Cgroup, Pod

NAMESPACE = "contract"
WAIT_SECONDS = 60
_STARTED: list[Processes] = []
"""What outlives the tests: whoever takes the cluster down ends it, by its recorded id."""
RIGHTS_API = "/apis/rbac.authorization.k8s.io/v1/namespaces"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class RealKube(Kube):
    """The cluster of these tests; its clock is the world's."""

    _number = itertools.count()

    def __init__(self, cluster: Cluster, token: str) -> None:
        tls = ssl.create_default_context(cafile=str(cluster.ca))
        super().__init__(cluster.server, token, NAMESPACE, tls=tls)
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
        core, rbac = f"/api/v1/namespaces/{NAMESPACE}", f"{RIGHTS_API}/{NAMESPACE}"
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
            subjects=[{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
        )
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = self.call("POST", f"{core}/serviceaccounts/{name}/token", asked)
        user = RealKube(self.cluster, answer.body["status"]["token"])
        self.wait(lambda: all(user._may(verb, what) for verb, what in pairs))
        return user

    def _may(self, verb: str, what: str) -> bool:
        resource, _, subresource = what.partition("/")
        attributes = {"verb": verb, "resource": resource, "namespace": NAMESPACE}
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
        processes = self.cluster.processes()
        start_kubelet(processes, self.cluster)
        _STARTED.append(processes)


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[RealKube]:
    tokens = (cluster.folder / "tokens.csv").read_text().splitlines()
    admin = next(line.split(",")[0] for line in tokens if line.split(",")[1] == "admin")
    kube = RealKube(cluster, admin)
    kube.create("/api/v1/namespaces", "Namespace", NAMESPACE)
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
    kube.wait(lambda: kube.call("GET", account).code == 200)
    yield kube
    kube.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}")
    kube.wait(lambda: kube.call("GET", f"/api/v1/namespaces/{NAMESPACE}").code == 404)


@pytest.fixture
def kube(namespace: RealKube) -> Iterator[RealKube]:
    yield namespace
    namespace.call("DELETE", namespace.pods, gracePeriodSeconds="0")
    namespace.wait(lambda: not namespace.call("GET", namespace.pods).body["items"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_kubernetes(case: Callable[[Kube], None], kube: RealKube) -> None:
    case(kube)
