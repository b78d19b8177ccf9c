"""The shortage gauge on simulated nodes, in short."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped] # It comes without types.
from typer.testing import CliRunner

from mbcas_loadtest.bench import gauges
from mbcas_loadtest.commands import app
from tests.mbcas_loadtest.evaluation.samples import phase

SCENARIOS = ("constant", "competition-1.0", "competition-2.0")


@cache
def found() -> dict[str, Any]:
    return gauges.bench_gauges(2, 90, 7, scenarios=SCENARIOS, tell=lambda line: None)


def test_more_overload_is_more_shortage() -> None:
    calm, full, twice = (np.array(found()["scenarios"][name]["shortage"]) for name in SCENARIOS)

    assert calm == pytest.approx(0.0, abs=0.02)
    assert full.mean() < twice.mean() < 1.0


def test_the_rank_correlation_is_a_number_within_its_interval() -> None:
    one = found()["spearman"]["all"]["unmet"]

    assert found()["spearman"]["all"]["nodes"] == 6
    assert -1 <= one["interval"][0] <= one["rho"] <= one["interval"][1] <= 1


def test_a_gauge_that_is_the_same_everywhere_ranks_nothing() -> None:
    assert gauges._spearman(np.zeros(4), np.arange(4.0)) == {"rho": None, "interval": None}


def test_the_correlation_is_scipys_with_ties() -> None:
    draw = np.random.default_rng(7)
    gauge = draw.integers(0, 5, 30).astype(np.float64)
    measured = draw.random(30)

    expected = stats.spearmanr(gauge, measured).statistic

    assert gauges._spearman(gauge, measured)["rho"] == pytest.approx(expected, abs=5e-4)


def test_what_a_closed_loop_did_not_send_is_unmet_but_no_contention() -> None:
    one = phase(
        (1, 2),
        demand_core_seconds=10.0,
        useful_core_seconds=10.0,
        unsent_core_seconds=30.0,
        denied_core_seconds=0.0,
        starved_core_seconds=0.0,
    )

    measured = gauges.measured_contention(one)

    assert measured["unmet"] == pytest.approx([0.75])
    assert measured["contention"] == pytest.approx([0.0])


def test_the_command_writes_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(nodes: int, seconds: int, seed: int, **options: object) -> dict[str, object]:
        return {"asked for": [nodes, seconds, seed], "of": sorted(options)}

    monkeypatch.setattr(gauges, "bench_gauges", measure)
    path = tmp_path / "gauges.json"

    result = CliRunner().invoke(app, ["bench", "gauges", "--nodes", "3", "--json", str(path)])

    assert result.exit_code == 0
    assert json.loads(path.read_text())["asked for"] == [3, 1800, 1000]
