"""What the contract's cases see of a Kubernetes, whether it is a real one or the fake."""

import json
import ssl
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.kube.patching import JSON_PATCH, STRATEGIC
from tests.kube.quantity import millicores_of
from tests.kube.resources import Cgroup, Pod
from tests.kube.wire import Json

CALL_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """Code and body of an answer."""

    code: int
    body: dict[str, Any]

    @property
    def causes(self) -> set[tuple[str, str]]:
        """Reason and field of each cause of a refusal."""
        causes = self.body.get("details", {}).get("causes", [])
        return {(cause["reason"], cause.get("field", "")) for cause in causes}


class Kube(ABC):
    """Calls to one namespace of a cluster with one node."""

    def __init__(
        self, server: str, token: str, namespace: str, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.server = server
        self.token = token
        self.namespace = namespace
        self.tls = tls

    @abstractmethod
    def wait(self, done: Callable[[], bool]) -> None:
        """Lets time pass until something holds; fails where it takes too long."""

    @abstractmethod
    def let_pass(self, seconds: float) -> None:
        """Lets time pass, to see that something does not happen."""

    @abstractmethod
    def cgroup_of(self, pod: Pod, container: str = "") -> Cgroup:
        """Returns what the kernel was told of a container; without a name, of the pod."""

    @abstractmethod
    def with_rights(self, *rights: str) -> "Kube":
        """Returns the same cluster for a user with these rights only, as "patch pods/resize"."""

    @abstractmethod
    def write_burst(self, pod: Pod, container: str, burst_us: int) -> None:
        """Lets a container's unused quota carry over, as nobody but the kernel knows."""

    @abstractmethod
    def end_container(self, name: str, container: str, *, exit_code: int = 0) -> None:
        """Lets a container end, where it would not end by itself: its command says when."""

    @abstractmethod
    def stop_kubelet(self) -> None:
        """Ends the kubelet; its containers go on."""

    @abstractmethod
    def start_kubelet(self) -> None:
        """Starts it again."""

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def call(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        content_type: str = "application/json",
        **query: str,
    ) -> Answer:
        """Calls the API server; a refusal is an answer like any other."""
        try:
            with self._open(method, path, body, content_type, query) as response:
                return Answer(response.status, json.load(response))
        except urllib.error.HTTPError as error:
            with error:
                is_json = error.headers.get_content_type() == "application/json"
                return Answer(error.code, json.load(error) if is_json else {})

    @contextmanager
    def watch(self, path: str, **query: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Yields the events of a watch."""
        with self._open("GET", path, None, "", {"watch": "1", **query}) as response:
            yield (json.loads(line) for line in response)

    def _open(
        self, method: str, path: str, body: Json, content_type: str, query: dict[str, str]
    ) -> Json:
        url = f"{self.server}{path}?{urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - loopback.
        # No proxy: the environment, read anew by each thread, changes while tests run.
        direct = urllib.request.ProxyHandler({})
        opener = urllib.request.build_opener(direct, urllib.request.HTTPSHandler(context=self.tls))
        return opener.open(request, timeout=CALL_SECONDS)

    def get(self, name: str) -> Pod:
        """Returns a pod."""
        answer = self.call("GET", f"{self.pods}/{name}")
        assert answer.code == 200, answer
        return answer.body

    def create(self, path: str, kind: str, name: str, **fields: Json) -> dict[str, Any]:
        """Creates an object of any kind."""
        group = path.removeprefix("/apis/").removeprefix("/api/").split("/namespaces/")[0]
        version = group.removesuffix("/namespaces")
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields}
        answer = self.call("POST", path, body)
        assert answer.code == 201, answer
        return answer.body

    def delete(self, name: str) -> None:
        """Deletes a pod at once, and waits until it is gone."""
        self.call("DELETE", f"{self.pods}/{name}", gracePeriodSeconds="0")
        self.wait(lambda: self.call("GET", f"{self.pods}/{name}").code == 404)

    def create_pod(self, pod: Pod) -> Pod:
        """Creates a pod, and waits until it runs and says what it has."""
        answer = self.call("POST", self.pods, pod)
        assert answer.code == 201, answer
        name = pod["metadata"]["name"]
        self.wait(lambda: _runs(self.get(name)))
        return self.get(name)

    def resize(self, name: str, containers: dict[str, dict[str, Any]], **query: str) -> Answer:
        """Patches resources as MBCAS does: strategic merge, one entry per container."""
        entries = [{"name": each, "resources": value} for each, value in containers.items()]
        return self.patch(name, {"spec": {"containers": entries}}, **query)

    def patch(
        self,
        name: str,
        body: Json,
        *,
        content_type: str = STRATEGIC,
        subresource: str = "/resize",
        **query: str,
    ) -> Answer:
        """Patches a pod, through `/resize` unless said otherwise."""
        if isinstance(body, list):
            content_type = JSON_PATCH
        path = f"{self.pods}/{name}{subresource}"
        return self.call("PATCH", path, body, content_type=content_type, **query)

    def settled(self, name: str) -> bool:
        """Says whether the kubelet has seen the newest spec, and has nothing left to do."""
        pod = self.get(name)
        seen = pod["status"].get("observedGeneration", 0) >= pod["metadata"]["generation"]
        return seen and not conditions_of(pod)

    def allocatable_millicores(self) -> int:
        """Returns the CPU of the node."""
        nodes = self.call("GET", "/api/v1/nodes").body["items"]
        return millicores_of(nodes[0]["status"]["allocatable"]["cpu"])


def conditions_of(pod: Pod) -> dict[str, dict[str, Any]]:
    """Returns the pod's resize conditions that hold, by their types."""
    return {
        each["type"]: each
        for each in pod["status"].get("conditions", [])
        if each["type"].startswith("PodResize") and each["status"] == "True"
    }


def status_of(pod: Pod, container: str = "main") -> dict[str, Any]:
    """Returns the status of a container."""
    found: dict[str, Any] = next(
        each for each in pod["status"]["containerStatuses"] if each["name"] == container
    )
    return found


def _runs(pod: Pod) -> bool:
    statuses = pod["status"].get("containerStatuses", [])
    return bool(statuses) and all(
        "running" in each["state"] and "resources" in each for each in statuses
    )
