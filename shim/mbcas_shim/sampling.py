"""Turns cumulative counters into what a report carries, and decides what is due when.

Each second is cut into ten slices. For rows that are not calm the use of each slice is kept, as
mean millicores over the time that really passed between two readings. A second in which a whole
slice was missed has no detail: spreading the lump evenly would invent a calm that was not there.
"""

import enum
from collections import deque
from dataclasses import dataclass, field

from mbcas_shim.cgroup import CpuCgroup, Throttling
from mbcas_shim.counters import Counters
from mbcas_shim.errors import CgroupError, CgroupGoneError
from mbcas_shim.inventory import Row

SLICES_PER_SECOND = 10
SLICE_SECONDS = 0.1
MAX_DETAIL_SECONDS = 5  # The wire's bound: the longest interval between reports.
_MAX_SLICE_MILLICORES = 65_535
_MAX_SECOND_THROTTLED = 255
_DUE_TOLERANCE_SECONDS = 0.3  # A report every 2 s must not slip to 3 s because of a late wake-up.


class Heat(enum.IntEnum):
    """How closely a row must be followed."""

    CALM = 0
    BUSY = 1
    HOT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """When what is reported; the server's settings directive replaces it."""

    hot_interval_seconds: float = 1.0
    busy_interval_seconds: float = 2.0
    calm_interval_seconds: float = 5.0
    hot_usage_ratio: float = 0.9
    calm_usage_ratio: float = 0.7
    calm_after_seconds: float = 10.0

    def interval_seconds(self, heat: Heat) -> float:
        return (
            self.calm_interval_seconds,
            self.busy_interval_seconds,
            self.hot_interval_seconds,
        )[heat]


@dataclass(slots=True, eq=False)
class Track:
    """What sampling remembers of one row."""

    row: Row
    usage_usec: int
    throttling: Throttling
    pressure_usec: int | None
    read_seconds: float
    busy_seconds: float
    """When it was last seen not to be calm."""
    heat: Heat = Heat.BUSY
    sent_seconds: float = float("-inf")
    detail: deque[tuple[list[int], int]] = field(
        default_factory=lambda: deque(maxlen=MAX_DETAIL_SECONDS)
    )
    """Slices and rise of nr_throttled of the latest seconds, without a gap between them."""


class SecondRecorder:
    """Readings of one second: usage of some rows at its start and at the end of each slice."""

    def __init__(self, tracks: list[Track], now_seconds: float) -> None:
        self.tracks = tracks
        self._groups: list[CpuCgroup] = [track.row.cgroup for track in tracks]
        self._times_seconds = [now_seconds]
        self._readings = [[track.usage_usec for track in tracks]]
        # The counters were read a moment before the second began: that moment is its real start.
        self._times_seconds[0] = max((track.read_seconds for track in tracks), default=now_seconds)
        self.missed_slices = 0

    def read(self, now_seconds: float) -> None:
        self._times_seconds.append(now_seconds)
        try:
            self._readings.append([group.usage_usec() for group in self._groups])
        except CgroupError:
            self._readings.append([_usage_or_unknown(group) for group in self._groups])

    def finish(self, now_seconds: float) -> None:
        """Takes the last reading from the tracks, whose counters were just read."""
        self._times_seconds.append(now_seconds)
        self._readings.append([track.usage_usec for track in self.tracks])

    def slices(self) -> list[list[int]] | None:
        """Millicores of each slice of each row; None where the second is not complete."""
        if self.missed_slices or len(self._readings) != SLICES_PER_SECOND + 1:
            return None
        factors = [
            1 / (max(later - earlier, 1e-6) * 1000)
            for earlier, later in zip(self._times_seconds, self._times_seconds[1:], strict=False)
        ]
        return [_row_slices(usages, factors) for usages in zip(*self._readings, strict=True)]


