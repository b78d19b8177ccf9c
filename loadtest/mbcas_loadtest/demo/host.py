"""This machine, prepared for a run and left as it was.

Signals only set an event; everything that waits, waits for it too. So cleaning up runs in one place
and is never cut short: a second Ctrl-C changes nothing.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import FrameType

from mbcas_core.units import MILLICORES_PER_CORE
from mbcas_loadtest.node import cgroups
from mbcas_loadtest.node.scenario import REFERENCE_NODE_MILLICORES

NODE_SHARE = 0.8  # Of the machine's CPUs; the rest is for the system and the demo itself.


def cpu_count() -> int:
    """Returns how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def node_millicores(cpus: int) -> int:
    """Returns the size of the node on a machine with so many CPUs."""
    return min(REFERENCE_NODE_MILLICORES, round(cpus * MILLICORES_PER_CORE * NODE_SHARE))


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """Turns SIGINT, SIGTERM and SIGHUP into an event for as long as the block lasts."""
    stop = Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, ask_to_stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def prepare_cgroups() -> tuple[cgroups.Hierarchy, list[str]]:
    """Finds where groups can be made, by making one, and removes what killed runs left.

    Returns:
        The hierarchy, and the names of the groups that were removed.

    Raises:
        CgroupsUnavailableError: None can be made here; the message says why.
    """
    try:
        hierarchy = cgroups.find_hierarchy(Path("/proc/self/mounts").read_text())
        removed = cgroups.remove_leftovers(hierarchy)
        probe = cgroups.Node(hierarchy, cgroups.own_name())
        probe.create(REFERENCE_NODE_MILLICORES)
        try:
            probe.add("probe", REFERENCE_NODE_MILLICORES // 2, burst=False)
        finally:
            probe.remove()
    except OSError as error:
        raise cgroups.CgroupsUnavailableError(str(error)) from error
    return hierarchy, removed


@contextmanager
def run_folder() -> Iterator[Path]:
    """Makes a folder for this run's files, and removes those of runs that were killed."""
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{cgroups.PREFIX}*"):
        if cgroups.is_leftover(left.name):
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / cgroups.own_name()
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
