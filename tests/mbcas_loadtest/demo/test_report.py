import io
import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mbcas_loadtest.demo import findings, goals, report
from mbcas_loadtest.demo.page import page_html
from mbcas_loadtest.demo.picture import picture_svg
from mbcas_loadtest.demo.record import DemoRecord, Reaction, Series
from mbcas_loadtest.pages import wording
from mbcas_loadtest.pages.series import ContainerSeries
from tests.mbcas_loadtest.demo.samples import (
    container,
    phase,
    record,
    whole_record,
    without_requests,
)

EVIL = '<script>alert("x")</script> & [bold]'
CONTAINER_TYPES = {
    "name": str,
    "role": str,
    "priority_class": str,
    "admitted_millicores": int,
    "usage_core_seconds": float,
    "reserved_core_seconds": float,
    "ceiling_core_seconds": float,
    "throttled_fraction": float,
    "delay_p50_ms": float,
    "delay_p99_ms": float,
    "requests_arrived": int,
    "requests_finished": int,
}
LOSING: list[tuple[str, dict[str, float | int | None], str]] = [
    ("service", {"throttled_fraction": 0.2001}, "throttled share"),
    ("service", {"delay_p50_ms": 3.11}, "median delay"),
    ("service", {"delay_p99_ms": 481.0}, "p99 delay"),
    ("service", {"delay_p99_ms": None}, "p99 delay"),
    ("service", {"requests_finished": 1199}, "requests left unfinished"),
    ("idle", {"reserved_core_seconds": 30.5}, "reserved CPU"),
    ("batch", {"usage_core_seconds": 14.1}, "batch work done"),
]


def summary_text(of: DemoRecord, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(report.summary(of))
    return console.export_text()


def page_text(of: DemoRecord) -> str:
    """Returns what the page says beside its drawings, which take a second to draw."""
    undrawn = replace(of, phases=[replace(p, series=Series()) for p in of.phases])
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page_html(undrawn)))


@cache
def whole_page() -> str:
    return page_html(whole_record())


@cache
def whole_picture() -> str:
    return picture_svg(whole_record())


