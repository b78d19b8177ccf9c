"""What MBCAS does on a real node, in figures: python -m tests.e2e --figures [--json FILE].

Installs the chart on a cluster of its own and measures, one after the other: PATCH to cgroup beside
a bare client, how long surges wait, and what hundreds of resizes disturb. It takes 20 minutes,
and means something only while nothing else works on the machine.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mbcas_loadtest.bench.kubernetes import bench_reaction, bench_resizes, find_target
from mbcas_loadtest.kube.patch_latency import Subject, bench_patches
from mbcas_loadtest.kube.pods import Pod, Target, namespace
from mbcas_shim.kube.api import KubeApiAddress
from mbcas_shim.kube.pods import parse_pod
from tests.e2e.cluster.cluster import NODE, Cluster
from tests.e2e.cluster.images import BUSYBOX_IMAGE
from tests.e2e.conftest import cgroup_of
from tests.e2e.installed import install

SEED = 1000
SUBJECTS = 4
PATCHES = 60
"""Each way."""
SURGES = 40
RESIZES = 500
RESIZES_SECONDS = 900.0
MANY = {"fast_node_orders_per_second": 10.0, "node_orders_per_second": 10.0}
"""So that hundreds of resizes need no hours."""
PATCH_SPACE = "mbcas-figures-patches"

Tell = Callable[[str], None]


def measure(cluster: Cluster, tell: Tell) -> dict[str, Any]:
    """Measures everything."""
    target = find_target(
        cluster.kubeconfig,
        node=NODE,
        cgroup=f"{cluster.cgroup_root}/kubepods",
        image=BUSYBOX_IMAGE,
    )
    figures: dict[str, Any] = {"patches": measure_patches(cluster, target, tell)}
    with install(cluster):
        figures["reaction"] = bench_reaction(target, surges=SURGES, seed=SEED, tell=tell)
    with install(cluster, server={"settings": MANY}):
        figures["resizes"] = bench_resizes(
            target, resizes=RESIZES, seconds_max=RESIZES_SECONDS, seed=SEED, tell=tell
        )
    return figures


def measure_patches(cluster: Cluster, target: Target, tell: Tell) -> dict[str, Any]:
    """Measures PATCH to cgroup, as MBCAS sends it and as a bare client does."""
    token = cluster.folder / "figures-token"
    token.touch(mode=0o600)
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token.write_text(config["users"][0]["user"]["token"])
    address = KubeApiAddress(url=cluster.server, ca_file=cluster.ca, token_file=token)
    with namespace(target, PATCH_SPACE, {"mbcas.io/mode": "off"}) as space:
        names = [f"patched-{index}" for index in range(SUBJECTS)]
        sleep = "exec busybox sleep 3600"
        space.make(
            [
                Pod(name=name, script=sleep, request_millicores=50, limit_millicores=250)
                for name in names
            ]
        )
        subjects = [_subject(cluster, name) for name in names]
        return bench_patches(address, subjects, patches=PATCHES, seed=SEED, tell=tell)


def _subject(cluster: Cluster, name: str) -> Subject:
    printed = cluster.kubectl("-n", PATCH_SPACE, "get", "pod", name, "-o", "json").stdout
    pod = json.loads(printed)
    return Subject(parse_pod(pod), cgroup_of(cluster, pod) / "cpu.cfs_quota_us")


def report(figures: Mapping[str, Any], path: Path | None, tell: Tell) -> None:
    """Prints the figures, and writes them to a file where one is named."""
    text = json.dumps(figures, indent=2)
    tell(text)
    if path is not None:
        path.write_text(text + "\n")
