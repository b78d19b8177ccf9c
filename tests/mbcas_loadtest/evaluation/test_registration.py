from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from mbcas_loadtest.errors import EvaluationError
from mbcas_loadtest.evaluation import figures, registration
from mbcas_loadtest.evaluation.commands import parse_seeds
from mbcas_loadtest.evaluation.registration import Kind, check_seeds, find_deviations, kind_of
from tests.mbcas_loadtest.evaluation import samples

FROZEN = {"a" * 64: "2026-11-24"}
RAN = {("constant", name): samples.KNOBS for name in ("mbcas", "captain-api", "vpa-pretrained")}


def test_the_registered_scenarios_and_quantities_exist() -> None:
    from mbcas_loadtest.workloads.catalog import SCENARIOS  # noqa: PLC0415 - only here.

    found = registration.load()

    for tier, names in found.scenarios.items():
        assert {name for name, one in SCENARIOS.items() if one.tier.value == tier} == set(names)
    assert {endpoint.name for endpoint in found.endpoints} <= set(figures.QUANTITIES)
    assert len(found.endpoints) * len(found.family) == 10


def test_the_registered_systems_and_knobs_are_those_of_the_catalog() -> None:
    from mbcas_loadtest.rivals.catalog import RIVALS  # noqa: PLC0415 - only here.

    found = registration.load()

    assert {found.system, found.base, found.oracle, *found.family} <= set(RIVALS)
    for system, sweep in found.sweeps.items():
        assert set(sweep) == set(RIVALS[system].sweep), system
    for system in found.operating_points:
        assert system in RIVALS


def test_registered_seeds_for_tests_and_tuning_are_apart() -> None:
    found = registration.load()

    assert check_seeds(found.tuning_seeds.all()) is Kind.TUNING
    assert check_seeds(found.test_seeds.all()) is Kind.EXPLORATORY


@pytest.mark.parametrize("seeds", [(99, 1000), (100,), (5, 5), (), (999,)])
def test_seeds_that_are_neither_for_tuning_nor_for_tests_are_refused(
    seeds: tuple[int, ...],
) -> None:
    with pytest.raises(EvaluationError, match="seeds"):
        check_seeds(seeds)


def test_only_test_seeds_without_any_deviation_are_called_preregistered() -> None:
    assert kind_of(samples.SEEDS, []) is Kind.PREREGISTERED
    assert kind_of(samples.SEEDS, ["another hash"]) is Kind.EXPLORATORY
    assert kind_of(range(10), []) is Kind.TUNING


def test_what_ran_as_registered_has_no_deviation() -> None:
    assert _deviations() == []


def test_a_file_that_was_not_frozen_makes_no_preregistered_result() -> None:
    assert "not among the frozen" in _deviations(file_hash="b" * 64)[0]


def test_other_seeds_make_no_preregistered_result() -> None:
    assert "1000-1008, not 1000-1009" in _deviations(seeds=tuple(range(1000, 1009)))[0]


def test_a_part_of_each_scenario_makes_no_preregistered_result() -> None:
    assert _deviations(seconds=1_500) == ["no scenario ran beyond 1,500 s, and no larger cluster"]


def test_a_missing_knob_of_the_family_makes_no_preregistered_result() -> None:
    ran = {**RAN, ("constant", "captain-api"): (0.01, 0.05)}

    assert _deviations(ran=ran) == ["constant: captain-api did not run at 0.2"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("alpha: 2", "alpha"),
        ("surprise: 1", "surprise"),
        ("endpoints: [{name: waste, compared: sum}]", "endpoints.0.compared"),
        ("- 1", "the whole"),
        (": {", "YAML"),
    ],
)
def test_a_broken_registration_names_file_and_field(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "broken.yaml"
    good = yaml.safe_load(registration.FILE.read_text())
    changed = yaml.safe_load(text) if not text.startswith(":") else None
    path.write_text(yaml.safe_dump(good | changed) if isinstance(changed, dict) else text)

    with pytest.raises(EvaluationError) as caught:
        registration.load(path)

    assert "broken.yaml" in str(caught.value)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("1000-1003", (1000, 1001, 1002, 1003)), ("3, 5,7-8", (3, 5, 7, 8)), ("0", (0,))],
)
def test_seeds_are_read_as_people_write_them(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "5-3", "0-100000", "-1", "1;2", "1.5"])
def test_seeds_written_otherwise_are_refused(text: str) -> None:
    with pytest.raises(EvaluationError, match="--seeds"):
        parse_seeds(text)


def _deviations(
    *,
    file_hash: str = "a" * 64,
    seeds: tuple[int, ...] = samples.SEEDS,
    seconds: int | None = None,
    ran: Mapping[tuple[str, str], tuple[float, ...]] = RAN,
) -> list[str]:
    return find_deviations(
        samples.registration(),
        file_hash=file_hash,
        frozen=FROZEN,
        seeds=seeds,
        seconds=seconds,
        ran=ran,
    )
