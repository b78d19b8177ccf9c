"""Which differences are worth an order."""

import numpy as np
import pytest

from mbcas_core.stability import hysteresis


@pytest.mark.parametrize(
    ("applied", "target", "owed", "admitted", "throttled", "worth"),
    [
        (500, 551, 0, 0, False, True),
        (500, 550, 0, 0, False, False),  # Within a tenth ...
        (500, 510, 0, 0, True, True),  # ... but throttled.
        (500, 509, 0, 0, True, False),
        (50, 59, 0, 0, True, False),  # Less than 10m is not worth it ...
        (50, 59, 60, 0, False, True),  # ... unless it is owed,
        (500, 509, 600, 0, False, False),  # and then the relative band holds,
        (500, 501, 0, 600, False, True),  # or was admitted.
        (500, 501, 0, 500, False, False),
        (500, 500, 900, 900, True, False),
        (500, 300, 900, 900, True, False),
    ],
)
def test_worth_raising(
    *, applied: int, target: int, owed: int, admitted: int, throttled: bool, worth: bool
) -> None:
    found = hysteresis.worth_raising(
        np.array([applied]),
        np.array([target]),
        owed=np.array([owed]),
        admitted=np.array([admitted]),
        throttled=np.array([throttled]),
        band_ratio=0.10,
        band_millicores=10,
    )

    assert found.tolist() == [worth]


@pytest.mark.parametrize(
    ("applied", "target", "worth"),
    [(500, 449, True), (500, 450, False), (50, 41, False), (50, 40, True), (500, 600, False)],
)
def test_worth_cutting(*, applied: int, target: int, worth: bool) -> None:
    found = hysteresis.worth_cutting(
        np.array([applied]), np.array([target]), band_ratio=0.10, band_millicores=10
    )

    assert found.tolist() == [worth]


def test_a_cut_takes_at_most_its_share() -> None:
    applied, target = np.array([500, 501, 500]), np.array([100, 100, 400])

    assert hysteresis.limit_cut(applied, target, cut_max_ratio=0.5).tolist() == [250, 251, 400]
