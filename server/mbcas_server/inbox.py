"""What one node's shim has said since the last tick.

Bounded: of samples the newest few batches are kept (counters are cumulative, so no usage is lost),
facts and removals are merged by handle, results by order id. A report after a gap in the sequence
may speak of handles whose facts were lost; so after a gap, as after an overflow, only results
count until a full inventory has come.
"""

from dataclasses import replace
from enum import StrEnum

import numpy as np

from mbcas_core.events import ContainerFacts, NodeFacts, OrderResult, Report, Samples
from mbcas_core.units import SLICES_PER_SECOND
from mbcas_server.convert import ParsedReport

FACTS_MAX = 10_000  # As many as one report may carry.
RESULTS_MAX = 10_000


class Taken(StrEnum):
    """What became of a report."""

    TAKEN = "taken"
    DUPLICATE = "duplicate"
    AWAITING_INVENTORY = "awaiting_inventory"


class Inbox:
    """One stream's inbox, from its first report on."""

    def __init__(self, *, samples_max: int) -> None:
        self._samples_max = samples_max
        self._sequence = 0
        self._blocked = False
        self._handles: dict[int, tuple[str, str, str]] = {}
        self._full_inventory = False
        self._node_facts: NodeFacts | None = None
        self._known_facts: NodeFacts | None = None
        self._containers: dict[int, ContainerFacts] = {}
        self._removed: dict[int, None] = {}
        self._samples: list[Samples] = []
        self._results: dict[int, OrderResult] = {}
        self.namespaces: set[str] = set()
        """Those of the containers since the last inventory."""
        self.inventory_wanted = ""
        """Why a full inventory is needed; empty where it is not."""
        self.samples_dropped = 0
        """Batches of samples that gave way to newer ones."""
        self.results_dropped = 0

    @property
    def container_count(self) -> int:
        return len(self._handles)

    def put(self, report: ParsedReport) -> Taken:
        """Takes one report in."""
        if report.sequence <= self._sequence:
            return Taken.DUPLICATE
        if report.sequence != self._sequence + 1:
            self._start_over("gap")
        self._sequence = report.sequence
        self._take_results(report.results)
        if report.full_inventory:
            self._begin_inventory()
        if not self._blocked:
            self._merge(report)
        return Taken.AWAITING_INVENTORY if self._blocked else Taken.TAKEN

    def skip_refused(self) -> None:
        """Notes that the next report was refused: what facts it had are lost."""
        self._sequence += 1
        self._start_over("malformed")

    def ask_inventory(self, why: str) -> None:
        """Notes that a full inventory is needed; until it comes, all goes on."""
        self.inventory_wanted = self.inventory_wanted or why

    def put_results(self, results: tuple[OrderResult, ...]) -> None:
        """Takes what became of orders that never reached the shim."""
        self._take_results(results)

    def renew_allocatable(self, millicores: int) -> bool:
        """Takes what the Node object says now; returns whether that is news."""
        if self._known_facts is None or self._known_facts.allocatable_millicores == millicores:
            return False
        self._known_facts = replace(self._known_facts, allocatable_millicores=millicores)
        self._node_facts = self._known_facts
        return True

    def drain(self) -> Report | None:
        """Returns what has come since the last call, None where nothing has."""
        if not (
            self._full_inventory
            or self._samples
            or self._containers
            or self._removed
            or self._results
            or self._node_facts is not None
        ):
            return None
        report = Report(
            full_inventory=self._full_inventory,
            node_facts=self._node_facts,
            removed_handles=tuple(self._removed),
            containers=tuple(self._containers.values()),
            samples=tuple(self._samples),
            results=tuple(self._results.values()),
        )
        self._clear()
        self._node_facts = None
        self._results = {}
        return report

    def _merge(self, report: ParsedReport) -> None:
        if report.node_facts is not None:
            self._node_facts = self._known_facts = report.node_facts
        self._remove(report.removed_handles)
        self._learn(report.containers)
        if report.samples is not None:
            self._samples.append(report.samples)
            self.samples_dropped += len(self._samples) > self._samples_max
            del self._samples[: -self._samples_max]
        if max(len(self._containers), len(self._removed)) > FACTS_MAX:
            self._start_over("overflow")

    def _start_over(self, why: str) -> None:
        """Throws facts and samples away; nothing but results counts until an inventory comes."""
        self._blocked = True
        self.ask_inventory(why)
        self._clear()

    def _begin_inventory(self) -> None:
        self._clear()
        self._handles.clear()
        self.namespaces.clear()
        self._blocked = False
        self.inventory_wanted = ""
        self._full_inventory = True

    def _clear(self) -> None:
        self._full_inventory = False
        self._containers = {}
        self._removed = {}
        self._samples = []

    def _take_results(self, results: tuple[OrderResult, ...]) -> None:
        for result in results:
            self._results[result.order_id] = result
        while len(self._results) > RESULTS_MAX:
            del self._results[next(iter(self._results))]
            self.results_dropped += 1

    def _remove(self, handles: tuple[int, ...]) -> None:
        if not handles:
            return
        self._forget_samples(handles)
        for handle in handles:
            self._containers.pop(handle, None)
            self._handles.pop(handle, None)
            self._removed[handle] = None

    def _learn(self, containers: tuple[ContainerFacts, ...]) -> None:
        changed = []
        for facts in containers:
            identity = (facts.pod_uid, facts.container, facts.container_id)
            if self._handles.get(facts.handle, identity) != identity:
                changed.append(facts.handle)
            self._handles[facts.handle] = identity
            self._containers[facts.handle] = facts
            self.namespaces.add(facts.namespace)
        if changed:
            self._forget_samples(tuple(changed))

    def _forget_samples(self, handles: tuple[int, ...]) -> None:
        """Drops what was sampled of containers that these handles no longer mean."""
        self._samples = [_without(samples, handles) for samples in self._samples]


def _without(samples: Samples, handles: tuple[int, ...]) -> Samples:
    keep = ~np.isin(samples.handles, handles)
    if keep.all():
        return samples
    seconds = np.repeat(keep, samples.detail_seconds)
    return Samples(
        node_time_seconds=samples.node_time_seconds,
        handles=samples.handles[keep],
        counters=samples.counters[:, keep],
        detail_seconds=samples.detail_seconds[keep],
        slice_millicores=samples.slice_millicores[np.repeat(seconds, SLICES_PER_SECOND)],
        second_throttled=samples.second_throttled[seconds],
    )