class Reader(HTMLParser):
    """Collects tags, and every attribute that makes a browser fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        fetching = {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}
        self.fetched += [value or "" for name, value in attrs if name in fetching]


def test_the_json_has_the_keys_and_types_that_the_api_promises(tmp_path: Path) -> None:
    report.write_json(whole_record(), tmp_path / "out.json")

    found = json.loads((tmp_path / "out.json").read_text())

    assert found["schema"] == "mbcas.demo/1"
    assert found["environment"] == "cgroup-v1"
    assert (found["seed"], found["policy"], found["burst"]) == (7, "hard-quota", False)
    assert found["warmup_seconds"] == 45.0
    assert found["first_allocation_seconds"] == 1.9
    assert found["reaction_seconds"] == {"p50": 1.2, "p95": 2.4, "count": 37}
    assert found["server"] == {"cpu_cores": 0.021, "rss_bytes": 94_000_000}
    assert found["shim"] == {"cpu_cores": 0.009, "rss_bytes": 58_000_000}
    assert [p["name"] for p in found["phases"]] == ["static", "mbcas"]
    assert found["phases"][1]["duration_seconds"] == 75.0
    assert (found["phases"][1]["resizes"], found["phases"][1]["invariant_violations"]) == (58, 0)
    assert {key: type(value) for key, value in found["phases"][0]["containers"][0].items()} == (
        CONTAINER_TYPES
    )


def test_what_is_absent_or_not_a_number_is_null(tmp_path: Path) -> None:
    odd = without_requests("batch", throttled_fraction=float("nan"))
    of = record(
        phase("static", [odd]),
        first_allocation_seconds=None,
        reaction_seconds=Reaction(p50=None, p95=float("inf"), count=0),
    )

    report.write_json(of, tmp_path / "out.json")

    text = (tmp_path / "out.json").read_text()
    found = json.loads(text)["phases"][0]["containers"][0]
    assert (found["delay_p50_ms"], found["delay_p99_ms"], found["throttled_fraction"]) == (
        None,
        None,
        None,
    )
    assert "NaN" not in text
    assert "Infinity" not in text


def test_a_report_that_cannot_be_written_leaves_the_old_one_and_no_scraps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(f"{self} cannot become {target}")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="cannot become"):
        report.write_json(record(), path)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_every_metric_that_got_worse_is_listed_everywhere() -> None:
    before = [container(f"victim-{n}", role=role) for n, (role, _, _) in enumerate(LOSING)]
    after = [replace(one, **change) for one, (_, change, _) in zip(before, LOSING, strict=True)]  # type: ignore[arg-type]  # Fields by name.
    of = record(phase("static", before), phase("mbcas", after))

    found = findings.losses(of)
    summary, page = summary_text(of), page_text(of)

    assert all(loss.static != loss.mbcas for loss in found)
    for number, (_, _, what) in enumerate(LOSING):
        assert (f"victim-{number}", what) in [(loss.container, loss.what) for loss in found]
        assert f"victim-{number}: {what}" in summary
        assert f"victim-{number} {what}" in page
    assert "Nothing got worse" not in page + summary


def test_nothing_got_worse_is_said_only_where_it_is_true() -> None:
    same = record()

    assert "Nothing got worse" in page_text(same)
    assert "Nothing got worse" in summary_text(same)


def test_a_container_that_the_market_phase_no_longer_measured_is_a_loss() -> None:
    of = record(phase("static", [container("api"), container("gone")]))

    assert [loss.container for loss in findings.losses(of)] == ["gone"]


@given(
    before=st.integers(0, 10_000_000).map(lambda n: n / 10_000_000),
    after=st.integers(0, 10_000_000).map(lambda n: n / 10_000_000),
)
def test_more_throttling_is_a_loss_and_no_less_is_none(before: float, after: float) -> None:
    of = record(
        phase("static", [container(throttled_fraction=before)], series=Series()),
        phase("mbcas", [container(throttled_fraction=after)], series=Series()),
    )

    listed = any(loss.container == "api" for loss in findings.losses(of))

    assert listed == (after > before)


def test_the_last_bit_of_a_sum_is_no_loss() -> None:
    of = record(
        phase("static", [container(reserved_core_seconds=0.3)]),
        phase("mbcas", [container(reserved_core_seconds=0.1 + 0.2)]),
    )

    assert findings.losses(of) == []


def test_the_verdict_says_so_when_mbcas_lost() -> None:
    of = record(
        phase("static", [container(throttled_fraction=0.1)]),
        phase("mbcas", [container(throttled_fraction=0.3, reserved_core_seconds=60.0)]),
    )

    assert "throttled 30.0 % of the time instead of 10.0 % (+200 %)" in findings.verdict(of)
    assert "60.0 core-seconds were reserved instead of 30.0 (+100 %)" in findings.verdict(of)
    assert [goal.reached for goal in goals.goals(of)][:2] == [False, False]


def test_a_batch_job_below_its_admitted_request_misses_its_goal() -> None:
    batch = without_requests("batch", role="batch", admitted_millicores=400)
    starved = replace(batch, reserved_core_seconds=20.0)  # 267m over 75 s.
    of = record(phase("static", [batch]), phase("mbcas", [starved]))

    (goal,) = [goal for goal in goals.goals(of) if "batch" in goal.asked]

    assert (goal.measured, goal.reached) == ("267m", False)


def test_text_from_the_run_is_never_markup() -> None:
    evil = container(EVIL)
    of = record(phase("static", [evil]), phase("mbcas", [evil]), static_rule=EVIL)

    page, picture = page_html(of), picture_svg(of)

    assert "<script" not in page + picture
    assert "&lt;script&gt;" in page
    ET.fromstring(picture)  # noqa: S314  We wrote it; it must be well-formed.
    assert "[bold]" in summary_text(of, width=200)


def test_a_name_with_dollar_signs_is_drawn_as_it_is() -> None:
    odd = container("$\\frac$")

    picture = picture_svg(record(phase("static", [odd]), phase("mbcas", [odd])))

    assert "$\\frac$" in picture


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    reader = Reader()
    page = whole_page()

    reader.feed(page)

    assert reader.tags.isdisjoint({"script", "link", "iframe", "img", "object", "embed"})
    assert all(target.startswith("#") for target in reader.fetched)
    assert "@import" not in page
    assert not re.search(r"url\((?!\"?#)", page)


def test_the_same_run_gives_the_same_page_and_picture() -> None:
    assert page_html(record()) == page_html(record())
    assert picture_svg(record()) == picture_svg(record())


def test_no_delay_is_shown_as_a_dash() -> None:
    batch = without_requests("batch", role="batch")
    of = record(phase("static", [batch]), phase("mbcas", [batch]))

    row = next(line for line in summary_text(of).splitlines() if line.startswith("batch"))

    assert wording.DASH in row
    assert "None" not in page_html(of) + summary_text(of)
    assert "nan" not in page_text(of)


@pytest.mark.parametrize("name", ["static", "mbcas"])
def test_a_run_with_one_phase_is_shown_as_incomplete(name: str) -> None:
    whole = whole_record()
    of = replace(whole, phases=[p for p in whole.phases if p.name == name])

    text = page_text(of)

    assert "The run is incomplete" in text
    assert f"Only the phase “{name}” was measured" in findings.verdict(of)
    assert "Nothing got worse" not in text + summary_text(of)
    assert goals.goals(of) == []
    assert "svg" in picture_svg(of)


def test_a_run_without_any_phase_still_gives_a_report() -> None:
    of = record(phases=[])

    assert "Nothing was measured" in page_text(of)
    assert "Nothing was measured" in summary_text(of)
    assert "<svg" in picture_svg(of)


def test_the_model_is_said_prominently() -> None:
    of = whole_record(environment="model")

    assert "Measured on the built-in model, not on a kernel." in page_text(of)
    assert "Measured on the built-in model, not on a kernel." in summary_text(of)
    assert "built-in model" in picture_svg(of)


def test_violations_are_said_prominently() -> None:
    of = record(mbcas=phase("mbcas", invariant_violations=3))

    assert "3 invariant violations." in page_text(of)
    assert "all containers: invariant violations 0 → 3" in summary_text(of)


def test_burst_credit_that_differs_between_the_phases_is_told_apart() -> None:
    text = page_text(whole_record(burst=True, static_burst=False))

    assert "burst credit on under mbcas, off under static" in text


def test_the_command_repeats_the_run() -> None:
    asked = findings.command(record(burst=True, static_burst=False, environment="model"))

    assert asked == (
        'make demo ARGS="--duration 120 --warmup 45 --policy hard-quota --burst on'
        ' --static-burst off --seed 7 --model"'
    )


def test_series_of_unequal_length_and_holes_are_still_drawn() -> None:
    torn = Series(
        seconds=[1.0, 2.0, 3.0],
        containers=[
            ContainerSeries(
                name="api",
                usage_millicores=[100.0, float("nan")],
                reservation_millicores=[],
                ceiling_millicores=[float("nan"), 200.0, 200.0],
                throttled_ratio=[0.0, float("nan"), 1.0],
            )
        ],
        shadow_price=[0.1],
    )

    page = page_html(record(phase("static", series=torn), phase("mbcas", series=torn)))

    assert page.count("<svg") == 3


def test_the_picture_is_a_banner_that_brings_its_own_card_for_light_and_dark() -> None:
    picture = ET.fromstring(whole_picture())  # noqa: S314  We wrote it just now.

    assert (picture.get("width"), picture.get("height")) == ("900", "420")
    assert "prefers-color-scheme: dark" in (picture[0].text or "")
    assert picture[1].tag.endswith("rect")


@given(before=st.floats(min_value=0, max_value=1), after=st.floats(min_value=0, max_value=1))
def test_two_values_that_differ_are_never_written_alike(before: float, after: float) -> None:
    first, second = wording.apart(before, after, 1, " %")

    assert (first == second) == (before == after)
