import itertools

from hypothesis import given
from hypothesis import strategies as st

from mbcas_shim.uplink import backoff_seconds


@given(st.floats(0, 1, exclude_max=True))
def test_waits_double_up_to_ten_seconds_and_jitter_shortens_them_by_at_most_half(
    chance: float,
) -> None:
    waits = list(itertools.islice(backoff_seconds(lambda: chance), 12))

    whole = [min(0.25 * 2**attempt, 10.0) for attempt in range(12)]
    assert all(full / 2 <= wait <= full for wait, full in zip(waits, whole, strict=True))
