from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_shim.counters import Counters
from mbcas_shim.outbox import pack_samples
from mbcas_shim.sampling import Heat, Sampler, Track
from tests.mbcas_shim.fakes import VirtualClock, declare, make_inventory, make_v1, only_row


class Bench:
    """One container whose counters the test moves, and its sampler."""

    def __init__(self, root: Path, **files: str) -> None:
        self.folder = make_v1(root, **files)
        self.usage_file = root / "cpuacct" / "api" / "cpuacct.usage"
        self.row = only_row(make_inventory(root, declare()))
        self.counters = Counters(VirtualClock())
        self.sampler = Sampler(self.counters)
        self.now_seconds = 100.0
        self.usage_nsec = 5_000_000_000
        self.nr_throttled = 2
        self.sampler.start(self.row, self.now_seconds)

    @property
    def track(self) -> Track:
        (track,) = self.sampler.tracks
        return track

    def use(self, millicores: float, seconds: float) -> None:
        self.usage_nsec += round(millicores * seconds * 1e6)
        self.usage_file.write_text(str(self.usage_nsec))
        self.now_seconds += seconds

    def throttle(self, count: int = 1) -> None:
        self.nr_throttled += count
        text = f"nr_periods 99\nnr_throttled {self.nr_throttled}\nthrottled_time 5000\n"
        (self.folder / "cpu.stat").write_text(text)

    def second(self, uses: list[float] | float, elapsed: list[float] | None = None) -> list[Track]:
        """Runs one second with these uses of its ten slices; returns what is to be reported."""
        series = uses if isinstance(uses, list) else [uses] * 10
        lengths = elapsed or [0.1] * 10
        recorder = self.sampler.open_second()
        for index, (millicores, length) in enumerate(zip(series, lengths, strict=True)):
            self.use(millicores, length)
            if index < 9:
                recorder.read(self.now_seconds)
        return self.sampler.close_second(recorder, self.now_seconds)

    def report(self, tracks: list[Track]) -> None:
        """Does what the outbox does when it takes samples."""
        for track in tracks:
            track.sent_seconds = track.read_seconds
            track.detail.clear()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_slices_are_mean_millicores_of_each_tenth_of_a_second(bench: Bench) -> None:
    uses = [0.0, 100.0, 200.0, 300.0, 50.0, 0.0, 0.0, 900.0, 10.0, 20.0]

    bench.second(uses)

    ((slices, rise),) = bench.track.detail
    assert slices == pytest.approx(uses, abs=1)
    assert rise == 0


@given(st.lists(st.floats(0.05, 0.19), min_size=10, max_size=10), st.integers(0, 3000))
def test_a_late_reading_does_not_change_the_mean_of_a_steady_use(
    tmp_path_factory: pytest.TempPathFactory, elapsed: list[float], millicores: int
) -> None:
    bench = Bench(tmp_path_factory.mktemp("tree"))

    bench.second(float(millicores), elapsed)
    bench.row.cgroup.close()

    ((slices, _),) = bench.track.detail
    assert slices == pytest.approx([millicores] * 10, abs=1)


def test_a_second_with_a_missed_slice_has_no_detail_and_is_counted(bench: Bench) -> None:
    bench.second(100.0)
    recorder = bench.sampler.open_second()
    recorder.missed_slices += 2
    bench.use(100.0, 1.0)

    bench.sampler.close_second(recorder, bench.now_seconds)

    assert list(bench.track.detail) == []
    assert bench.sampler.slices_dropped == 2


def test_detail_has_no_gap_and_is_bounded(bench: Bench) -> None:
    for _ in range(7):
        bench.second(100.0)

    assert len(bench.track.detail) == 5


def test_throttling_of_a_second_travels_with_its_slices(bench: Bench) -> None:
    bench.throttle(3)

    bench.second(300.0)

    ((_, rise),) = bench.track.detail
    assert rise == 3


