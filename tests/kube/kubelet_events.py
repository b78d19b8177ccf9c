"""The events that a kubelet writes of resizes: a text, and JSON with what it is about."""

import json
import uuid
from typing import Any

from tests.kube.resources import Pod
from tests.kube.store import Store
from tests.kube.timers import Timers

TEXTS = {
    "ResizeStarted": "Pod resize started",
    "ResizeCompleted": "Pod resize completed",
    "ResizeError": "Pod resize error",
    "ResizeDeferred": "Pod resize Deferred",
    "ResizeInfeasible": "Pod resize Infeasible",
}
WARNINGS = frozenset({"ResizeError", "ResizeDeferred", "ResizeInfeasible"})


class KubeletEvents:
    """Writes a node's events."""

    def __init__(self, store: Store, timers: Timers, node: str) -> None:
        self._store = store
        self._timers = timers
        self._node = node

    def say(self, reason: str, pod: Pod, error: str = "") -> None:
        """Writes one event about a pod's resources."""
        told: dict[str, Any] = {}
        for kind in ("initContainers", "containers"):
            if kind in pod["spec"]:
                told[kind] = [
                    {"name": each["name"], "resources": each.get("resources", {})}
                    for each in pod["spec"][kind]
                ]
        told["generation"] = pod["metadata"]["generation"]
        if error:
            told["error"] = error
        metadata = pod["metadata"]
        now = self._timers.text()
        about = {
            "kind": "Pod",
            "apiVersion": "v1",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        }
        event = {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {
                "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
                "namespace": metadata["namespace"],
                "uid": str(uuid.uuid4()),
                "creationTimestamp": now,
            },
            "involvedObject": about,
            "reason": reason,
            "message": f"{TEXTS[reason]}: {json.dumps(told, separators=(',', ':'))}",
            "type": "Warning" if reason in WARNINGS else "Normal",
            "source": {"component": "kubelet", "host": self._node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._store.put("events", event)
