"""The Node object that a kubelet keeps."""

from typing import Any

from tests.kube.store import Object, Store
from tests.kube.timers import Timers

SILENT_AFTER_SECONDS = 50.0
"""Without a sign of the kubelet for so long, the node controller calls the node Unknown."""


def node_object(name: str, millicores: int, timers: Timers) -> Object:
    """Returns a node that is ready."""
    amounts = {"cpu": f"{millicores}m", "memory": "8Gi", "pods": "110"}
    info = {
        "bootID": "fake-boot",
        "kernelVersion": "6.1.0",
        "containerRuntimeVersion": "containerd://1.6.20",
        "kubeletVersion": "v1.35.4",
        "operatingSystem": "linux",
        "architecture": "amd64",
    }
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "uid": f"{name}-uid",
            "labels": labels,
            "creationTimestamp": timers.text(),
        },
        "spec": {},
        "status": {
            "allocatable": amounts,
            "capacity": amounts,
            "conditions": [_ready("True", timers)],
            "nodeInfo": info,
        },
    }


def set_ready(store: Store, name: str, status: str, timers: Timers) -> None:
    """Writes whether a node is ready: True, False or Unknown."""
    node = store.get("nodes", "", name)
    node["status"]["conditions"] = [_ready(status, timers)]
    store.put("nodes", node)


def _ready(status: str, timers: Timers) -> dict[str, Any]:
    reasons = {"True": "KubeletReady", "False": "KubeletNotReady", "Unknown": "NodeStatusUnknown"}
    return {
        "type": "Ready",
        "status": status,
        "reason": reasons[status],
        "lastTransitionTime": timers.text(),
    }