@pytest.mark.parametrize(
    ("millicores", "heat"), [(290.0, Heat.HOT), (250.0, Heat.BUSY), (100.0, Heat.BUSY)]
)
def test_heat_follows_the_share_of_the_quota(bench: Bench, millicores: float, heat: Heat) -> None:
    bench.second(millicores)

    assert bench.track.heat == heat


def test_a_container_is_calm_after_ten_quiet_seconds_and_not_before(bench: Bench) -> None:
    heats = []
    for _ in range(10):
        bench.second(100.0)
        heats.append(bench.track.heat)

    assert heats[:9] == [Heat.BUSY] * 9
    assert heats[9] == Heat.CALM


def test_a_calm_container_is_not_cut_into_slices(bench: Bench) -> None:
    for _ in range(10):
        bench.second(100.0)

    assert bench.sampler.open_second().tracks == []


def test_a_calm_container_that_is_throttled_is_sent_in_the_same_second(bench: Bench) -> None:
    for _ in range(10):
        bench.report(bench.second(100.0))
    bench.throttle()

    carried = bench.second(100.0)

    assert carried == [bench.track]
    assert bench.track.heat == Heat.HOT


@pytest.mark.parametrize(
    ("millicores", "settled_seconds", "expected"), [(290.0, 0, 10), (250.0, 0, 5), (100.0, 10, 2)]
)
def test_reports_come_every_one_two_or_five_seconds(
    bench: Bench, millicores: float, settled_seconds: int, expected: int
) -> None:
    for _ in range(settled_seconds):
        bench.report(bench.second(millicores))
    bench.report([bench.track])

    sent = 0
    for _ in range(10):
        carried = bench.second(millicores)
        sent += len(carried)
        bench.report(carried)

    assert sent == expected


def test_a_container_without_a_quota_becomes_calm_however_much_it_uses(tmp_path: Path) -> None:
    bench = Bench(tmp_path, **{"cpu.cfs_quota_us": "-1"})

    for _ in range(10):
        bench.second(5000.0)

    assert bench.track.heat == Heat.CALM


def test_a_counter_that_goes_back_gives_no_slices(bench: Bench) -> None:
    bench.second([100.0, 100.0, -500.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0])

    assert list(bench.track.detail) == []


def test_garbage_in_a_file_is_counted_and_the_row_not_reported(bench: Bench) -> None:
    (bench.folder / "cpu.stat").write_text("garbage")

    carried = bench.second(290.0)

    assert carried == []
    assert bench.counters.value("cgroup_unreadable") == 1


def test_a_quota_that_somebody_changed_is_noticed(bench: Bench) -> None:
    bench.second(290.0)
    (bench.folder / "cpu.cfs_quota_us").write_text("40000")

    bench.second(290.0)

    assert bench.sampler.changed_rows == [bench.row]
    assert bench.row.bandwidth.quota_usec == 40_000


def test_columns_are_little_endian_arrays_of_the_promised_types(bench: Bench) -> None:
    bench.throttle(300)
    bench.second([100.0] * 9 + [90_000.0])

    samples = pack_samples(bench.sampler.tracks, 7)

    assert np.frombuffer(samples.handles, "<i4").tolist() == [bench.row.handle]
    assert np.frombuffer(samples.usage_usec, "<i8").tolist() == [bench.usage_nsec // 1000]
    assert np.frombuffer(samples.nr_throttled, "<i8").tolist() == [302]
    assert np.frombuffer(samples.quota_usec, "<i8").tolist() == [30_000]
    assert list(samples.detail_seconds) == [1]
    slices = np.frombuffer(samples.slice_millicores, "<u2")
    assert slices[:9] == pytest.approx([100.0] * 9, abs=1)
    assert slices[9] == 65_535
    assert list(samples.second_throttled) == [255]
    assert samples.pressure_usec == b""
    assert samples.slices_dropped == 7
