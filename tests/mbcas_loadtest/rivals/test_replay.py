import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mbcas_loadtest.commands import app
from mbcas_loadtest.rivals import commands
from mbcas_loadtest.rivals.catalog import RIVALS
from mbcas_loadtest.rivals.replay import replay, usage_by_second
from mbcas_loadtest.rivals.replay_output import to_json
from mbcas_loadtest.simulation import mbcas
from mbcas_loadtest.workloads.rates import find_traces
from mbcas_loadtest.workloads.traces import Series, read_series

CORES = {entry.name for entry in mbcas.ENTRIES}
GOLDEN = find_traces().parent / "golden" / "vpa-1.8.1.jsonl"


def write_trace(folder: Path, rows: list[tuple[float, float]]) -> Path:
    path = folder / "trace.csv"
    lines = [f"a/one,{seconds:g},{millicores:g}" for seconds, millicores in rows]
    path.write_text("\n".join(["series_id,t_seconds,cpu_millicores", *lines, ""]))
    return path


def series_of(folder: Path, rows: list[tuple[float, float]]) -> Series:
    return read_series(write_trace(folder, rows))


def test_each_minute_is_the_mean_of_its_own_samples(tmp_path: Path) -> None:
    series = series_of(tmp_path, [(second, second * 2.0) for second in range(0, 300, 3)])

    minutes = usage_by_second(series)

    assert minutes.shape == (5, 60)
    expected = [np.mean(np.arange(start, start + 60, 3) * 2.0) for start in range(0, 300, 60)]
    assert minutes.mean(axis=1) == pytest.approx(expected)


def test_a_minute_without_a_sample_is_left_out(tmp_path: Path) -> None:
    series = series_of(tmp_path, [(0, 10), (61, 20), (122, 30), (179, 35), (241, 40)])

    assert usage_by_second(series).mean(axis=1).tolist() == pytest.approx(
        [10, 20, (59 * 30 + 35) / 60, 40]
    )


def test_samples_minutes_apart_hold(tmp_path: Path) -> None:
    series = series_of(tmp_path, [(0, 10), (300, 20), (600, 30)])

    assert usage_by_second(series).mean(axis=1).tolist() == [10] * 5 + [20] * 5 + [30] * 5


def test_vpa_shows_its_bounds_after_each_minute(tmp_path: Path) -> None:
    series = series_of(tmp_path, [(minute * 60, 250) for minute in range(61)])

    done = replay(RIVALS["vpa"], series, declared_millicores=8_000)

    assert [row.samples for row in done.rows] == list(range(1, 62))
    last = done.rows[-1]
    assert (last.lower, last.target) == (282, 296)
    assert last.upper == pytest.approx(7400, rel=1e-3)
    assert last.limit_millicores == 296
    above = next(row.samples for row in done.rows if row.upper is not None and row.upper < 8_000)
    assert [row.samples for row in done.rows if row.changes] == [above]


def test_usage_is_never_cut_and_counts_as_throttled_above_the_limit(tmp_path: Path) -> None:
    series = series_of(tmp_path, [(second, 100 + second) for second in range(120)])

    done = replay(RIVALS["static"], series, declared_millicores=160)

    assert [row.usage_millicores for row in done.rows] == [129.5, 189.5]
    assert [row.throttled_ratio for row in done.rows] == [0.0, pytest.approx(59 / 60)]


@pytest.mark.parametrize("name", ["mbcas", *(name for name in RIVALS if name not in CORES)])
def test_any_system_can_be_replayed(name: str, tmp_path: Path) -> None:
    series = series_of(tmp_path, [(second, 100 + second % 7) for second in range(120)])

    done = replay(RIVALS[name], series, declared_millicores=300)

    assert len(done.rows) == 2
    assert done.knob == RIVALS[name].default
    for row in to_json(done)["rows"]:
        assert row["request_millicores"] > 0
        assert math.isfinite(row["throttled_ratio"])
        assert ("target" in row) == name.startswith("vpa")


def test_the_command_prints_a_table_and_writes_every_minute(tmp_path: Path) -> None:
    trace = write_trace(tmp_path, [(minute * 60, 250) for minute in range(90)])
    to = tmp_path / "replay.json"

    done = CliRunner().invoke(
        app, ["replay", "--rival", "vpa", "--trace", str(trace), "--json", str(to)]
    )

    assert done.exit_code == 0, done.output
    assert "target" in done.output
    assert len(done.output.splitlines()) < 40
    found = json.loads(to.read_text())
    assert (found["rival"], found["series_id"]) == ("vpa", "a/one")
    assert [row["samples"] for row in found["rows"]] == list(range(1, 91))
    assert found["rows"][60]["target"] == 296


