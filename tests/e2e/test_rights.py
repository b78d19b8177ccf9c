"""What the chart's accounts may do, and what not: each right both ways, with tokens like pods'."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.cluster.cluster import NODE, Cluster
from tests.e2e.conftest import MakePod, get, wait_until
from tests.e2e.installed import NAMESPACE, Installed, install

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
OTHER_NODE = "rights-other-node"
PODS = "/api/v1/namespaces/default/pods"
ALLOCATIONS = "/apis/mbcas.io/v1alpha1/namespaces/default/podallocations"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
BURSTABLE = {
    "requests": {"cpu": "50m", "memory": "16Mi"},
    "limits": {"cpu": "200m", "memory": "32Mi"},
}
Cpu = Mapping[str, str | None]
EVERYBODY = {
    ("selfsubjectreviews.authentication.k8s.io", "create"),
    ("selfsubjectaccessreviews.authorization.k8s.io", "create"),
    ("selfsubjectrulesreviews.authorization.k8s.io", "create"),
}
"""What every account may do: ask who it is, and what it may do."""


@dataclass(frozen=True, slots=True)
class User:
    """Calls with one token."""

    cluster: Cluster
    token: str

    def call(
        self, method: str, path: str, body: object = None, *, content_type: str = STRATEGIC
    ) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(  # noqa: S310 - loopback.
            self.cluster.server + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": content_type},
            method=method,
        )
        tls = ssl.create_default_context(cafile=str(self.cluster.ca))
        try:
            with urllib.request.urlopen(request, timeout=30, context=tls) as answer:  # noqa: S310 - see above.
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def resize(self, name: str, **resources: Cpu) -> tuple[int, dict[str, Any]]:
        return self.call("PATCH", f"{PODS}/{name}/resize", changed(**resources))

    def code(self, method: str, path: str, body: object = None) -> int:
        content_type = "application/json" if method in ("POST", "PUT") else MERGE
        return self.call(method, path, body, content_type=content_type)[0]


def changed(**resources: Cpu) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "main", "resources": resources}]}}


@pytest.fixture(scope="module")
def release(cluster: Cluster) -> Iterator[Installed]:
    # Accounts and rights are the same without pods, and cannot then be in the way of a test.
    with install(cluster, server={"replicas": 0}, shim={"nodeSelector": {"none": "here"}}) as made:
        yield made


@pytest.fixture
def shim(release: Installed, cluster: Cluster) -> Iterator[User]:
    """The token of a pod that runs as the shim's account on the real node."""
    name = "like-a-shim"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"serviceAccountName": "mbcas-shim", "nodeName": NODE, **inert()},
    }
    apply(cluster, pod)
    yield User(cluster, release.token("mbcas-shim", audience="", pod=name))
    delete(cluster, "pod", name, NAMESPACE)


@pytest.fixture
def server(release: Installed, cluster: Cluster) -> User:
    return User(cluster, release.token("mbcas-server", audience=""))


