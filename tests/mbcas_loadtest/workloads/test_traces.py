"""What is read of a recorded series, and what is refused, with file, line and field."""

import gzip
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from mbcas_loadtest.workloads import traces
from mbcas_loadtest.workloads.replay import Service, trace_world
from mbcas_loadtest.workloads.traces import TraceError, read_series

GOOD = "series_id,t_seconds,cpu_millicores\na,0,100\na,1,200\na,2,300\nb,0,5\nb,3,6\n"


def _write(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_the_named_series_is_read(tmp_path: Path, *, zipped: bool) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(gzip.compress(GOOD.encode()) if zipped else GOOD.encode())

    series = read_series(path, "a")

    assert series.unit == "cpu_millicores"
    assert series.t_seconds.tolist() == [0, 1, 2]
    assert series.values.tolist() == [100, 200, 300]
    assert series.sample_seconds == 1
    assert series.duration_seconds == 3


HEADER = "series_id,t_seconds,cpu_millicores\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "trace.csv:1: series_id: is missing"),
        (HEADER, "trace.csv:2: line: is missing: there are no samples"),
        ("series_id,t_seconds,cpu_cores\na,0,1\n", "trace.csv:1: header: has series_id, t_seconds"),
        ("series_id,seconds,rps\na,0,1\n", "trace.csv:1: t_seconds: is missing"),
        ("series_id,t_seconds,rps,rps\n", "trace.csv:1: header: names a column twice"),
        ("series_id,t_seconds,rps,level\n", "trace.csv:1: header: has rps and level: say which"),
        (HEADER + "a,0,1\na,1,nan\n", "trace.csv:3: cpu_millicores: is nan, must be from 0"),
        (HEADER + "a,0,-1\n", "trace.csv:2: cpu_millicores: is -1, must be from 0"),
        (HEADER + "a,0,1e9\n", "trace.csv:2: cpu_millicores: is 1e9, must be from 0 to 1e+07"),
        (HEADER + "a,0,100m\n", "trace.csv:2: cpu_millicores: is '100m', must be a plain"),
        (HEADER + "a,0,\n", "trace.csv:2: cpu_millicores: is '', must be a plain number"),
        (HEADER + "a,0,1_000\n", "trace.csv:2: cpu_millicores: is '1_000', must be a plain number"),
        (HEADER + "a,1_0,1\n", "trace.csv:2: t_seconds: is '1_0', must be a plain number"),
        (HEADER + "a,0,\u0663\n", "trace.csv:2: cpu_millicores: is '\u0663', must be a plain"),
        (HEADER + "a,-1,5\n", "trace.csv:2: t_seconds: is -1, must be from 0"),
        (HEADER + "a,0,1\na,2,1\na,1,1\n", "trace.csv:4: t_seconds: is 1 after 2"),
        (HEADER + "a,0,1\na,0,1\n", "trace.csv:3: t_seconds: is 0 after 0"),
        (
            HEADER + "a,5,1\na,1e10,1\n",
            "trace.csv:3: t_seconds: is 10000000000, the series began at 5; it may last 40 days",
        ),
        (HEADER + "a,0,1\na,1\n", "trace.csv:3: line: has 2 fields, the header has 3"),
        (HEADER + "a,0,1\na,1,1\na,2,1\na,9,1\n", "trace.csv:5: t_seconds: is 9 after 2: samples"),
        (
            HEADER + "a,0,1\na,1,1\na,2,1\na,3,1\na,5,1\n",
            "trace.csv:6: t_seconds: is 5 after 3: samples are missing, a has one every 1 s",
        ),
        (HEADER + "a,0,1\nb,0,1\na,1,1\n", "trace.csv:4: series_id: is a again"),
        (HEADER + ",0,1\n", "trace.csv:2: series_id: is empty"),
        (HEADER + "a,0,1\n", "trace.csv:2: series_id: a has a single sample"),
        (HEADER + "\x1b[2J,0,1\n", "trace.csv:2: series_id: is '\\x1b[2J', must be up to 250"),
        (HEADER + "a" * 251 + ",0,1\n", "trace.csv:2: series_id: is 'aaaa"),
        ("\0" * 5_000, "trace.csv:1: header: is '\\x00"),
        ("a;" * 4_000, "trace.csv:1: series_id: is missing; the columns are a;a"),
        (HEADER + "b,0,1\nb,1,1\n", "trace.csv:1: series_id: a is not in the file, but b"),
        (HEADER + "a,0," + "1" * 20_000, "trace.csv:2: line: is longer than 10000 characters"),
        (HEADER + 'a,0,"1\n', "trace.csv:2: line: is no CSV"),
    ],
)
def test_what_cannot_be_used_is_refused_with_file_line_and_field(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(TraceError) as refusal:
        read_series(_write(tmp_path, text), "a")

    assert said in str(refusal.value)


def test_a_byte_order_mark_and_lines_of_windows_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(GOOD.replace("\n", "\r\n").encode("utf-8-sig"))

    assert read_series(path, "a").values.tolist() == [100, 200, 300]


@pytest.mark.parametrize("zipped", [False, True])
def test_a_series_comes_through_a_pipe(tmp_path: Path, *, zipped: bool) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = gzip.compress(GOOD.encode()) if zipped else GOOD.encode()
    writer = threading.Thread(target=path.write_bytes, args=(content,), daemon=True)
    writer.start()

    series = read_series(path, "a")
    writer.join()

    assert series.values.tolist() == [100, 200, 300]


def test_a_small_archive_of_a_huge_file_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "CHARACTERS_MAX", 10_000)
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress((HEADER + "b,0,1\n" * 10_000).encode()))

    with pytest.raises(TraceError, match=r"trace.csv.gz:1662: line: is beyond 10000 characters"):
        read_series(path, "a")


