"""What is to be reported next.

It is bounded by the number of rows: samples live in the tracks, where newer replace older, facts
and removals are kept by handle, results have a cap. A server that is slow to read gets fewer
reports, each of them current.
"""

import asyncio
import sys
from array import array
from collections import deque
from collections.abc import Iterable

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.counters import Counters
from mbcas_shim.inventory import Inventory, Row
from mbcas_shim.sampling import Sampler, Track
from mbcas_shim.source import Source

_MAX_RESULTS = 10_000  # As many as one directive may carry orders.


class Outbox:
    """Collects what the next report carries; `take` builds that report."""

    def __init__(
        self,
        *,
        sampler: Sampler,
        inventory: Inventory,
        counters: Counters,
        source: Source,
    ) -> None:
        self._sampler = sampler
        self._inventory = inventory
        self._counters = counters
        self._source = source
        self._facts: dict[int, Row] = {}
        self._removed: set[int] = set()
        self._due: dict[int, Track] = {}
        self._results: deque[pb.OrderResult] = deque()
        self._is_inventory_due = True
        self._is_node_due = True
        self._wake = asyncio.Event()

    def begin_stream(self) -> None:
        """The next report is a stream's first: everything there is, no answers to void orders."""
        self._results.clear()
        self.request_inventory()

    def request_inventory(self) -> None:
        self._is_inventory_due = True
        self._is_node_due = True
        self._wake.set()

    def add_facts(self, row: Row) -> None:
        """Notes changed facts; they travel with the next report, at the latest within a second."""
        self._facts[row.handle] = row

    def add_node_facts(self) -> None:
        self._is_node_due = True

    def add_removal(self, handle: int) -> None:
        self._facts.pop(handle, None)
        self._due.pop(handle, None)
        self._removed.add(handle)

    def add_samples(self, tracks: Iterable[Track]) -> None:
        self._due.update((track.row.handle, track) for track in tracks)

    def add_results(self, results: Iterable[pb.OrderResult]) -> None:
        """Notes results and has them sent at once, because the server waits for them."""
        self._results.extend(results)
        while len(self._results) > _MAX_RESULTS:
            self._results.popleft()
            self._counters.count("results_dropped", "the server does not read")
        self._wake.set()

    def flush(self) -> None:
        """Ends a second: what there is goes out now."""
        for row in self._sampler.changed_rows:
            self.add_facts(row)
        self._sampler.changed_rows.clear()
        if self._due or self._facts or self._removed or self._is_node_due:
            self._wake.set()

    async def wait(self) -> None:
        """Waits until there is something to send."""
        await self._wake.wait()

    def take(self, *, now_seconds: float) -> pb.NodeReport:
        """Builds the next report from what has come together, and forgets it."""
        self._wake.clear()
        report = pb.NodeReport(full_inventory=self._is_inventory_due)
        if self._is_inventory_due:
            rows: Iterable[Row] = self._inventory.rows
            self._removed.clear()
            self._due = {track.row.handle: track for track in self._sampler.tracks}
        else:
            rows = self._facts.values()
        report.containers.extend(map(self._source.container_facts, rows))
        report.removed_handles.extend(sorted(self._removed))
        if self._is_node_due:
            report.node_facts.CopyFrom(self._source.node_facts(self._inventory.rows))
        report.order_results.extend(self._results)
        read_seconds = now_seconds
        if self._due:
            tracks = list(self._due.values())
            read_seconds = max(track.read_seconds for track in tracks)
            report.samples.CopyFrom(pack_samples(tracks, self._sampler.slices_dropped))
            self._sampler.slices_dropped = 0
            for track in tracks:
                track.detail.clear()
                track.sent_seconds = track.read_seconds
        report.monotonic_time_usec = round(read_seconds * 1e6)
        self._facts.clear()
        self._removed.clear()
        self._results.clear()
        self._due = {}
        self._is_inventory_due = self._is_node_due = False
        return report


def pack_samples(tracks: list[Track], slices_dropped: int) -> pb.Samples:
    """Packs the latest readings of rows into columns, little-endian as the wire has them."""
    throttling = [track.throttling for track in tracks]
    bandwidth = [track.row.bandwidth for track in tracks]
    pressure = [track.pressure_usec for track in tracks]
    known_pressure = [value for value in pressure if value is not None]
    details = [detail for track in tracks for detail in track.detail]
    return pb.Samples(
        handles=_column("i", (track.row.handle for track in tracks)),
        usage_usec=_column("q", (track.usage_usec for track in tracks)),
        nr_periods=_column("q", (item.nr_periods for item in throttling)),
        nr_throttled=_column("q", (item.nr_throttled for item in throttling)),
        throttled_usec=_column("q", (item.throttled_usec for item in throttling)),
        nr_bursts=_column("q", (item.nr_bursts or 0 for item in throttling)),
        quota_usec=_column("q", (item.quota_usec or 0 for item in bandwidth)),
        period_usec=_column("q", (item.period_usec for item in bandwidth)),
        burst_usec=_column("q", (item.burst_usec or 0 for item in bandwidth)),
        # The column is there for all rows or for none.
        pressure_usec=_column("q", known_pressure) if None not in pressure else b"",
        detail_seconds=bytes(len(track.detail) for track in tracks),
        slice_millicores=_column("H", (value for slices, _ in details for value in slices)),
        second_throttled=bytes(rise for _, rise in details),
        slices_dropped=slices_dropped,
    )


def _column(kind: str, values: Iterable[int]) -> bytes:
    column = array(kind, values)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()
