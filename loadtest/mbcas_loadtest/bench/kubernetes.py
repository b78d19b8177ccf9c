"""MBCAS on a real node: how long a surge waits, and what hundreds of resizes leave undisturbed.

The cluster has MBCAS installed and a node on this machine, whose cgroups tell what was really done
and when. A surge is a container that has slept since it started and then wants a whole core, at a
random moment and for the first time: nothing is remembered that would give it room beforehand. A
mild one, throttled in fewer than 60 % of its first second's periods, is counted apart.
Resizes come from containers that work and sleep by turns.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from mbcas_loadtest.clock import monotonic_seconds, sleep_seconds
from mbcas_loadtest.demo.surges import SurgeWatch
from mbcas_loadtest.errors import DemoError
from mbcas_loadtest.kube.pods import Namespace, Pod, Target, namespace
from mbcas_loadtest.node.cgroups import CgroupsUnavailableError, Reader, find_hierarchy

PODS = 8
"""That surge, one after the other."""
PODS_WITH_TURNS = 30
REQUEST_MILLICORES, LIMIT_MILLICORES = 20, 100
FIRST_SURGE_SECONDS = 12.0
SLOT_SECONDS = 4.0
SURGE_SECONDS = 7
SAMPLE_SECONDS = 0.02
WORK_SECONDS = (8, 15)
SLEEP_SECONDS = (10, 25)
LOOK_SECONDS = 1.0
BUSY = "busybox timeout {seconds} busybox sh -c 'while :; do :; done'"

Tell = Callable[[str], None]


def find_target(kubeconfig: Path, *, node: str, cgroup: str, image: str) -> Target:
    """Names the node to load.

    Raises:
        DemoError: This machine's cgroups cannot be read.
    """
    try:
        hierarchy = find_hierarchy(Path("/proc/self/mounts").read_text())
    except CgroupsUnavailableError as error:
        raise DemoError(f"needs CPU cgroups: {error}") from error
    return Target(kubeconfig=kubeconfig, node=node, hierarchy=hierarchy, cgroup=cgroup, image=image)


def bench_reaction(target: Target, *, surges: int, seed: int, tell: Tell) -> dict[str, Any]:
    """Measures from the end of a surge's first throttled period to a larger quota in its cgroup.

    Raises:
        DemoError: The pods do not run, or their cgroups are not here.
    """
    generator = np.random.default_rng(seed)
    reactions: list[float] = []
    unanswered = mild = 0
    annotations = {"mbcas.io/mode": "auto", "mbcas.io/policy": "limits-only"}
    with namespace(target, f"mbcas-bench-reaction-{seed}", annotations) as space:
        for batch in range(math.ceil(surges / PODS)):
            watches = _surge(space, batch, generator)
            reactions += [w.reactions_seconds[0] for w in watches if w.reactions_seconds]
            unanswered += sum(w.unanswered_count for w in watches)
            mild += sum(not w.reactions_seconds and not w.unanswered_count for w in watches)
            tell(f"{len(reactions)} surges answered, {unanswered} not, {mild} mild")
    return {
        "schema": "mbcas.bench.kubernetes-reaction/1",
        "reaction_seconds": {
            "p50": float(np.percentile(reactions, 50)) if reactions else None,
            "p95": float(np.percentile(reactions, 95)) if reactions else None,
            "max": max(reactions, default=None),
            "count": len(reactions),
            "unanswered": unanswered,
            "mild": mild,
        },
        "reactions_seconds": [round(reaction, 3) for reaction in sorted(reactions)],
    }


def _surge(space: Namespace, batch: int, generator: np.random.Generator) -> list[SurgeWatch]:
    """Lets a batch of pods surge one after the other."""
    pods = []
    for index in range(PODS):
        slot = FIRST_SURGE_SECONDS + SLOT_SECONDS * index
        wait = slot + generator.uniform(0, SLOT_SECONDS)
        busy = BUSY.format(seconds=SURGE_SECONDS)
        script = f"busybox sleep {wait:.2f}; {busy}; exec busybox sleep 3600"
        pods.append(_pod(f"surge-{batch}-{index}", script))
    space.make(pods)
    with ExitStack() as opened:
        readers = _open(space, opened)
        watches = {name: SurgeWatch() for name in readers}
        end_seconds = (
            monotonic_seconds() + FIRST_SURGE_SECONDS + SLOT_SECONDS * PODS + SURGE_SECONDS
        )
        while monotonic_seconds() < end_seconds:
            for name, reader in readers.items():
                counters = reader.read()
                quota = counters.quota_millicores or math.inf
                watches[name].feed(monotonic_seconds(), counters.nr_throttled, quota)
            sleep_seconds(SAMPLE_SECONDS)
    for watch in watches.values():
        watch.finish()
    space.clear()
    return list(watches.values())


def bench_resizes(
    target: Target, *, resizes: int, seconds_max: float, seed: int, tell: Tell
) -> dict[str, Any]:
    """Counts what resizes disturb: restarts, new pods, other QoS classes, evictions.

    Raises:
        DemoError: The pods do not run.
    """
    generator = np.random.default_rng(seed)
    annotations = {"mbcas.io/mode": "auto", "mbcas.io/policy": "requests-and-limits"}
    with namespace(target, f"mbcas-bench-resizes-{seed}", annotations) as space:
        space.make([_pod(f"turns-{index}", _turns(generator)) for index in range(PODS_WITH_TURNS)])
        before = after = space.look()
        begin_seconds = monotonic_seconds()
        done = told = 0
        while done < resizes and monotonic_seconds() < begin_seconds + seconds_max:
            sleep_seconds(LOOK_SECONDS)
            after = space.look()
            done = sum(after[name].generation - seen.generation for name, seen in before.items())
            if done >= told + 50:
                told = done
                tell(f"{done} resizes after {monotonic_seconds() - begin_seconds:.0f} s")
        reasons = space.event_reasons()
    return {
        "schema": "mbcas.bench.kubernetes-resizes/1",
        "resizes": done,
        "seconds": round(monotonic_seconds() - begin_seconds, 1),
        "pods": len(before),
        "restarts": sum(seen.restarts for seen in after.values()),
        "pods_replaced": sum(after[name].uid != seen.uid for name, seen in before.items()),
        "qos_changes": sum(after[name].qos != seen.qos for name, seen in before.items()),
        "evictions": int("Evicted" in reasons or "Preempted" in reasons),
        "event_reasons": sorted(reason for reason in reasons if reason),
    }


def _turns(generator: np.random.Generator) -> str:
    """A script that works and sleeps by turns, each pod by its own lengths."""
    work, rest = generator.integers(*WORK_SECONDS), generator.integers(*SLEEP_SECONDS)
    first = generator.integers(0, rest)
    busy = BUSY.format(seconds=work)
    return f"busybox sleep {first}; while :; do {busy}; busybox sleep {rest}; done"


def _pod(name: str, script: str) -> Pod:
    return Pod(
        name=name,
        script=script,
        request_millicores=REQUEST_MILLICORES,
        limit_millicores=LIMIT_MILLICORES,
    )


def _open(space: Namespace, opened: ExitStack) -> Mapping[str, Reader]:
    readers = space.readers()
    for reader in readers.values():
        opened.callback(reader.close)
    return readers