def test_the_line_that_is_not_utf8_is_named_though_more_was_read_ahead(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    lines = "".join(f"a,{i},1\n" for i in range(3_000))
    path.write_bytes((HEADER + lines).encode() + b"a,3000,\xff\n")

    with pytest.raises(TraceError, match=r"trace.csv:3002: line: is not UTF-8"):
        read_series(path, "a")


def test_samples_that_come_up_to_half_a_step_late_are_no_gap(tmp_path: Path) -> None:
    times = [1_700_000_000 + at for at in (0, 0.2, 0.3, 0.5, 0.8, 1.0, 1.2)]
    text = HEADER + "".join(f"a,{time},1\n" for time in times)

    series = read_series(_write(tmp_path, text))

    assert series.sample_seconds == pytest.approx(0.2, rel=1e-5)
    assert not series.gaps


def test_a_file_of_several_series_asks_which(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="say which of 2: a, b"):
        read_series(_write(tmp_path, GOOD))


def test_broken_compression_and_encoding_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    lines = "".join(f"a,{i},{i * i % 997}\n" for i in range(5_000))
    path.write_bytes(gzip.compress((HEADER + lines).encode())[:-200])
    with pytest.raises(TraceError, match="cannot be unpacked"):
        read_series(path, "a")
    path.write_bytes(HEADER.encode() + b"a,0,\xff\n")
    with pytest.raises(TraceError, match="is not UTF-8"):
        read_series(path, "a")
    with pytest.raises(TraceError, match="cannot be read"):
        read_series(tmp_path / "absent.csv", "a")


def test_samples_are_held_and_never_interpolated(tmp_path: Path) -> None:
    lines = "".join(f"a,{60 * i},{100 if i % 2 else 900}\n" for i in range(40))
    path = _write(tmp_path, HEADER + lines)

    world = trace_world(path, "a", [0, 1, 2], seconds=600, service=Service(cv=0.0))

    values = np.unique(world.arrivals_usec)
    assert values.tolist() == [10_000, 90_000]
    for node in range(3):
        changes = np.flatnonzero(np.diff(world.arrivals_usec[:, node, 0]))
        assert (np.diff(changes) == 600).all()
    assert len({world.arrivals_usec[:, node].tobytes() for node in range(3)}) > 1
    assert "measured: CPU usage, one value every 60 s" in world.modelled
    assert "says nothing about bursts shorter than 60 s" in world.modelled


def test_a_replay_stays_clear_of_gaps(tmp_path: Path) -> None:
    before = "".join(f"a,{i},100\n" for i in range(50))
    after = "".join(f"a,{i},700\n" for i in range(500, 700))
    path = _write(tmp_path, HEADER + before + after)

    world = trace_world(path, "a", range(10), seconds=150, service=Service(cv=0.0))

    assert (world.arrivals_usec == 70_000).all()
    with pytest.raises(TraceError, match=r"trace.csv:52: t_seconds: a has no 300 s without a gap"):
        trace_world(path, "a", [0], seconds=300)


def test_a_request_series_goes_through_the_service_model(tmp_path: Path) -> None:
    lines = "".join(f"a,{i},50\n" for i in range(400))
    path = _write(tmp_path, "series_id,t_seconds,rps\n" + lines)

    world = trace_world(
        path, "a", [0], seconds=300, service=Service(request_usec=10_000.0, scale=2.0)
    )

    assert world.arrivals_usec.mean() == pytest.approx(2 * 50 * 10_000 / 10, rel=0.05)
    assert world.request_usec[0, 0] == 10_000
    assert "Poisson arrivals, 10000 us of CPU each" in world.modelled
