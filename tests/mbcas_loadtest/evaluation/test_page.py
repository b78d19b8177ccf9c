"""What the page says; drawings take a second each, so one page serves many questions."""

import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mbcas_loadtest.errors import EvaluationError
from mbcas_loadtest.evaluation.board import Board, best_knob
from mbcas_loadtest.evaluation.drawings import series_svgs
from mbcas_loadtest.evaluation.family import family_tests
from mbcas_loadtest.evaluation.grid import Wish
from mbcas_loadtest.evaluation.page import SeriesPanel, interval, page_html, value
from mbcas_loadtest.evaluation.report import ClusterRow, Report, make_report, to_json
from mbcas_loadtest.evaluation.standings import scenario_standings
from mbcas_loadtest.evaluation.validity import PlantValidity, read_validity
from tests.mbcas_loadtest.evaluation import samples

HASH = "a" * 64
EVIL = '<script>alert("x")</script>'


@cache
def report() -> Report:
    return _report(samples.board())


def _report(board: Board) -> Report:
    return make_report(
        board,
        samples.results(),
        wish=Wish(seeds=samples.SEEDS),
        file_hash=HASH,
        frozen={HASH: "2026-11-24"},
        speeds={"mbcas": 60.0 / 500, "vpa": 60.0 / 9000},
    )


@cache
def page() -> str:
    validity = PlantValidity(source="p.json", points=40, valid_points=39, regions=(EVIL,))
    drawings = list(
        zip(("a", "b"), series_svgs(samples.series_outcome(), ("a", "b"), 10.0), strict=True)
    )
    failed = replace(report(), failed={"bursty: mbcas": EVIL})
    panel = SeriesPanel(title="constant", about="mbcas, seed 1000", drawings=drawings)
    return page_html(failed, validity=validity, panels=[panel])


def test_the_tests_of_a_tier_are_ten_adjusted_by_holm() -> None:
    tests = family_tests(samples.board(), samples.TIER)

    raw = sorted(test.found.p_value or 0.0 for test in tests)
    assert len(tests) == 10
    assert min(test.p_holm or 0.0 for test in tests) == pytest.approx(min(1.0, raw[0] * 10))


def test_a_test_that_could_not_be_made_counts_in_the_family() -> None:
    made = {job: found for job, found in samples.runs().items() if job.system != "vpa-pretrained"}

    board = samples.board(made)
    tests = family_tests(board, samples.TIER)

    raw = sorted(1.0 if test.found.p_value is None else test.found.p_value for test in tests)
    assert len(tests) == 5
    assert min(test.p_holm or 0.0 for test in tests) == pytest.approx(min(1.0, raw[0] * 10))
    assert "T1: 5 of 10 tests could not be made" in page_html(_report(board))


def test_an_oracle_that_throttles_more_than_its_tau_is_no_bound() -> None:
    made = samples.runs()
    for job, figures in made.items():
        if job.system == "oracle-15s":
            figures["throttled"] = figures["throttled"] + 0.03

    assert samples.board().oracle_excess("constant") == pytest.approx(0.0)
    assert samples.board(made).oracle_excess("constant") == pytest.approx(0.03)
    assert report().unsound_oracle == {}


def test_a_tier_that_is_not_registered_is_not_tested() -> None:
    assert family_tests(samples.board(scenarios={"T2": ["ramp"]}), samples.TIER) == []


def test_five_points_less_waste_than_captain_is_found_better_and_not_inferior() -> None:
    tests = family_tests(samples.board(), samples.TIER)

    (waste,) = [t for t in tests if (t.rival, t.endpoint.name) == ("captain-api", "waste")]

    assert waste.found.mean_difference == pytest.approx(-0.05, abs=0.01)
    assert (waste.is_better, waste.is_not_inferior) == (True, True)


def test_without_a_difference_nothing_is_better_and_nothing_inferior() -> None:
    tests = family_tests(samples.board(), samples.TIER)

    (throttled,) = [t for t in tests if (t.rival, t.endpoint.name) == ("captain-api", "throttled")]

    assert (throttled.is_better, throttled.is_not_inferior) == (None, True)


def test_the_best_knob_wastes_least_within_the_throttling_that_is_allowed() -> None:
    assert best_knob(samples.board(), "mbcas", samples.TIER) == 0.05
    assert best_knob(samples.board(matched_throttled_ratio=0.5), "mbcas", samples.TIER) == 0.2
    assert best_knob(samples.board(matched_throttled_ratio=0.001), "mbcas", samples.TIER) == 0.01


def test_a_best_knob_at_the_end_of_its_sweep_is_marked_in_page_and_json() -> None:
    points = {"captain-api": {"T1": 0.2}, "vpa-pretrained": {"T1": 0.05}}

    marked = _report(samples.board(operating_points=points))

    content = to_json(marked)
    assert content["best_at_end"] == {"captain-api": ["T1"]}
    standings = content["scenarios"][0]["standings"]
    assert [one["system"] for one in standings if one["is_best_at_end"]] == ["captain-api"]
    assert re.search(r"T1 against captain-api † best lies at the sweep.s end", page_html(marked))
    assert not re.search(r"best lies at the sweep.s end: no claim", page())