def test_a_series_that_memory_cannot_hold_ends_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(*_args: object, **_options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(commands, "replay", overflow)
    trace = write_trace(tmp_path, [(0, 1), (60, 1)])

    done = CliRunner().invoke(app, ["replay", "--rival", "static", "--trace", str(trace)])

    assert done.exit_code == 1
    assert (
        "2 minutes of a/one are too much for the memory with static; see --minutes" in done.output
    )


def test_brackets_in_names_are_shown_as_they_are(tmp_path: Path) -> None:
    trace = write_trace(tmp_path, [(0, 1), (60, 1)])
    trace.write_text(trace.read_text().replace("a/one", "[/red][bold]:cat:"))
    to = tmp_path / "[bold]replay.json"

    done = CliRunner().invoke(
        app, ["replay", "--rival", "static", "--trace", str(trace), "--json", str(to)]
    )

    assert done.exit_code == 0, done.output
    assert "over [/red][bold]:cat:, in" in done.output
    assert "[bold]replay.json" in done.output.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rival", "vpn"], "vpa-fast"),
        (["--rival", "vpa", "--knob", "90"], "target-cpu-percentile"),
        (["--rival", "weights-only", "--knob", "inf"], "weights-only has none"),
        (["--rival", "static", "--knob", "nan"], "must be from 0.5 to 3"),
        (["--rival", "vpa", "--declared", "1" + "0" * 400], "to 10000000 millicores"),
        (["--rival", "vpa", "--declared", "5"], "or equal to 10"),
        (["--rival", "vpa", "--series", "b"], "a/one"),
        (["--rival", "vpa", "--json", "no/such/folder/x.json"], "no such folder"),
    ],
    ids=["rival", "knob", "no-knob", "nan", "declared", "too-little", "series", "folder"],
)
def test_bad_flags_are_answered_with_what_is_allowed(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    trace = write_trace(tmp_path, [(0, 1), (60, 1)])

    done = CliRunner().invoke(app, ["replay", "--trace", str(trace), *arguments])

    assert done.exit_code != 0
    assert said in done.output.replace("\n", "")
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("value", "field"), [("-5", "cpu_millicores"), ("nan", "cpu_millicores"), ("", "line")]
)
def test_a_bad_trace_is_answered_with_file_line_and_field(
    value: str, field: str, tmp_path: Path
) -> None:
    trace = write_trace(tmp_path, [(0, 1), (60, 1)])
    trace.write_text(trace.read_text() + f"a/one,120{',' if value else ''}{value}\n")

    done = CliRunner().invoke(app, ["replay", "--rival", "vpa", "--trace", str(trace)])

    assert done.exit_code == 1
    assert f"trace.csv:4: {field}" in done.output


def test_missing_samples_are_refused_unless_they_may_be_missing(tmp_path: Path) -> None:
    trace = write_trace(tmp_path, [(0, 1), (300, 1), (600, 1), (1_200, 1)])
    arguments = ["replay", "--rival", "static", "--trace", str(trace)]

    refused = CliRunner().invoke(app, arguments)
    allowed = CliRunner().invoke(app, [*arguments, "--may-gap"])

    assert refused.exit_code == 1
    assert "trace.csv:5: t_seconds: is 1200 after 600: samples are missing" in refused.output
    assert "--may-gap" in refused.output
    assert allowed.exit_code == 0


@pytest.mark.skipif(not find_traces().exists(), reason="the traces are no part of the repository")
def test_of_the_recorded_cpu_series_only_those_with_missing_samples_have_gaps() -> None:
    index = csv.DictReader((find_traces() / "series.csv").read_text(encoding="utf-8").splitlines())
    firsts = {row["file"]: row for row in index if row["kind"] == "cpu"}

    for name, row in firsts.items():
        series = read_series(find_traces() / name, row["series_id"], may_gap=True)
        is_whole = float(row["max_gap_s"]) < 2 * float(row["sample_seconds"])
        assert (not series.gaps) == is_whole, row["series_id"]


def test_a_replay_of_a_golden_series_meets_its_lines() -> None:
    """All lines are met by the recommender alone; here the way through trace and minutes."""
    path = find_traces() / "cpu_kepler.csv.gz"
    if not GOLDEN.exists() or not path.exists():
        pytest.skip(f"{GOLDEN} or {path} is not there: they are no part of the repository")
    series = read_series(path)
    lines = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    due = [line for line in lines if line["id"] == series.series_id]

    rows = replay(RIVALS["vpa"], series, minutes=60).rows

    assert len(due) == 2
    for line in due:
        row = rows[line["samples"] - 1]
        assert row.lower == pytest.approx(line["lower"], abs=1)
        assert row.target == pytest.approx(line["target"], abs=1)
        assert row.upper == pytest.approx(line["upper"], rel=1e-3, abs=1)
