"""Pods as an API server sends them, to be changed by tests."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("pod_1_35.json")
"""A pod of Kubernetes 1.35.4 on containerd, resized by the field manager mbcas: the request of aux
from 1m to 20m, the limit of its sidecar proxy from 100m to 150m. `setup` is a plain init
container."""

Object = dict[str, Any]


def recorded() -> Object:
    """Returns that pod."""
    found: Object = json.loads(RECORDED.read_text())
    return found


def resources(request: str | None = "100m", limit: str | None = "500m") -> Object:
    """Returns the resources of a container, memory equal."""
    found: Object = {"requests": {"memory": "32Mi"}, "limits": {"memory": "32Mi"}}
    if request is not None:
        found["requests"]["cpu"] = request
    if limit is not None:
        found["limits"]["cpu"] = limit
    return found


def container(name: str = "main", wanted: Object | None = None, **fields: object) -> Object:
    """Returns a container of a spec."""
    return {"name": name, "resources": resources() if wanted is None else wanted, **fields}


def status(each: Object, number: int = 1, **fields: object) -> Object:
    """Returns the status of a container that runs with what its spec says."""
    return {
        "name": each["name"],
        "containerID": f"containerd://{each['name']}{number}",
        "imageID": "sha256:1",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        "allocatedResources": each["resources"].get("requests", {}),
        "resources": each["resources"],
        **fields,
    }


def running_pod(
    name: str = "web",
    *containers: Object,
    init: tuple[Object, ...] = (),
    node: str = "node-1",
    qos: str = "Burstable",
    **spec: object,
) -> Object:
    """Returns a pod that runs; init containers are sidecars where they say so."""
    every = list(containers) or [container()]
    sidecars = [each for each in init if each.get("restartPolicy") == "Always"]
    return deepcopy(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", "generation": 1},
            "spec": {
                "nodeName": node,
                "containers": every,
                "initContainers": list(init),
                **spec,
            },
            "status": {
                "phase": "Running",
                "qosClass": qos,
                "observedGeneration": 1,
                "containerStatuses": [status(each) for each in every],
                "initContainerStatuses": [status(each) for each in sidecars],
            },
        }
    )
