import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mbcas_loadtest.commands import app
from mbcas_loadtest.errors import EvaluationError
from mbcas_loadtest.evaluation import grid, quick, registration
from tests.mbcas_loadtest.evaluation import samples

SEEDS = (0, 1, 2, 3)
VALUES: quick.Values = {"bursty": {"waste": [0.50, 0.52, 0.48, 0.51], "p99_seconds": [1.0] * 4}}


def test_no_change_gives_no_difference_at_all() -> None:
    now = quick.measure(samples.board(), samples.SEEDS)

    changes = quick.compare(now, now)

    assert len(changes) == len(quick.TOLERANCES)
    assert not any(change.is_worse or change.difference for change in changes)


def test_worse_in_every_seed_fails_with_scenario_and_numbers() -> None:
    (change,) = [c for c in _compared(waste=[0.53, 0.55, 0.51, 0.54]) if c.is_worse]

    assert str(change).startswith("bursty: waste was 0.5025 and is 0.5325")


def test_worse_in_some_seeds_and_better_in_others_is_noise() -> None:
    assert not any(change.is_worse for change in _compared(waste=[0.54, 0.49, 0.52, 0.48]))


def test_worse_by_less_than_matters_is_no_failure() -> None:
    assert not any(change.is_worse for change in _compared(waste=[0.502, 0.522, 0.482, 0.512]))


def test_better_is_no_failure() -> None:
    assert not any(change.is_worse for change in _compared(waste=[0.3, 0.31, 0.32, 0.33]))


def test_delays_are_compared_as_ratios() -> None:
    worse = [c.quantity for c in _compared(p99=[1.1, 1.11, 1.1, 1.12]) if c.is_worse]

    assert worse == ["p99_seconds"]


def test_a_throttled_share_that_is_no_longer_reached_is_worse() -> None:
    before = _stored({"bursty": {quick.MATCHED_WASTE: [0.5, 0.6, 0.55, 0.5]}})
    now = _stored({"bursty": {quick.MATCHED_WASTE: [None, None, None, None]}})

    assert [change.is_worse for change in quick.compare(before, now)] == [True]
    assert [change.is_worse for change in quick.compare(now, before)] == [False]


@pytest.mark.parametrize(
    ("quantity", "before", "after"),
    [
        ("waste", 0.3, 0.8),
        ("throttled", 0.05, 0.5),
        ("p99_seconds", 1.0, 20.0),
        ("changes_per_hour", 10.0, 300.0),
        (quick.MATCHED_WASTE, 0.3, None),
        ("p99_seconds", 1.0, None),
    ],
)
def test_a_breakdown_at_one_seed_of_ten_fails_with_scenario_and_seed(
    quantity: str, before: float, after: float | None
) -> None:
    seeds = tuple(range(10))
    first = _stored({"bursty": {quantity: [before] * 10}}, seeds=seeds)
    second = _stored({"bursty": {quantity: [before] * 7 + [after] + [before] * 2}}, seeds=seeds)

    (change,) = quick.compare(first, second)

    assert change.is_worse
    assert str(change).startswith(f"bursty: {quantity} was")
    assert str(change).endswith("at seed 7")


def test_a_p99_that_doubles_within_a_period_breaks_nothing_down() -> None:
    (waste, p99) = _compared(p99=[1.0, 1.0, 1.0, 1.05])
    short = _stored({"bursty": {"p99_seconds": [0.002, 0.002, 0.002, 0.002]}})
    longer = _stored({"bursty": {"p99_seconds": [0.002, 0.002, 0.002, 0.05]}})

    assert not waste.is_worse
    assert not p99.is_worse
    assert [change.broken_seeds for change in quick.compare(short, longer)] == [()]


def test_what_is_stored_is_read_back(tmp_path: Path) -> None:
    path, now = tmp_path / "stored.json", quick.measure(samples.board(), samples.SEEDS)

    path.write_text(quick.to_text(now))

    assert quick.read(path) == now
    assert now.knobs == {"constant": [0.05, *samples.KNOBS]}


def test_the_stored_result_can_be_read_and_fits_what_quick_runs() -> None:
    stored, jobs = quick.read(), grid.plan_quick(registration.load())

    ran = {
        scenario: sorted(
            job.knob for job in jobs if (job.scenario, job.system) == (scenario, "mbcas")
        )
        for scenario in grid.QUICK_SCENARIOS
    }
    assert {scenario: knobs[1:] for scenario, knobs in stored.knobs.items()} == ran
    assert {job.seeds for job in jobs} == {stored.seeds}


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"schema": "other"}', '{"schema": "mbcas.evaluation.quick/2"}']
)
def test_a_broken_stored_result_says_how_to_make_it_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stored.json"
    path.write_text(text)

    with pytest.raises(EvaluationError, match=r"stored\.json.*--quick --update"):
        quick.read(path)


def test_a_stored_result_with_another_number_of_values_than_seeds_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "stored.json"
    path.write_text(quick.to_text(_stored(VALUES, seeds=(0, 1))))

    with pytest.raises(EvaluationError, match="bursty: waste: 4 values, 2 seeds"):
        quick.read(path)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({"values": {}}, "bursty: was stored and did not run"),
        ({"values": {**VALUES, "ramp": VALUES["bursty"]}}, "ramp: was not stored"),
        (
            {"values": {"bursty": {"waste": VALUES["bursty"]["waste"]}}},
            "bursty: quantities p99_seconds, waste were stored, waste ran",
        ),
        ({"seeds": (4, 5, 6, 7)}, "bursty: seeds 0, 1, 2, 3 were stored, 4, 5, 6, 7 ran"),
        ({"knob": 0.2}, "bursty: knobs 0.1, 0.05 were stored, 0.2, 0.05 ran"),
    ],
)
def test_what_was_not_measured_alike_is_named_by_its_scenario(
    now: dict[str, Any], reason: str
) -> None:
    values = now.pop("values", VALUES)

    assert quick.differences(_stored(VALUES), _stored(values, **now)) == [reason]


def test_what_was_measured_alike_can_be_compared() -> None:
    assert quick.differences(_stored(VALUES), _stored(VALUES)) == []


@pytest.mark.parametrize(
    "flags",
    [
        ["--seconds", "900"],
        ["--out", "elsewhere"],
        ["--plant-validation", "plant.json"],
        ["--series", "bursty:mbcas:3"],
        ["--full-cluster"],
        ["--scenario", "bursty"],
        ["--system", "mbcas"],
        ["--seeds", "0-4"],
    ],
)
def test_a_flag_that_quick_would_ignore_is_refused_by_name(flags: list[str]) -> None:
    result = CliRunner().invoke(app, ["evaluate", "--quick", *flags])

    assert result.exit_code == 2
    assert flags[0] in result.output


def test_the_stored_result_is_one_line_for_each_quantity() -> None:
    text = quick.to_text(_stored(VALUES))

    assert json.loads(text)["scenarios"] == VALUES
    assert sum('"waste"' in line for line in text.splitlines()) == 1


def _stored(
    values: quick.Values, *, seeds: tuple[int, ...] = SEEDS, knob: float = 0.1
) -> quick.Stored:
    return quick.Stored(
        seeds=seeds, knobs={name: [knob, 0.05] for name in values}, scenarios=values
    )


def _compared(
    *, waste: list[float] | None = None, p99: list[float] | None = None
) -> list[quick.Change]:
    now: quick.Values = {
        "bursty": {
            "waste": list(waste or VALUES["bursty"]["waste"]),
            "p99_seconds": list(p99 or VALUES["bursty"]["p99_seconds"]),
        }
    }
    return quick.compare(_stored(VALUES), _stored(now))
