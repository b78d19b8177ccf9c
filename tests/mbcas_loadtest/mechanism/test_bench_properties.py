import pytest

from mbcas_loadtest.bench import properties
from mbcas_loadtest.bench.properties import bench_properties, check_batch
from tests.mbcas_loadtest.mechanism import broken


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(properties, "BATCH_MARKETS", 60)


def test_every_property_is_tried_on_as_many_markets_as_asked_where_it_is_claimed() -> None:
    lines: list[str] = []

    figures = bench_properties(
        markets=100, seed=0, names=["pareto", "no-pair-gains"], tell=lines.append
    )

    assert figures["violations"] == 0
    assert figures["properties"]["pareto"]["markets"] == 120
    assert figures["properties"]["no-pair-gains"]["markets"] >= 100
    assert figures["properties"]["pareto"]["violating_ratio_at_most"] == 3 / 120
    assert lines[-1].endswith(" of 100 markets, 0 violations")


def test_a_violation_names_the_command_that_shows_it_again() -> None:
    mechanism = broken.break_clearing(broken.price_taking)

    figures = bench_properties(markets=120, seed=3, names=["pareto"], mechanism=mechanism)

    pareto = figures["properties"]["pareto"]
    assert pareto["violations"] == figures["violations"] > 0
    assert pareto["violating_ratio_at_most"] is None
    command = "mbcas-loadtest bench properties --seed 3 --batch 0 --property pareto"
    seen = [violation for violation in pareto["seen"] if violation["again"] == command]
    assert seen
    again = check_batch(seed=3, batch=0, names=["pareto"], mechanism=mechanism)
    assert again["properties"]["pareto"]["seen"][: len(seen)] == seen
