"""A second kube-scheduler with the example's extender, and a node that is not there (kwok)."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.cluster.cluster import Cluster, free_ports
from tests.e2e.cluster.processes import Processes
from tests.e2e.cluster.programs import find

EXAMPLE = Path(__file__).parents[3] / "deploy" / "examples" / "scheduler-extender"
FAKE_NODE = "kwok-node"
FAKE_ANNOTATION = {"kwok.x-k8s.io/node": "fake"}
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
"""Keeps everybody's pods off the node but those of the tests that know it."""


STAGES = """\
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: node-ready}
spec:
  resourceRef: {apiGroup: v1, kind: Node}
  selector:
    matchExpressions:
      - key: '.status.conditions.[] | select(.type == "Ready") | .status'
        operator: NotIn
        values: ["True"]
  next:
    statusTemplate: |
      conditions:
      {{ range NodeConditions }}
      - lastHeartbeatTime: {{ Now | Quote }}
        lastTransitionTime: {{ Now | Quote }}
        message: {{ .message | Quote }}
        reason: {{ .reason | Quote }}
        status: {{ .status | Quote }}
        type: {{ .type | Quote }}
      {{ end }}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-ready}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
      - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
      - {key: .status.phase, operator: In, values: [Pending]}
  next:
    statusTemplate: |
      phase: Running
      startTime: {{ Now | Quote }}
      conditions:
      - lastTransitionTime: {{ Now | Quote }}
        status: "True"
        type: Ready
      containerStatuses:
      {{ range .spec.containers }}
      - image: {{ .image | Quote }}
        name: {{ .name | Quote }}
        ready: true
        restartCount: 0
        state: {running: {startedAt: {{ Now | Quote }}}}
      {{ end }}
"""
"""How a node becomes Ready and a pod Running; kwok alone does neither."""


def start_kwok(processes: Processes, cluster: Cluster) -> None:
    """Keeps a node Ready, and what is bound to it Running, without any machine.

    Ends with the node's deletion and `processes.stop("kwok")`.
    """
    stages = cluster.folder / "kwok-stages.yaml"
    stages.write_text(STAGES)
    selector = ",".join(f"{key}={value}" for key, value in FAKE_ANNOTATION.items())
    processes.start(
        "kwok",
        [
            find("kwok"),
            "--kubeconfig",
            cluster.kubeconfig,
            f"--config={stages}",
            f"--manage-nodes-with-annotation-selector={selector}",
            "--node-lease-duration-seconds=40",
        ],
    )
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": FAKE_NODE,
            "annotations": FAKE_ANNOTATION,
            "labels": {"kubernetes.io/hostname": FAKE_NODE, "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [TAINT]},
    }
    _apply(cluster, "kwok-node", node)
    amounts = _amounts_of_the_real_node(cluster)
    status = json.dumps({"status": {"allocatable": amounts, "capacity": amounts}})
    cluster.kubectl(
        "patch", "node", FAKE_NODE, "--subresource=status", "--type=merge", "-p", status
    )
    cluster.kubectl("wait", f"node/{FAKE_NODE}", "--for=condition=Ready", "--timeout=60s")


def start_extender(processes: Processes, server_address: str) -> int:
    """Starts the extender and returns the port it listens at."""
    (port,) = free_ports(1)
    processes.start(
        "scheduler-extender",
        [
            find("env"),
            f"PYTHONPATH={EXAMPLE}",
            sys.executable,
            "-m",
            "mbcas_extender",
            f"--server={server_address}",
            f"--listen-address=127.0.0.1:{port}",
        ],
    )
    return port


def start_scheduler(processes: Processes, cluster: Cluster, extender_port: int) -> str:
    """Starts kube-scheduler as the example configures it, and returns its name for pods.

    Only what says where the extender and the API server are is changed.
    """
    configuration = yaml.safe_load((EXAMPLE / "scheduler-config.yaml").read_text())
    (extender,) = configuration["extenders"]
    extender["urlPrefix"] = f"http://127.0.0.1:{extender_port}"
    configuration["clientConnection"] = {"kubeconfig": str(cluster.kubeconfig)}
    path = cluster.folder / "second-scheduler.yaml"
    path.write_text(yaml.safe_dump(configuration))
    (port,) = free_ports(1)
    processes.start(
        "second-scheduler",
        [
            find("kube-scheduler"),
            f"--config={path}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--authentication-skip-lookup",
            "--v=2",
        ],
    )
    name: str = configuration["profiles"][0]["schedulerName"]
    return name


def _amounts_of_the_real_node(cluster: Cluster) -> dict[str, Any]:
    listed = json.loads(cluster.kubectl("get", "nodes", "-o", "json").stdout)
    real = next(each for each in listed["items"] if each["metadata"]["name"] != FAKE_NODE)
    amounts: dict[str, Any] = real["status"]["allocatable"]
    return {name: amounts[name] for name in ("cpu", "memory", "pods")}


def _apply(cluster: Cluster, name: str, manifest: dict[str, Any]) -> None:
    path = cluster.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(manifest))
    cluster.kubectl("apply", "-f", str(path))
