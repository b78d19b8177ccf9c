"""Turns cumulative counters into what a report carries, and decides what is due when.

Each second is cut into ten slices. For rows that are not calm the use of each slice is kept, as
mean millicores over the time that really passed between two readings. A second in which a whole
slice was missed has no detail: spreading the lump evenly would invent a calm that was not there.
"""

import enum
import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from mbcas_shim.cgroup import READ_BYTES, KernelFile, Throttling
from mbcas_shim.counters import Counters
from mbcas_shim.errors import CgroupError, CgroupGoneError
from mbcas_shim.inventory import Row

SLICES_PER_SECOND = 10
SLICE_SECONDS = 0.1
MAX_DETAIL_SECONDS = 5  # The wire's bound: the longest interval between reports.
_MAX_SLICE_MILLICORES = 65_535
_MAX_SECOND_THROTTLED = 255
_TOLERANCE_SECONDS = 0.3  # Two seconds must not become three because of a late wake-up.


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

    def intervals_seconds(self) -> tuple[float, float, float]:
        """By heat."""
        return self.calm_interval_seconds, self.busy_interval_seconds, self.hot_interval_seconds


@dataclass(slots=True, eq=False)
class Track:
    """What sampling remembers of one row."""

    row: Row
    usage_usec: int
    throttling: Throttling
    throttling_text: bytes
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

    def __init__(self, tracks: list[Track]) -> None:
        self.tracks = tracks
        self.missed_slices = 0
        self._descriptors = [track.row.cgroup.usage_file.descriptor for track in tracks]
        # The last readings of the second before are where this one starts.
        self._times_seconds = [max((track.read_seconds for track in tracks), default=0.0)]
        self._first_usec = [track.usage_usec for track in tracks]
        self._texts: list[list[bytes]] = []

    def read(self, now_seconds: float) -> None:
        """Reads and leaves the parsing for later: ten cold passes cost more than one warm one."""
        self._times_seconds.append(now_seconds)
        self._texts.append(_read_all(self._descriptors))

    def slices(self, now_seconds: float) -> list[list[int]] | None:
        """Millicores of each slice of each row; None where the second is not complete.

        Its last reading is the one that the tracks hold by now.
        """
        times_seconds = [*self._times_seconds, now_seconds]
        if self.missed_slices or len(times_seconds) != SLICES_PER_SECOND + 1:
            return None
        factors = [
            1 / (max(later - earlier, _MIN_ELAPSED_SECONDS) * 1000)
            for earlier, later in pairwise(times_seconds)
        ]
        return [
            _row_slices([first, *_parse_usages(track, texts), track.usage_usec], factors)
            for track, first, *texts in zip(
                self.tracks, self._first_usec, *self._texts, strict=True
            )
        ]


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
        self._descriptors: tuple[list[int], list[int]] | None = None

    @property
    def tracks(self) -> list[Track]:
        return list(self._tracks.values())

    def start(self, row: Row, now_seconds: float) -> None:
        """Follows a row from now on, or anew where its cgroup was replaced."""
        group = row.cgroup
        self._descriptors = None
        try:
            throttling_text = group.throttling_file.read()
            self._tracks[row.handle] = Track(
                row=row,
                usage_usec=group.parse_usage(group.usage_file.read()),
                throttling=group.parse_throttling(throttling_text),
                throttling_text=throttling_text,
                pressure_usec=group.pressure_usec(),
                read_seconds=now_seconds,
                busy_seconds=now_seconds,
            )
        except CgroupError as error:
            self._tracks.pop(row.handle, None)
            self._note(row, error)

    def stop(self, handle: int) -> None:
        self._descriptors = None
        self._tracks.pop(handle, None)

    def open_second(self) -> SecondRecorder:
        """Begins a second; only rows that are not calm are cut into slices."""
        return SecondRecorder([t for t in self._tracks.values() if t.heat != Heat.CALM])

    def close_second(self, recorder: SecondRecorder, now_seconds: float) -> list[Track]:
        """Reads all rows; returns those that a report must carry now, none where none is due."""
        rises = self._read(now_seconds)
        self._keep_detail(recorder, rises, now_seconds)
        intervals = self.cadence.intervals_seconds()
        due = {
            handle
            for handle, track in self._tracks.items()
            if now_seconds - track.sent_seconds >= intervals[track.heat] - _TOLERANCE_SECONDS
            and handle in rises
        }
        if not due:
            return []
        carried = [
            track
            for handle, track in self._tracks.items()
            if handle in due or (track.heat != Heat.CALM and handle in rises)
        ]
        for track in carried:
            self._read_bandwidth(track)
        return carried

    def _read(self, now_seconds: float) -> dict[int, int]:
        """Reads and judges all rows; returns the rise of nr_throttled of those it could read."""
        if self._descriptors is None:
            groups = [track.row.cgroup for track in self._tracks.values()]
            self._descriptors = (
                [group.usage_file.descriptor for group in groups],
                [group.throttling_file.descriptor for group in groups],
            )
        usage_texts, throttling_texts = map(_read_all, self._descriptors)
        rises: dict[int, int] = {}
        for (handle, track), usage_text, throttling_text in zip(
            self._tracks.items(), usage_texts, throttling_texts, strict=True
        ):
            try:
                rises[handle] = self._take_in(track, usage_text, throttling_text, now_seconds)
            except CgroupError as error:
                track.detail.clear()
                self._note(track.row, error)
        return rises

    def _take_in(
        self, track: Track, usage_text: bytes, throttling_text: bytes, now_seconds: float
    ) -> int:
        group, rise = track.row.cgroup, 0
        if not usage_text or not throttling_text:
            raise _failure(group.throttling_file if usage_text else group.usage_file)
        usage_usec = group.parse_usage(usage_text)
        if throttling_text != track.throttling_text:
            throttling = group.parse_throttling(throttling_text)
            rise = max(0, throttling.nr_throttled - track.throttling.nr_throttled)
            track.throttling, track.throttling_text = throttling, throttling_text
        elapsed_seconds = max(now_seconds - track.read_seconds, _MIN_ELAPSED_SECONDS)
        usec_per_second = (usage_usec - track.usage_usec) / elapsed_seconds
        track.usage_usec, track.read_seconds = usage_usec, now_seconds
        heat = self._judge(track, usec_per_second, rise, now_seconds)
        if track.heat == Heat.CALM and heat != Heat.CALM:
            track.sent_seconds = float("-inf")  # It is sent in this same second.
        track.heat = heat
        return rise

    def _judge(self, track: Track, usec_per_second: float, rise: int, now_seconds: float) -> Heat:
        cadence = self.cadence
        quota_usec, period_usec, _ = track.row.bandwidth
        ratio = 0.0
        if quota_usec is not None:
            ratio = usec_per_second * period_usec / (quota_usec * 1e6)
        if rise > 0 or (quota_usec is not None and ratio >= cadence.hot_usage_ratio):
            track.busy_seconds = now_seconds
            return Heat.HOT
        if quota_usec is not None and ratio >= cadence.calm_usage_ratio:
            track.busy_seconds = now_seconds
        rested_seconds = now_seconds - track.busy_seconds + _TOLERANCE_SECONDS
        return Heat.CALM if rested_seconds >= cadence.calm_after_seconds else Heat.BUSY

    def _keep_detail(
        self, recorder: SecondRecorder, rises: dict[int, int], now_seconds: float
    ) -> None:
        slices = recorder.slices(now_seconds)
        if slices is None:
            self.slices_dropped += recorder.missed_slices * len(recorder.tracks)
            for track in recorder.tracks:
                track.detail.clear()
            return
        for track, row_slices in zip(recorder.tracks, slices, strict=True):
            rise = rises.get(track.row.handle)
            if rise is None or not row_slices:
                track.detail.clear()
            else:
                track.detail.append((row_slices, min(rise, _MAX_SECOND_THROTTLED)))

    def _read_bandwidth(self, track: Track) -> None:
        try:
            if track.row.read_bandwidth():
                self.changed_rows.append(track.row)
            track.pressure_usec = track.row.cgroup.pressure_usec()
        except CgroupError as error:
            self._note(track.row, error)

    def _note(self, row: Row, error: CgroupError) -> None:
        if isinstance(error, CgroupGoneError):
            row.is_suspect = True  # No trouble: the inventory drops it in this same second.
        else:
            self._counters.count("cgroup_unreadable", error)


