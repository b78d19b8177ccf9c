"""A point that others disturbed is measured again, whatever came of it."""

from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from mbcas_loadtest.validation import run
from mbcas_loadtest.validation.measure import Measured
from mbcas_loadtest.validation.points import Point
from mbcas_loadtest.validation.replay import Compared
from tests.mbcas_loadtest.validation.test_replay import measured, point


@pytest.mark.parametrize(
    ("foreign", "counted", "tries"),
    [
        ((0.02,), 0.02, 1),
        ((0.5, 0.03), 0.03, 2),
        ((0.5, 0.3, 0.4), 0.3, 3),
    ],
)
def test_the_calmest_of_three_measurements_counts_at_most(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    foreign: tuple[float, ...],
    counted: float,
    tries: int,
) -> None:
    given = point(utilisation=0.5)
    once, left = measured(given, first_seconds=0.03), list(foreign)

    def measure_next(*_: object, **__: object) -> Measured:
        return replace(once, foreign_cpus=left.pop(0))

    monkeypatch.setattr(run, "prepare_cgroups", lambda: (None, None))
    monkeypatch.setattr(run, "measure", measure_next)

    results = run.validate(
        [given], seconds=60.0, seed=1, folder=tmp_path, stop=Event(), tell=_tell_nobody
    )

    assert [one.foreign_cpus for one in results] == [counted]
    assert len(foreign) - len(left) == tries


def _tell_nobody(place: int, compared: Compared) -> None:
    assert (place, type(compared.point)) == (0, Point)
