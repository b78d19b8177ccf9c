"""The kinds of objects that the fake serves, and in what their rules differ."""

from dataclasses import dataclass

from tests.kube.errors import ApiError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One resource of one API group."""

    api_version: str
    plural: str
    name: str
    namespaced: bool = True
    custom: bool = False
    """Defined by a CustomResourceDefinition: no strategic merge, items of a list say their kind."""
    has_status: bool = False
    """The status has a path of its own: a write to one of the two leaves the other as it is."""
    unconditional_update: bool = True
    """A PUT without resourceVersion is taken."""
    generations: bool = False
    """A change of the spec is counted."""

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def resource(self) -> str:
        """The resource as messages name it: widgets.example.com."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _kind(api_version: str, plural: str, name: str, **rules: bool) -> Kind:
    return Kind(api_version=api_version, plural=plural, name=name, **rules)


BUILT_IN = (
    _kind("v1", "pods", "Pod", generations=True, has_status=True),
    _kind("v1", "nodes", "Node", namespaced=False, has_status=True),
    _kind("v1", "namespaces", "Namespace", namespaced=False, has_status=True),
    _kind("v1", "events", "Event"),
    _kind("v1", "configmaps", "ConfigMap"),
    _kind("v1", "secrets", "Secret"),
    _kind("v1", "serviceaccounts", "ServiceAccount"),
    _kind("v1", "resourcequotas", "ResourceQuota"),
    _kind("v1", "limitranges", "LimitRange"),
    _kind("v1", "replicationcontrollers", "ReplicationController"),
    _kind("v1", "services", "Service"),
    _kind("v1", "endpoints", "Endpoints"),
    _kind("apps/v1", "deployments", "Deployment", generations=True),
    _kind("apps/v1", "replicasets", "ReplicaSet", generations=True),
    _kind("apps/v1", "statefulsets", "StatefulSet", generations=True),
    _kind("apps/v1", "daemonsets", "DaemonSet", generations=True),
    _kind("batch/v1", "jobs", "Job", generations=True),
    _kind("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    _kind("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", generations=True),
    _kind("coordination.k8s.io/v1", "leases", "Lease", unconditional_update=False),
    _kind("events.k8s.io/v1", "events", "Event"),
    _kind("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", namespaced=False),
    _kind("authentication.k8s.io/v1", "tokenreviews", "TokenReview", namespaced=False),
    _kind(
        "authorization.k8s.io/v1",
        "subjectaccessreviews",
        "SubjectAccessReview",
        namespaced=False,
    ),
    _kind(
        "authorization.k8s.io/v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        namespaced=False,
    ),
    _kind(
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
        has_status=True,
    ),
)
POD_ALLOCATION = _kind(
    "mbcas.io/v1alpha1",
    "podallocations",
    "PodAllocation",
    custom=True,
    has_status=True,
    unconditional_update=False,
    generations=True,
)


class Kinds:
    """What is served."""

    def __init__(self) -> None:
        self._served = {
            (kind.api_version, kind.plural): kind for kind in (*BUILT_IN, POD_ALLOCATION)
        }

    def find(self, api_version: str, plural: str) -> Kind:
        """Returns a kind.

        Raises:
            ApiError: 404; in plain text where the whole group is unknown, or is a custom one.
        """
        kind = self._served.get((api_version, plural))
        if kind is None:
            group = api_version.rpartition("/")[0]
            custom = not any(
                each.group == group and not each.custom for each in self._served.values()
            )
            raise ApiError(404, NOT_SERVED, plain=custom)
        return kind

    def define(self, definition: dict[str, dict[str, object]]) -> None:
        """Serves what a CustomResourceDefinition says."""
        spec: dict[str, object] = definition["spec"]
        for version in spec["versions"]:  # type: ignore[attr-defined]  # As a client wrote it.
            kind = Kind(
                api_version=f"{spec['group']}/{version['name']}",
                plural=spec["names"]["plural"],  # type: ignore[index]  # As a client wrote it.
                name=spec["names"]["kind"],  # type: ignore[index]  # As a client wrote it.
                namespaced=spec["scope"] == "Namespaced",
                custom=True,
                has_status="status" in version.get("subresources", {}),
                unconditional_update=False,
                generations=True,
            )
            self._served[kind.api_version, kind.plural] = kind

    def forget(self, plural: str) -> None:
        """Serves a resource no more, as where its definition was not installed."""
        for key in [key for key in self._served if key[1] == plural]:
            del self._served[key]


NOT_SERVED = "the server could not find the requested resource"