@pytest.fixture
def pod_elsewhere(cluster: Cluster) -> Iterator[str]:
    """A pod of a node that has no kubelet: resizes of it are as good as any to the API server."""
    name = "elsewhere"
    apply(cluster, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": OTHER_NODE}})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
    apply(cluster, pod | {"spec": {"nodeName": OTHER_NODE, **inert()}})
    yield name
    delete(cluster, "pod", name, "default")
    delete(cluster, "node", OTHER_NODE, "default")


def inert() -> dict[str, Any]:
    container = {"name": "main", "image": "localhost/none:1", "imagePullPolicy": "Never"}
    return {"containers": [container | {"resources": BURSTABLE}], "hostNetwork": True}


def apply(cluster: Cluster, manifest: dict[str, Any]) -> None:
    path = cluster.folder / "applied.json"
    path.write_text(json.dumps(manifest))
    cluster.kubectl("apply", "-f", str(path))


def delete(cluster: Cluster, kind: str, name: str, namespace: str) -> None:
    cluster.kubectl("delete", kind, name, "-n", namespace, "--grace-period=0", "--force")


def rights(cluster: Cluster, account: str, namespace: str) -> set[tuple[str, str]]:
    """Every right that an account has in a namespace, as (resource, verb)."""
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    group = ["--as-group=system:serviceaccounts", "--as-group=system:authenticated"]
    listed = cluster.kubectl(
        *("auth", "can-i", "--list", "--namespace", namespace, "--as", user, *group)
    )
    found = set()
    for line in listed.stdout.splitlines()[1:]:
        resource = line.split()[0]
        if resource.startswith("["):
            continue  # URLs that are no resources: versions, health.
        names, verbs = (part.split("]")[0] for part in line.split("[")[2:])
        suffix = f" {names}" if names else ""
        found |= {(resource + suffix, verb) for verb in verbs.split()}
    return found


@pytest.mark.usefixtures("release")
def test_the_shim_may_do_this_and_nothing_else(cluster: Cluster) -> None:
    for namespace in ("default", NAMESPACE, "kube-system"):
        assert rights(cluster, "mbcas-shim", namespace) - EVERYBODY == {
            ("pods", "list"),
            ("pods", "watch"),
            ("pods/resize", "patch"),
            ("podallocations.mbcas.io", "get"),
        }


@pytest.mark.usefixtures("release")
def test_the_server_may_do_this_and_nothing_else(cluster: Cluster) -> None:
    everywhere = {
        *((name, verb) for name in ("namespaces", "nodes") for verb in ("list", "watch")),
        *(("horizontalpodautoscalers.autoscaling", verb) for verb in ("list", "watch")),
        ("pods", "get"),
        ("replicationcontrollers", "get"),
        ("daemonsets.apps", "get"),
        ("replicasets.apps", "get"),
        ("statefulsets.apps", "get"),
        ("jobs.batch", "get"),
        *(("podallocations.mbcas.io", verb) for verb in ("create", "list", "patch", "watch")),
        ("podallocations.mbcas.io/status", "patch"),
        ("events", "create"),
        ("tokenreviews.authentication.k8s.io", "create"),
        ("subjectaccessreviews.authorization.k8s.io", "create"),
    }
    lease = "leases.coordination.k8s.io"
    own = {(lease, "create"), (f"{lease} mbcas", "get"), (f"{lease} mbcas", "update")}

    assert rights(cluster, "mbcas-server", "default") - EVERYBODY == everywhere
    assert rights(cluster, "mbcas-server", NAMESPACE) - EVERYBODY == everywhere | own


@pytest.mark.usefixtures("release")
def test_whoever_releases_has_the_right_that_the_server_asks_for_and_no_other(
    cluster: Cluster,
) -> None:
    expected = {("podallocations.mbcas.io", "update")}

    assert rights(cluster, "mbcas-release", "default") - EVERYBODY == expected


def test_a_shim_resizes_pods_of_its_node(cluster: Cluster, shim: User, pod: MakePod) -> None:
    pod("resizable", **BURSTABLE)

    code, body = shim.resize("resizable", limits={"cpu": "250m"}, requests={"cpu": "60m"})

    assert code == 200, body
    resources = get(cluster, "resizable")["spec"]["containers"][0]["resources"]
    assert (resources["limits"]["cpu"], resources["requests"]["cpu"]) == ("250m", "60m")
    assert (resources["limits"]["memory"], resources["requests"]["memory"]) == ("32Mi", "16Mi")


@pytest.mark.usefixtures("pod_elsewhere")
def test_a_shim_resizes_a_pod_that_asks_for_more_than_cpu_and_memory(
    cluster: Cluster, release: Installed
) -> None:
    """Resources come to the policy in an order by chance."""
    others = {f"example.com/{letter}": "1" for letter in "abcd"}
    resources = {kind: given | others for kind, given in BURSTABLE.items()}
    container = inert()["containers"][0] | {"resources": resources}
    place = inert() | {"nodeName": OTHER_NODE}
    account, body = {"serviceAccountName": "mbcas-shim"}, changed(limits={"cpu": "250m"})
    pods = {
        ("shim-elsewhere", NAMESPACE): place | account,
        ("many-resources", "default"): place | {"containers": [container]},
    }
    for (name, namespace), spec in pods.items():
        metadata = {"name": name, "namespace": namespace}
        apply(cluster, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    try:
        shim = User(cluster, release.token("mbcas-shim", audience="", pod="shim-elsewhere"))
        path = f"{PODS}/many-resources/resize?dryRun=All"
        codes = [shim.call("PATCH", path, body)[0] for _ in range(10)]
    finally:
        for name, namespace in pods:
            delete(cluster, "pod", name, namespace)

    assert codes == [200] * 10


def test_a_shim_may_not_resize_a_pod_of_another_node(shim: User, pod_elsewhere: str) -> None:
    code, body = shim.resize(pod_elsewhere, limits={"cpu": "250m"})

    assert code == 403
    assert f"the shim of node {NODE} may not resize a pod of {OTHER_NODE}" in body["message"]


@pytest.mark.usefixtures("release")
def test_the_administrator_may_resize_it(cluster: Cluster, pod_elsewhere: str) -> None:
    """The policy is about shims: whatever else resizes pods is not its business."""
    body = json.dumps(changed(limits={"cpu": "250m"}))
    arguments = ("--subresource", "resize", "--type", "strategic", "-p", body)

    cluster.kubectl("patch", "pod", pod_elsewhere, *arguments)

    spec = get(cluster, pod_elsewhere)["spec"]["containers"][0]
    assert spec["resources"]["limits"]["cpu"] == "250m"


def test_a_token_of_no_pod_resizes_nothing(
    cluster: Cluster, release: Installed, pod: MakePod
) -> None:
    pod("unbound", **BURSTABLE)
    stolen = User(cluster, release.token("mbcas-shim", audience=""))

    code, body = stolen.resize("unbound", limits={"cpu": "250m"})

    assert code == 403
    assert "the shim of no node" in body["message"]


@pytest.mark.parametrize(
    "resources",
    [
        {"limits": {"memory": "64Mi"}},
        {"requests": {"memory": "8Mi"}},
        {"limits": {"cpu": "250m", "memory": "64Mi"}},
    ],
    ids=["limit", "request", "beside-cpu"],
)
def test_a_shim_may_not_change_memory(
    shim: User, pod: MakePod, resources: dict[str, dict[str, str]]
) -> None:
    pod("memory", **BURSTABLE)

    code, body = shim.resize("memory", **resources)

    assert code == 403
    assert "a shim may change the CPU of containers and nothing else" in body["message"]


@pytest.mark.parametrize(
    ("there", "removed"),
    [
        (BURSTABLE, {"limits": {"cpu": None}}),
        (BURSTABLE, {"requests": {"cpu": None}, "limits": {"cpu": None}}),
        ({"requests": BURSTABLE["requests"]}, {"requests": {"cpu": None}}),
    ],
    ids=["limit", "both", "request"],
)
def test_a_shim_may_not_remove_a_cpu_value(
    cluster: Cluster,
    shim: User,
    pod: MakePod,
    there: dict[str, dict[str, str]],
    removed: dict[str, Cpu],
) -> None:
    """The API server refuses it before the policy, which is for those that do not."""
    pod("kept", **there)

    code, _ = shim.resize("kept", **removed)

    assert code in (403, 422)
    assert get(cluster, "kept")["spec"]["containers"][0]["resources"] == there


def test_a_request_removed_below_a_limit_is_a_raise_to_it_which_a_shim_may_do(
    cluster: Cluster, shim: User, pod: MakePod
) -> None:
    """The API server fills it in before it asks any policy: the two cannot be told apart."""
    pod("filled", **BURSTABLE)

    code, _ = shim.resize("filled", requests={"cpu": None})

    assert code == 200
    resources = get(cluster, "filled")["spec"]["containers"][0]["resources"]
    assert resources["requests"]["cpu"] == resources["limits"]["cpu"] == "200m"


def test_a_shim_may_not_change_a_sidecar_s_memory_but_its_cpu(cluster: Cluster, shim: User) -> None:
    name = "with-sidecar"
    sidecar = inert()["containers"][0] | {"name": "side", "restartPolicy": "Always"}
    spec = inert() | {"nodeName": NODE, "initContainers": [sidecar]}
    apply(cluster, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    try:
        codes = [
            shim.call(
                "PATCH",
                f"{PODS}/{name}/resize",
                {"spec": {"initContainers": [{"name": "side", "resources": {"limits": given}}]}},
            )[0]
            for given in ({"memory": "64Mi"}, {"cpu": "250m"})
        ]
    finally:
        delete(cluster, "pod", name, "default")

    assert codes == [403, 200]


def test_a_shim_may_not_touch_pods_other_than_by_resizing(shim: User, pod: MakePod) -> None:
    pod("untouched", **BURSTABLE)
    path = f"{PODS}/untouched"

    assert shim.code("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3D" + NODE) == 200
    assert shim.call("PATCH", path, changed(limits={"cpu": "250m"}))[0] == 403
    assert shim.call("PATCH", f"{path}/status", {"status": {}})[0] == 403
    assert shim.code("DELETE", path) == 403
    assert shim.code("POST", f"{path}/eviction", {"kind": "Eviction"}) == 403
    assert shim.code("GET", "/api/v1/secrets") == 403


def allocation(name: str) -> dict[str, Any]:
    container = {"name": "main", "admitted": {"limit": "200m"}, "desired": {"limit": "300m"}}
    return {
        "apiVersion": "mbcas.io/v1alpha1",
        "kind": "PodAllocation",
        "metadata": {"name": name},
        "spec": {"podName": "some", "podUID": "1", "containers": [container]},
    }


def test_the_server_writes_podallocations_and_a_shim_only_reads_one_at_a_time(
    cluster: Cluster, server: User, shim: User
) -> None:
    path = f"{ALLOCATIONS}/rights-1"
    status = {"status": {"reason": "Band"}}

    assert shim.code("POST", ALLOCATIONS, allocation("rights-1")) == 403
    assert server.code("POST", ALLOCATIONS, allocation("rights-1")) == 201
    try:
        assert server.code("PATCH", f"{path}/status", status) == 200
        assert shim.code("GET", path) == 200
        assert shim.code("GET", ALLOCATIONS) == 403
        assert shim.code("PATCH", path, status) == 403
        assert shim.code("PATCH", f"{path}/status", status) == 403
    finally:
        delete(cluster, "podallocation", "rights-1", "default")


def test_the_server_may_not_touch_pods(server: User, pod: MakePod) -> None:
    pod("server-s", **BURSTABLE)

    assert server.resize("server-s", limits={"cpu": "250m"})[0] == 403
    assert server.code("PATCH", f"{PODS}/server-s", {"metadata": {"labels": {"a": "b"}}}) == 403
    assert server.code("DELETE", f"{PODS}/server-s") == 403
    assert server.code("GET", "/api/v1/secrets") == 403


def test_the_server_holds_its_own_lease_and_no_other(cluster: Cluster, server: User) -> None:
    def lease(name: str) -> dict[str, Any]:
        api = "coordination.k8s.io/v1"
        return {"apiVersion": api, "kind": "Lease", "metadata": {"name": name}, "spec": {}}

    apply(cluster, lease("another") | {"metadata": {"name": "another", "namespace": NAMESPACE}})
    try:
        assert server.code("GET", f"{LEASES}/another") == 403
        assert server.code("PUT", f"{LEASES}/another", lease("another")) == 403
        assert server.code("POST", LEASES, lease("mbcas")) in (201, 409)
        code, own = server.call("GET", f"{LEASES}/mbcas")
        assert code == 200
        assert server.code("PUT", f"{LEASES}/mbcas", own) == 200
    finally:
        delete(cluster, "lease", "another", NAMESPACE)


@pytest.mark.usefixtures("release")
def test_whoever_may_view_a_namespace_may_see_its_podallocations(cluster: Cluster) -> None:
    def verbs() -> set[str]:
        role = json.loads(cluster.kubectl("get", "clusterrole", "view", "-o", "json").stdout)
        named = (rule for rule in role["rules"] if "podallocations" in rule.get("resources", ()))
        return {verb for rule in named for verb in rule["verbs"]}

    wait_until(lambda: verbs() == {"get", "list", "watch"})
