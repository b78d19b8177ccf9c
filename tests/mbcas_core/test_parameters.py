"""Parameters out of range are refused by name."""

import math
from typing import Any

import pytest

from mbcas_core.errors import InvalidInputError
from mbcas_core.events import PriorityClass
from mbcas_core.parameters import Parameters


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("round_period_seconds", 0.5),
        ("tick_period_seconds", math.nan),
        ("quantum_millicores", 0),
        ("cut_max_ratio", 1.5),
        ("dwell_down_seconds", -1.0),
        ("resize_budget_per_second", 0.0),
        ("max_containers", math.inf),
        ("tau_max", 0.6),
        ("response_smoothing", 0.0),
        ("response_epoch_rounds", 0),
        ("refusal_floor_step", 1.1),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_name(field: str, value: float) -> None:
    given: dict[str, Any] = {field: value}

    with pytest.raises(InvalidInputError) as refusal:
        Parameters(**given)

    assert [error.field for error in refusal.value.errors] == [field]
    assert str(value) in str(refusal.value)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, 1000.0])
def test_a_class_s_weight_out_of_range_is_refused_with_its_name(weight: float) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        Parameters(class_weight={"steady": 2.0, "idle": weight})

    assert [error.field for error in refusal.value.errors] == ["class_weight.idle"]


def test_a_weight_of_a_class_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInputError) as refusal:
        Parameters(class_weight={"Idle": 0.3})

    (error,) = refusal.value.errors
    assert error.field == "class_weight.Idle"
    assert "unknown, idle, bursty, steady" in error.reason


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(InvalidInputError) as refusal:
        Parameters(
            band_ratio=-1.0,
            tau={PriorityClass.CRITICAL: 0.01, PriorityClass.NORMAL: 0.9},
        )

    assert [error.field for error in refusal.value.errors] == [
        "band_ratio",
        "tau.normal",
        "tau.low",
    ]
    assert "tau.normal: is 0.9" in str(refusal.value)
    assert "tau.low: is missing" in str(refusal.value)
