import json
from pathlib import Path

import pytest

from mbcas_loadtest.errors import EvaluationError
from mbcas_loadtest.evaluation import quick
from tests.mbcas_loadtest.evaluation import samples

BEFORE: quick.Stored = {"bursty": {"waste": [0.50, 0.52, 0.48, 0.51], "p99_seconds": [1.0] * 4}}


def test_no_change_gives_no_difference_at_all() -> None:
    now = quick.measure(samples.board())

    changes = quick.compare(now, now)

    assert len(changes) == len(quick.TOLERANCES)
    assert not any(change.is_worse or change.difference for change in changes)


def test_worse_in_every_seed_fails_with_scenario_and_numbers() -> None:
    (change,) = [c for c in _compared(waste=[0.53, 0.55, 0.51, 0.54]) if c.is_worse]

    assert str(change).startswith("bursty: waste was 0.5025 and is 0.5325")


def test_worse_in_some_seeds_and_better_in_others_is_noise() -> None:
    assert not any(change.is_worse for change in _compared(waste=[0.60, 0.45, 0.58, 0.44]))


def test_worse_by_less_than_matters_is_no_failure() -> None:
    assert not any(change.is_worse for change in _compared(waste=[0.502, 0.522, 0.482, 0.512]))


def test_better_is_no_failure() -> None:
    assert not any(change.is_worse for change in _compared(waste=[0.3, 0.31, 0.32, 0.33]))


def test_delays_are_compared_as_ratios() -> None:
    worse = [c.quantity for c in _compared(p99=[1.1, 1.11, 1.1, 1.12]) if c.is_worse]

    assert worse == ["p99_seconds"]


def test_a_throttled_share_that_is_no_longer_reached_is_worse() -> None:
    before: quick.Stored = {"bursty": {quick.MATCHED_WASTE: [0.5, 0.6, 0.55, 0.5]}}
    now: quick.Stored = {"bursty": {quick.MATCHED_WASTE: [None, None, None, None]}}

    assert [change.is_worse for change in quick.compare(before, now)] == [True]
    assert [change.is_worse for change in quick.compare(now, before)] == [False]


def test_what_is_stored_is_read_back(tmp_path: Path) -> None:
    path, now = tmp_path / "stored.json", quick.measure(samples.board())

    path.write_text(quick.to_text((0, 1), now))

    assert quick.read(path) == now


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"schema": "other"}', '{"schema": "mbcas.evaluation.quick/1"}']
)
def test_a_broken_stored_result_says_how_to_make_it_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stored.json"
    path.write_text(text)

    with pytest.raises(EvaluationError, match=r"stored\.json.*--quick --update"):
        quick.read(path)


def test_a_scenario_that_only_one_side_has_is_named() -> None:
    assert quick.missing({"a": {}, "b": {}}, {"b": {}, "c": {}}) == ["a", "c"]


def test_the_stored_result_is_one_line_for_each_quantity() -> None:
    text = quick.to_text((0, 1), BEFORE)

    assert json.loads(text)["scenarios"] == BEFORE
    assert sum('"waste"' in line for line in text.splitlines()) == 1


def _compared(
    *, waste: list[float] | None = None, p99: list[float] | None = None
) -> list[quick.Change]:
    now: quick.Stored = {
        "bursty": {
            "waste": list(waste or BEFORE["bursty"]["waste"]),
            "p99_seconds": list(p99 or BEFORE["bursty"]["p99_seconds"]),
        }
    }
    return quick.compare(BEFORE, now)
