import contextlib
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_shim.kube.quantities import parse_quantity
from mbcas_shim.kube.untrusted import Fields, MalformedError


def millicores(value: object) -> int | None:
    return Fields({"cpu": value}).cpu_millicores()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500m", 500),
        ("0.5", 500),
        ("1", 1000),
        ("1.", 1000),
        (".1", 100),
        ("1e-1", 100),
        ("1E3", 1_000_000),
        ("100u", 1),
        ("1n", 1),
        ("1000001n", 2),
        ("0.0015", 2),
        ("0", 0),
        ("2k", 2_000_000),
        ("1Ki", 1_024_000),
        (1, 1000),
        (0.25, 250),
    ],
)
def test_cpu_is_counted_in_millicores_rounded_up(text: object, expected: int) -> None:
    assert millicores(text) == expected


@pytest.mark.parametrize(
    "value",
    ["", "m", "1mm", "1 m", "0x10", "1e", "inf", "nan", "--1", "1e999", True, [], {}, "\u0661"],
)
def test_what_is_no_quantity_is_refused_with_its_field(value: object) -> None:
    with pytest.raises(MalformedError, match=r"cpu: .* is no quantity"):
        millicores(value)


@pytest.mark.parametrize("value", ["-1m", "10001", "1E", "9e99"])
def test_cpu_out_of_range_is_refused(value: str) -> None:
    with pytest.raises(MalformedError, match=r"cpu: .*m is out of range"):
        millicores(value)


def test_absent_is_not_zero() -> None:
    assert Fields({}).cpu_millicores() is None
    assert Fields({"cpu": None}).cpu_millicores() is None


@given(st.integers(0, 10**15), st.sampled_from(["n", "u", "m"]))
def test_rounding_up_adds_less_than_a_millicore(number: int, suffix: str) -> None:
    exact = Fraction(number, {"n": 10**6, "u": 10**3, "m": 1}[suffix])

    found = math.ceil(parse_quantity(f"{number}{suffix}") * 1000)

    assert 0 <= found - exact < 1


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_quantity(text), Fraction)
