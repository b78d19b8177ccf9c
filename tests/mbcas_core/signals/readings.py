"""Builds samples and drives one row's counters."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mbcas_core.events import COUNTERS, Samples
from mbcas_core.signals import counters
from mbcas_core.signals.counters import CounterTable, Seconds

if TYPE_CHECKING:
    from mbcas_core.units import IntArray


@dataclass
class Reading:
    """One sample of one container; slices in millicores, one list of ten for each second."""

    time: float
    usage_usec: int = 0
    nr_periods: int = 0
    nr_throttled: int = 0
    quota_usec: int = 50_000
    period_usec: int = 100_000
    slices: list[list[int]] = field(default_factory=list)
    throttled: list[int] = field(default_factory=list)

    def samples(self) -> Samples:
        values = np.zeros((len(COUNTERS), 1), np.int64)
        for name in ("usage_usec", "nr_periods", "nr_throttled", "quota_usec", "period_usec"):
            values[COUNTERS.index(name), 0] = getattr(self, name)
        throttled = self.throttled or [0] * len(self.slices)
        return Samples(
            node_time_seconds=self.time,
            handles=np.array([1], np.int32),
            counters=values,
            detail_seconds=np.array([len(self.slices)], np.uint8),
            slice_millicores=np.array(self.slices, np.uint16).reshape(-1),
            second_throttled=np.array(throttled, np.uint8),
        )


class OneRow:
    """A table with one container on a machine of four CPUs."""

    def __init__(self) -> None:
        self.table = CounterTable()
        self.table.grow(1)
        self.dropped: dict[str, int] = {}
        self.now = 0.0

    def take(self, *readings: Reading) -> Seconds:
        """Takes readings that arrive between two ticks, and judges them."""
        self.now += 1.0
        rows: IntArray = np.array([0])
        for reading in readings:
            counters.stage(self.table, rows, reading.samples())
        return counters.judge(
            self.table,
            cpu_count=np.array([4]),
            now_seconds=self.now,
            dropped=self.dropped,
        )
