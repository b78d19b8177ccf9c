"""Pods that load one node of a cluster, and where their cgroups are.

Everything is in a namespace of its own, which is annotated so that MBCAS resizes its pods, and
which goes with all that is in it when the block ends.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tenacity
from kubernetes import client, config

from mbcas_loadtest.errors import DemoError
from mbcas_loadtest.node.cgroups import Hierarchy, Reader

START_SECONDS = 120.0
END_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The node to load: one whose cgroups can be read here."""

    kubeconfig: Path
    node: str
    hierarchy: Hierarchy
    cgroup: str = "kubepods"
    """The kubelet's cgroup for pods, below the mount of the cpu controller."""
    image: str = "busybox:1.37"
    """With a busybox in its PATH."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod of one container, as the bench wants it."""

    name: str
    script: str
    """What its shell runs."""
    request_millicores: int
    limit_millicores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the API server says of a pod that must stay as it was, but for its CPU."""

    uid: str
    qos: str
    restarts: int
    phase: str
    generation: int = field(compare=False)
    """Rises by one with every resize."""


class Namespace:
    """A namespace with pods, made by `namespace`."""

    def __init__(self, target: Target, name: str, api: Any) -> None:  # noqa: ANN401 - see `_connect`.
        self._target = target
        self._name = name
        self._api = api

    def make(self, pods: Sequence[Pod]) -> None:
        """Makes pods and waits until all of them run.

        Raises:
            DemoError: Some do not.
        """
        for pod in pods:
            self._api.create_namespaced_pod(self._name, self._manifest(pod))
        running = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda states: set(states) != {"Running"}),
            wait=tenacity.wait_fixed(0.5),
            stop=tenacity.stop_after_delay(START_SECONDS),
        )
        try:
            running(lambda: [seen.phase for seen in self.look().values()])
        except tenacity.RetryError as error:
            states = {name: seen.phase for name, seen in self.look().items()}
            raise DemoError(f"pods of namespace {self._name} do not run: {states}") from error

    def look(self) -> dict[str, Seen]:
        """Returns what the API server says of each pod."""
        return {
            pod.metadata.name: Seen(
                uid=pod.metadata.uid,
                qos=pod.status.qos_class,
                restarts=sum(each.restart_count for each in pod.status.container_statuses or ()),
                phase=pod.status.phase,
                generation=pod.metadata.generation,
            )
            for pod in self._api.list_namespaced_pod(self._name).items
        }

    def event_reasons(self) -> set[str]:
        """Returns the reasons of all events about the pods."""
        return {event.reason for event in self._api.list_namespaced_event(self._name).items}

    def readers(self) -> Mapping[str, Reader]:
        """Opens the counters of each pod's container; whoever asks closes them."""
        return {
            pod.metadata.name: Reader(
                self._target.hierarchy.version,
                [
                    self._cgroup(root, pod.metadata.uid, _container_id(pod))
                    for root in self._target.hierarchy.roots
                ],
            )
            for pod in self._api.list_namespaced_pod(self._name).items
        }

    def clear(self) -> None:
        """Deletes all pods at once and waits until they are gone."""
        self._api.delete_collection_namespaced_pod(self._name, grace_period_seconds=0)
        tenacity.Retrying(
            retry=tenacity.retry_if_result(bool),
            wait=tenacity.wait_fixed(0.2),
            stop=tenacity.stop_after_delay(END_SECONDS),
        )(self.look)

    def _manifest(self, pod: Pod) -> dict[str, Any]:
        return {
            "metadata": {"name": pod.name},
            "spec": {
                "nodeName": self._target.node,
                "hostNetwork": True,  # It needs none, and this one takes no time to make.
                "terminationGracePeriodSeconds": 0,
                "tolerations": [{"operator": "Exists"}],
                "automountServiceAccountToken": False,
                "containers": [
                    {
                        "name": "load",
                        "image": self._target.image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["busybox", "sh", "-c", pod.script],
                        "resources": {
                            "requests": {"cpu": f"{pod.request_millicores}m", "memory": "16Mi"},
                            "limits": {"cpu": f"{pod.limit_millicores}m", "memory": "32Mi"},
                        },
                    }
                ],
            },
        }

    def _cgroup(self, root: Path, uid: str, container_id: str) -> Path:
        # Only the folders on the way are looked into: others may vanish meanwhile.
        found = [
            path
            for way in ("", "*/")
            for name in (uid, uid.replace("-", "_"))
            for path in (root / self._target.cgroup).glob(f"{way}*{name}*/*{container_id}*")
        ]
        if not found:
            raise DemoError(
                f"no cgroup of container {container_id} below {root / self._target.cgroup}: is "
                f"{self._target.node} this machine, and is --cgroup right?"
            )
        return found[0]


@contextmanager
def namespace(target: Target, name: str, annotations: Mapping[str, str]) -> Iterator[Namespace]:
    """Makes a namespace for the block and removes it with everything in it.

    Raises:
        DemoError: There is one of this name already.
    """
    api = _connect(target.kubeconfig)
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    try:
        api.create_namespace(
            {"metadata": {"name": name, "annotations": dict(annotations), "labels": labels}}
        )
    except client.ApiException as error:
        raise DemoError(f"namespace {name} cannot be made: {error.reason}") from error
    try:
        yield Namespace(target, name, api)
    finally:
        api.delete_namespace(name)


def _connect(kubeconfig: Path) -> Any:  # noqa: ANN401 - the client's types let every field be None.
    load: Any = config.load_kube_config
    load(str(kubeconfig))
    return client.CoreV1Api()


def _container_id(pod: Any) -> str:  # noqa: ANN401 - see `_connect`.
    return str(pod.status.container_statuses[0].container_id).rpartition("//")[2]
