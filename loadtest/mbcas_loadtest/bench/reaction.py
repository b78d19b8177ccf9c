"""How long a surge waits for more CPU: real processes, cgroups, server and shim.

Each container is quiet for a while, then asks for six times its limit while the node has CPU to
spare. It surges once, at a random moment, and is new to MBCAS: nothing is remembered that would
give it room beforehand. Eight of them share a node, one after the other; as many nodes follow each
other as it takes.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.demo.control import Control
from mbcas_loadtest.demo.host import (
    cpu_count,
    node_millicores,
    prepare_cgroups,
    run_folder,
    stop_on_signals,
)
from mbcas_loadtest.demo.observer import Observer
from mbcas_loadtest.demo.run import server_flags
from mbcas_loadtest.errors import DemoError, Interrupted
from mbcas_loadtest.node import cgroups
from mbcas_loadtest.node.container import Container
from mbcas_loadtest.node.machine import CgroupMachine
from mbcas_loadtest.node.scenario import Arrivals, Load, Steady, Workload, draw_arrivals
from mbcas_loadtest.node.statics import Declared

CONTAINERS_PER_NODE = 8
LIMIT_RATIO = 1 / 16  # Of the node: half of it stays free.
QUIET_RATIO, SURGE_RATIO = 0.3, 6.0  # Of the limit.
FIRST_SURGE_SECONDS = 12.0  # The startup grace is over, every container has been judged.
SLOT_SECONDS = 3.0
SURGE_SECONDS = 6.0
REQUEST_SECONDS = 0.002
POLICY = "requests-and-limits"


def bench_reaction(surges: int = 30, seed: int = 7) -> dict[str, Any]:
    """Measures reaction times and returns them with what they rest on.

    Raises:
        DemoError: No CPU cgroups can be made here, or a daemon ended.
        Interrupted: Somebody asked to stop.
    """
    try:
        hierarchy, _ = prepare_cgroups()
    except cgroups.CgroupsUnavailableError as error:
        raise DemoError(f"needs real CPU cgroups, which cannot be made here: {error}") from error
    generator = np.random.default_rng(seed)
    reactions: list[float] = []
    unanswered_count = 0
    with stop_on_signals() as stop, run_folder() as folder:
        for _ in range(math.ceil(surges / CONTAINERS_PER_NODE)):
            containers = _draw_containers(generator)
            found, unanswered = _run_node(containers, hierarchy, folder, stop)
            reactions += found
            unanswered_count += unanswered
    return {
        "schema": "mbcas.bench.reaction/1",
        "policy": POLICY,
        "reaction_seconds": {
            "p50": float(np.percentile(reactions, 50)) if reactions else None,
            "p95": float(np.percentile(reactions, 95)) if reactions else None,
            "max": max(reactions, default=None),
            "count": len(reactions),
            "unanswered": unanswered_count,
        },
        "reactions_seconds": [round(reaction, 3) for reaction in sorted(reactions)],
    }


def _run_node(
    containers: Sequence[Container], hierarchy: cgroups.Hierarchy, folder: Path, stop: Event
) -> tuple[list[float], int]:
    """Runs one node and returns the reaction times and how many surges went without an answer."""
    size = node_millicores(cpu_count())
    node = cgroups.Node(hierarchy, cgroups.own_name())
    machine = CgroupMachine(containers, node=node, node_millicores=size, burst=False, folder=folder)
    with ExitStack() as cleanup:
        cleanup.callback(machine.close)
        machine.open()
        control = Control(machine, node_millicores=size, policy=POLICY, folder=folder)
        cleanup.callback(control.stop)
        control.start_server(server_flags(policy=POLICY, burst=False), stop)
        control.start_shim(stop)
        start_seconds = machine.start()
        control.show_containers(containers)
        observer = Observer(
            [container.name for container in containers],
            read=machine.read,
            reservation=lambda _, counters: counters.shares_millicores or 0.0,
            node_millicores=size,
        )
        cleanup.callback(observer.stop)
        observer.start()
        while monotonic_seconds() < start_seconds + _duration_seconds():
            if stop.wait(1.0):
                raise Interrupted
            control.check()
            machine.check()
        watches = [track.surges for track in observer.stop().values()]
        # A container's later surges meet a ceiling that was raised before: only the first counts.
        first = [watch.reactions_seconds[0] for watch in watches if watch.reactions_seconds]
        return first, sum(1 for w in watches if not w.reactions_seconds and w.unanswered_count)


def _draw_containers(generator: np.random.Generator) -> list[Container]:
    limit = round(node_millicores(cpu_count()) * LIMIT_RATIO)
    containers = []
    for index in range(CONTAINERS_PER_NODE):
        slot = FIRST_SURGE_SECONDS + SLOT_SECONDS * index
        surge_seconds = slot + generator.uniform(0, SLOT_SECONDS)
        load = Load(shape=Steady(millicores=limit), request_seconds=REQUEST_SECONDS)
        workload = Workload(
            name=f"surge-{index}", role="service", priority_class="normal", load=load
        )
        containers.append(
            Container(
                declared=Declared(workload=workload, millicores=limit),
                arrivals=_draw_surge(load, surge_seconds, generator),
            )
        )
    return containers


def _draw_surge(load: Load, surge_seconds: float, generator: np.random.Generator) -> Arrivals:
    """Draws quiet arrivals, with a surge beside them that starts at the given moment."""
    duration = _duration_seconds()
    quiet = draw_arrivals(load, duration_seconds=duration, scale=QUIET_RATIO, generator=generator)
    surge = draw_arrivals(
        load, duration_seconds=SURGE_SECONDS, scale=SURGE_RATIO, generator=generator
    )
    arrival = np.concatenate([quiet.arrival_seconds, surge.arrival_seconds + surge_seconds])
    work = np.concatenate([quiet.work_seconds, surge.work_seconds])
    order = np.argsort(arrival, kind="stable")
    return Arrivals(arrival_seconds=arrival[order], work_seconds=work[order])


def _duration_seconds() -> float:
    return FIRST_SURGE_SECONDS + SLOT_SECONDS * CONTAINERS_PER_NODE + SURGE_SECONDS
