"""Pods that the contract's cases start from."""

from typing import Any

from tests.kube.resources import Pod
from tests.kube.wire import Json

IMAGE = "localhost/busybox:e2e"
BURSTABLE = {
    "requests": {"cpu": "20m", "memory": "32Mi"},
    "limits": {"cpu": "500m", "memory": "64Mi"},
}
GUARANTEED = {
    "requests": {"cpu": "50m", "memory": "32Mi"},
    "limits": {"cpu": "50m", "memory": "32Mi"},
}
UNLIMITED = {"requests": {"cpu": "20m", "memory": "32Mi"}}
NEARLY_GUARANTEED = {
    "requests": {"cpu": "20m", "memory": "32Mi"},
    "limits": {"cpu": "500m", "memory": "32Mi"},
}


def container(name: str, resources: dict[str, Any], **fields: Json) -> dict[str, Any]:
    """Returns a container."""
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "resources": resources,
        **fields,
    }


def pod(name: str, *containers: dict[str, Any], **spec: Json) -> Pod:
    """Returns a pod that ends at once when it is told to."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "hostNetwork": True,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": list(containers),
            **spec,
        },
    }


def single(name: str, resources: dict[str, Any], **spec: Json) -> Pod:
    """Returns a pod with one container, named main."""
    return pod(name, container("main", resources), **spec)