_UNKNOWN = -1
_MIN_ELAPSED_SECONDS = 1e-6


def _read_all(descriptors: list[int]) -> list[bytes]:
    """Reads many open files; empty where one cannot be read."""
    pread = os.pread
    try:
        return [pread(descriptor, READ_BYTES, 0) for descriptor in descriptors]
    except OSError:
        return [_read_or_nothing(descriptor) for descriptor in descriptors]


def _read_or_nothing(descriptor: int) -> bytes:
    try:
        return os.pread(descriptor, READ_BYTES, 0)
    except OSError:
        return b""


def _failure(file: KernelFile) -> CgroupError:
    """Reads a file again that could not be read, to learn why."""
    try:
        text = file.read()
    except CgroupError as error:
        return error
    return CgroupError(f"{file.path}: held {text[:80]!r} after a reading that failed")


def _parse_usages(track: Track, texts: Iterable[bytes]) -> list[int]:
    parse = track.row.cgroup.parse_usage
    try:
        return [parse(text) for text in texts]
    except CgroupError:
        return [_UNKNOWN]  # What is wrong is said at the end of the second, when all is read.


def _row_slices(usages: list[int], factors: list[float]) -> list[int]:
    """Empty where a reading is missing or the counter went back."""
    if _UNKNOWN in usages:
        return []
    slices = [
        int((later - earlier) * factor)
        for earlier, later, factor in zip(usages, usages[1:], factors, strict=False)
    ]
    if min(slices) < 0:
        return []
    if max(slices) > _MAX_SLICE_MILLICORES:
        return [min(value, _MAX_SLICE_MILLICORES) for value in slices]
    return slices
