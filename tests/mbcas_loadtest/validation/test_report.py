import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mbcas_loadtest.commands import app
from mbcas_loadtest.errors import EXIT_INTERRUPTED, DemoError, Interrupted
from mbcas_loadtest.evaluation.validity import read_validity
from mbcas_loadtest.validation import commands
from mbcas_loadtest.validation.commands import EXIT_NO_KERNEL
from mbcas_loadtest.validation.points import Point, all_points
from mbcas_loadtest.validation.replay import Compared, Figures
from mbcas_loadtest.validation.report import document, picture, show, to_json
from mbcas_loadtest.validation.run import NoKernelError, choose
from mbcas_loadtest.validation.verdict import judge, region_name, regions


def figures(*, throttled: float = 0.1, usage: float = 300.0, p99_seconds: float = 0.05) -> Figures:
    return Figures(
        throttled_share=throttled,
        usage_millicores=usage,
        p50_seconds=0.004,
        p99_seconds=p99_seconds,
        throttled_seconds=1.0,
    )


def compared(
    plant: Figures, *, utilisation: float = 0.75, kernel: Figures | None = None
) -> Compared:
    return Compared(
        point=Point(
            utilisation=utilisation,
            variation=0.3,
            has_burst=False,
            threads=1,
            quota_millicores=400,
        ),
        kernel=kernel or figures(),
        plant=plant,
        requests=plant,
        periods=199,
        periods_kernel_only=0,
        periods_plant_only=0,
        foreign_cpus=0.05,
    )


def missed(one: Compared) -> list[str]:
    return [off.endpoint for off in judge(one) if off.is_missed]


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (figures(), []),
        (figures(throttled=0.119), []),
        (figures(throttled=0.121), ["throttled"]),
        (figures(throttled=0.079), ["throttled"]),
        (figures(usage=305.9), []),
        (figures(usage=293.9), ["usage"]),
        (figures(p99_seconds=0.0599), []),
        (figures(p99_seconds=0.0601), ["delay"]),
        (figures(p99_seconds=float("nan")), ["delay"]),
    ],
)
def test_a_point_misses_where_it_is_off_by_more_than_is_allowed(
    plant: Figures, expected: list[str]
) -> None:
    assert missed(compared(plant)) == expected


def test_long_delays_may_be_off_by_a_fifth() -> None:
    kernel = figures(p99_seconds=1.0)

    assert missed(compared(figures(p99_seconds=1.19), kernel=kernel)) == []
    assert missed(compared(figures(p99_seconds=1.21), kernel=kernel)) == ["delay"]


def test_one_point_that_misses_takes_its_region_out_and_no_other() -> None:
    results = [
        compared(figures()),
        compared(figures(throttled=0.15)),
        compared(figures(throttled=0.13)),
        compared(figures(), utilisation=1.1),
    ]

    found = regions((one.point, judge(one)) for one in results)

    assert [(region.points, region.words) for region in found] == [
        (3, "throttled +5.0 points"),
        (1, ""),
    ]


def test_the_json_says_of_each_region_which_endpoints_missed() -> None:
    results = [compared(figures(throttled=0.2)), compared(figures(), utilisation=1.1)]

    content = json.loads(to_json(document(results, seconds=20, seed=1000)))

    missed = {region["name"]: region["missed"] for region in content["regions"]}
    assert missed == {
        region_name(results[0].point): ["throttled"],
        region_name(results[1].point): [],
    }


def test_every_point_has_a_region_and_small_quotas_have_their_own() -> None:
    names = {region_name(one) for one in all_points()}

    assert len(names) >= 15
    assert region_name(replace(all_points()[0], quota_millicores=20)) == "quota up to 30m"


def test_the_evaluation_reads_what_is_written(tmp_path: Path) -> None:
    results = [compared(figures()), compared(figures(usage=400.0), utilisation=1.1)]
    path = tmp_path / "plant.json"
    path.write_text(to_json(document(results, seconds=20, seed=1000)))

    validity = read_validity(path)

    assert (validity.points, validity.valid_points) == (2, 1)
    assert validity.regions == ("use above the quota, 1 thread, no burst (usage +33.3%)",)


def test_points_that_miss_come_first_and_say_by_how_much() -> None:
    console = Console(width=200, force_terminal=True)
    with console.capture() as capture:
        show([compared(figures()), compared(figures(throttled=0.2), utilisation=1.1)], console)
    text = capture.get()

    assert text.index("use 1.1") < text.index("use 0.75")
    assert "throttled +10.0 points" in text
    assert "\x1b[31m" in text


def test_the_picture_says_how_many_points_hold() -> None:
    svg = picture([compared(figures()), compared(figures(throttled=0.2))])

    assert "1 of 2 points hold" in svg
    assert svg.startswith("<svg")


def test_few_points_are_spread_over_all() -> None:
    groups = {one.group for one in choose(20)}

    assert len(choose(20)) == 20
    assert groups == {"grid", "changed", "small", "large requests"}
    assert len(choose(0)) >= 40


@pytest.fixture
def validate(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | None], None]:
    """Puts an answer in the place of the measurement."""

    def answer(error: Exception | None) -> None:
        def run(points: Sequence[Point], *, stop: Event, **_: object) -> list[Compared]:
            assert not stop.is_set()
            if error is not None:
                raise error
            return [compared(figures()) for _ in points]

        monkeypatch.setattr(commands, "validate", run)

    return answer


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (NoKernelError("cgroups are not writable"), EXIT_NO_KERNEL, "Nothing was measured"),
        (DemoError("the load ended"), 1, "cannot go on"),
        (Interrupted(), EXIT_INTERRUPTED, "cleaned up"),
    ],
    ids=["no kernel", "load failed", "interrupted"],
)
def test_what_stops_a_validation_has_a_status_of_its_own(
    validate: Callable[[Exception | None], None],
    error: Exception,
    status: int,
    words: str,
    tmp_path: Path,
) -> None:
    validate(error)
    path = tmp_path / "plant.json"

    result = CliRunner().invoke(app, ["validate-plant", "--points", "2", "--json", str(path)])

    assert result.exit_code == status
    assert words in result.output
    assert not path.exists()


def test_a_validation_writes_figures_and_picture(
    validate: Callable[[Exception | None], None], tmp_path: Path
) -> None:
    validate(None)
    json_path, svg_path = tmp_path / "plant.json", tmp_path / "plant.svg"

    result = CliRunner().invoke(
        app,
        ["validate-plant", "--points", "3", "--json", str(json_path), "--picture", str(svg_path)],
    )

    assert result.exit_code == 0, result.output
    assert json.loads(json_path.read_text())["points"] == 3
    assert svg_path.read_text().startswith("<svg")
    assert "3 of 3 points hold" in result.output
