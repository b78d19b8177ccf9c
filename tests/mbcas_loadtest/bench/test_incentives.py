import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mbcas_core.market.clearing import Bids, Clearing, clear
from mbcas_core.units import IntArray
from mbcas_loadtest.bench import incentives
from mbcas_loadtest.bench.incentives import Trial, bench_incentives
from mbcas_loadtest.commands import app
from mbcas_loadtest.mechanism.rules.kelly import Kelly
from mbcas_loadtest.mechanism.rules.mbcas import Mbcas


class Generous(Mbcas):
    """Breaks the claims: weighs bidders by what they ask for."""

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        asked = replace(bids, weight=bids.weight * (1.0 + bids.need_millicores))
        return clear(asked, capacity_millicores, quantum_millicores=quantum_millicores)


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return bench_incentives(
        markets=60, seed=4, trials=[Trial(rule=Mbcas()), Trial(rule=Kelly())], tell=lambda _: None
    )


def test_every_attack_on_every_rule_has_its_figures(figures: dict[str, Any]) -> None:
    mbcas, kelly = figures["rules"]["mbcas"], figures["rules"]["kelly"]

    assert list(mbcas["attacks"]) == list(kelly["attacks"])
    assert mbcas["markets"] == kelly["markets"] == 60
    assert mbcas["attacks"]["over_report"]["markets"] == 60
    assert 30 < mbcas["attacks"]["collusion"]["markets"] < 60, "where floors fit"
    assert json.loads(json.dumps(figures)) == figures


def test_nothing_found_comes_with_a_bound_and_something_found_with_its_size(
    figures: dict[str, Any],
) -> None:
    nothing = figures["rules"]["mbcas"]["attacks"]["over_report"]
    something = figures["rules"]["kelly"]["attacks"]["over_report"]

    assert nothing["paying_markets"] == 0
    assert nothing["paying_ratio_upper_bound"] == pytest.approx(3 / 60)
    assert nothing["median_gain_ratio"] is None
    assert something["paying_ratio_upper_bound"] is None
    assert 0 < something["median_gain_ratio"] <= something["largest_gain_ratio"]
    assert something["paying_markets"] == round(something["paying_ratio"] * 60)


def test_lies_about_both_goods_are_told_by_policy(figures: dict[str, Any]) -> None:
    goods = figures["both_goods"]

    assert goods["limits-only"]["paying_markets"] == 0
    assert goods["limits-only"]["paying_ratio_upper_bound"] == pytest.approx(3 / 60)
    assert goods["requests-and-limits"]["paying_markets"] == 0
    assert goods["requests-and-limits, strict"]["paying_ratio"] > 0.3
    assert not any("goods" in claim for claim in figures["claims_broken"])


def test_inflated_requests_are_told_per_core(figures: dict[str, Any]) -> None:
    attack = figures["rules"]["mbcas"]["attacks"]["inflate_request"]

    assert 0 <= attack["median_gain_millicores_per_inflated_core"] <= 1500


def test_more_markets_than_fit_at_once_are_attacked_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(incentives, "MARKETS_AT_ONCE", 25)
    lines: list[str] = []

    figures = bench_incentives(markets=60, seed=4, trials=[Trial(rule=Mbcas())], tell=lines.append)

    assert figures["rules"]["mbcas"]["attacks"]["over_report"]["markets"] == 60
    assert lines[-1] == "mbcas: 60 of 60 markets attacked"
    assert len(lines) == 3


def run_command(
    monkeypatch: pytest.MonkeyPatch, path: Path, trials: Callable[[], list[Trial]]
) -> tuple[int, str]:
    monkeypatch.setattr(incentives, "list_trials", trials)
    arguments = ["bench", "incentives", "--markets", "40", "--seed", "5", "--json", str(path)]
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout


def test_the_command_prints_a_table_and_writes_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "incentives.json"

    exit_code, printed = run_command(monkeypatch, path, lambda: [Trial(rule=Mbcas())])

    assert exit_code == 0
    assert "mbcas, 40 markets" in printed
    assert "claims broken: none" in printed
    assert json.loads(path.read_text())["seed"] == 5


def test_the_command_fails_where_an_attack_pays_that_must_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "incentives.json"

    exit_code, _ = run_command(monkeypatch, path, lambda: [Trial(rule=Generous())])

    assert exit_code == 1
    assert "mbcas: over_report" in json.loads(path.read_text())["claims_broken"]