def test_what_is_matched_at_the_last_knob_that_ran_is_marked() -> None:
    tight, loose = samples.board(), samples.board(matched_throttled_ratio=0.9)

    for board, is_at_end in ((tight, False), (loose, True)):
        standings = scenario_standings(board, board.entries[0]).standings
        assert {one.is_matched_at_end for one in standings} == {is_at_end}


def test_scenarios_that_are_short_of_cpu_choose_no_knob() -> None:
    assert best_knob(samples.board(short_of_cpu=["constant"]), "mbcas", samples.TIER) is None


def test_the_gap_between_base_and_oracle_is_closed_in_part() -> None:
    standings = {one.system: one for one in report().scenarios[0].standings}

    assert standings["mbcas"].gap_closed == pytest.approx(0.75, abs=0.05)
    assert standings["vpa-pretrained"].gap_closed == pytest.approx(0.0)
    assert standings["oracle-15s"].gap_closed == pytest.approx(1.0)


def test_what_was_not_reached_comes_first_and_in_its_own_colour() -> None:
    text = page()

    assert (
        text.index("What was not reached") < text.index("At 5") < text.index("How it was measured")
    )
    assert re.search(r'class="missed">\u2212[\d.]+ % \(1 of 1 scenarios', text)


def test_texts_from_outside_are_escaped() -> None:
    assert EVIL not in page()
    assert page().count("&lt;script&gt;") == 2


def test_runs_that_fail_of_one_cause_are_told_once() -> None:
    failed = {f"bursty: mbcas at {knob}": "no room" for knob in range(5)}

    text = page_html(replace(report(), failed=failed, scenarios=()))

    assert text.count("no room") == 1
    assert "and 2 more" in text


def test_an_interval_says_its_unit_once() -> None:
    assert interval((-0.0123, 0.2)) == "\u22121.2 … +20.0 pt"
    assert interval((-0.5, 5.0), compared="ratio") == "\u221239 % … \u00d7148"
    assert interval((-2131.4, 5.25), unit="s") == "\u22122,131 … +5.2 s"


def test_each_size_of_cluster_heads_its_own_figures_also_where_one_did_not_run() -> None:
    def row(scenario: str, *sizes: int) -> ClusterRow:
        figures = {nodes: {"waste": nodes / 10_000, "throttled": 0.02} for nodes in sizes}
        return ClusterRow(scenario=scenario, system="mbcas", knob=0.05, figures=figures)

    rows = (row("constant", 60, 600), row("bursty", 60, 5000))
    text = page_html(replace(report(), clusters=rows, scenarios=()))
    table = text[text.index("Under the resize budget") :]
    table = table[: table.index("</table>")]

    heads, *body = (re.findall(r"<tr>.*?</tr>", table)[i] for i in (0, 2, 3))
    assert re.findall(r"([\d,]+) nodes", heads) == ["60", "600", "5,000"]
    cells = [re.findall(r"<td[^>]*>([^<]*)", one)[1::4] for one in body]
    assert cells == [["0.6 %", "6.0 %", "\u2013"], ["0.6 %", "\u2013", "50.0 %"]]
    assert table.count("waited for budget") == 3


def test_a_difference_at_the_matched_share_says_of_how_many_seeds() -> None:
    made = samples.runs()
    for job, figures in made.items():
        more = 0.9 if job.system == "captain-api" else 0.0
        spread = np.linspace(0.0, 0.001, 10) + np.where(np.arange(10) < 3, more, 0.0)
        figures["throttled"] = figures["throttled"] + spread

    text = page_html(_report(samples.board(made)))
    summary = text[text.index("<h2>At 5") : text.index("The registered tests")]

    assert summary.count("<small>7 seeds</small>") == 1
    assert summary.count("<small>10 seeds</small>") == 2


def test_the_page_needs_nothing_from_elsewhere() -> None:
    found: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend(f"{tag} {key}={text}" for key, text in attrs if key in {"src", "href"})
            assert tag not in {"script", "link", "img", "iframe"}

    Links().feed(page())

    assert all(re.search(r"=#", link) for link in found)


def test_the_json_is_strict_and_holds_every_difference() -> None:
    content = to_json(report())

    text = json.dumps(content, allow_nan=False)

    assert json.loads(text)["kind"] == "preregistered"
    standings = content["scenarios"][0]["standings"]
    assert len(standings) == len(samples.WASTE)
    assert standings[1]["differences"]["waste"]["bca_interval"] is not None


@pytest.mark.parametrize(
    ("quantity", "number", "text"),
    [
        ("waste", 0.1234, "12.3 %"),
        ("p99_seconds", 0.0421, "42 ms"),
        ("p99_seconds", 3.512, "3.5 s"),
        ("p99_seconds", 1234.5, "1,234 s"),
        ("changes_per_hour", 12.34, "12.3/h"),
        ("settling_seconds", 600.0, "600 s"),
        ("waste", np.nan, "\u2013"),
    ],
)
def test_figures_are_written_in_their_unit(quantity: str, number: float, text: str) -> None:
    assert value(quantity, number) == text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"points": 3, "valid_points": "x"}'])
def test_a_broken_plant_validation_names_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plant.json"
    path.write_text(text)

    with pytest.raises(EvaluationError, match=r"plant\.json"):
        read_validity(path)