class Sampler:
    """Follows all rows, a second at a time."""

    def __init__(self, counters: Counters) -> None:
        self.cadence = Cadence()
        self.slices_dropped = 0
        """Since they were last reported; the reporter sets it back."""
        self.changed_rows: list[Row] = []
        """Rows whose quota or burst turned out changed; the reporter empties it."""
        self._counters = counters
        self._tracks: dict[int, Track] = {}

    @property
    def tracks(self) -> list[Track]:
        return list(self._tracks.values())

    def start(self, row: Row, now_seconds: float) -> None:
        """Follows a row from now on, or anew where its cgroup was replaced."""
        try:
            self._tracks[row.handle] = Track(
                row=row,
                usage_usec=row.cgroup.usage_usec(),
                throttling=row.cgroup.throttling(),
                pressure_usec=row.cgroup.pressure_usec(),
                read_seconds=now_seconds,
                busy_seconds=now_seconds,
            )
        except CgroupError as error:
            self._tracks.pop(row.handle, None)
            self._note(error)

    def stop(self, handle: int) -> None:
        self._tracks.pop(handle, None)

    def open_second(self, now_seconds: float) -> SecondRecorder:
        """Begins a second; only rows that are not calm are cut into slices."""
        followed = [track for track in self._tracks.values() if track.heat != Heat.CALM]
        return SecondRecorder(followed, now_seconds)

    def close_second(self, recorder: SecondRecorder, now_seconds: float) -> list[Track]:
        """Reads all rows; returns those that a report must carry now, none where none is due."""
        read: list[Track] = []
        rises: dict[int, int] = {}
        for handle, track in self._tracks.items():
            try:
                rises[handle] = self._read(track, now_seconds)
            except CgroupError as error:
                track.detail.clear()
                self._note(error)
            else:
                read.append(track)
        recorder.finish(now_seconds)
        self._keep_detail(recorder, rises)
        due = [track for track in read if self._is_due(track, now_seconds)]
        if not due:
            return []
        carried = [
            track for track in read if track.heat != Heat.CALM or self._is_due(track, now_seconds)
        ]
        for track in carried:
            self._read_bandwidth(track)
        return carried

    def _read(self, track: Track, now_seconds: float) -> int:
        """Reads one row's counters and judges its heat; returns the rise of nr_throttled."""
        usage_usec = track.row.cgroup.usage_usec()
        throttling = track.row.cgroup.throttling()
        elapsed_seconds = max(now_seconds - track.read_seconds, 1e-6)
        millicores = (usage_usec - track.usage_usec) / (elapsed_seconds * 1000)
        rise = max(0, throttling.nr_throttled - track.throttling.nr_throttled)
        track.usage_usec, track.throttling = usage_usec, throttling
        track.read_seconds = now_seconds
        was_calm = track.heat == Heat.CALM
        track.heat = self._judge(track, millicores, rise, now_seconds)
        if was_calm and track.heat != Heat.CALM:
            track.sent_seconds = float("-inf")  # It is sent in this same second.
        return rise

    def _judge(self, track: Track, millicores: float, rise: int, now_seconds: float) -> Heat:
        bandwidth = track.row.bandwidth
        if bandwidth.quota_usec is None:
            ratio = 0.0
        else:
            ratio = millicores * bandwidth.period_usec / (bandwidth.quota_usec * 1000)
        if rise > 0 or ratio >= self.cadence.hot_usage_ratio:
            track.busy_seconds = now_seconds
            return Heat.HOT
        if ratio >= self.cadence.calm_usage_ratio:
            track.busy_seconds = now_seconds
        is_rested = now_seconds - track.busy_seconds >= self.cadence.calm_after_seconds
        return Heat.CALM if is_rested else Heat.BUSY

    def _is_due(self, track: Track, now_seconds: float) -> bool:
        interval_seconds = self.cadence.interval_seconds(track.heat)
        return now_seconds - track.sent_seconds >= interval_seconds - _DUE_TOLERANCE_SECONDS

    def _keep_detail(self, recorder: SecondRecorder, rises: dict[int, int]) -> None:
        slices = recorder.slices()
        if slices is None:
            self.slices_dropped += recorder.missed_slices * len(recorder.tracks)
            for track in recorder.tracks:
                track.detail.clear()
            return
        for track, row_slices in zip(recorder.tracks, slices, strict=True):
            # A row that was replaced during the second has another track by now.
            handle = track.row.handle
            if self._tracks.get(handle) is not track or handle not in rises or not row_slices:
                track.detail.clear()
            else:
                track.detail.append((row_slices, min(rises[handle], _MAX_SECOND_THROTTLED)))

    def _read_bandwidth(self, track: Track) -> None:
        try:
            if track.row.read_bandwidth():
                self.changed_rows.append(track.row)
            track.pressure_usec = track.row.cgroup.pressure_usec()
        except CgroupError as error:
            self._note(error)

    def _note(self, error: CgroupError) -> None:
        # A group that is gone is no trouble: the inventory finds that out by itself.
        if not isinstance(error, CgroupGoneError):
            self._counters.count("cgroup_unreadable", error)


_UNKNOWN = -1


def _usage_or_unknown(group: CpuCgroup) -> int:
    try:
        return group.usage_usec()
    except CgroupError:
        return _UNKNOWN


def _row_slices(usages: tuple[int, ...], factors: list[float]) -> list[int]:
    """Empty where a reading is missing or the counter went back."""
    slices = [
        int((later - earlier) * factor)
        for earlier, later, factor in zip(usages, usages[1:], factors, strict=False)
    ]
    if _UNKNOWN in usages or min(slices) < 0:
        return []
    if max(slices) > _MAX_SLICE_MILLICORES:
        return [min(value, _MAX_SLICE_MILLICORES) for value in slices]
    return slices
