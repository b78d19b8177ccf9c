from collections.abc import Callable

import pytest

from mbcas_loadtest.demo.surges import SurgeWatch


def watch(
    seconds: float,
    *,
    is_throttled: Callable[[float], bool],
    quota: Callable[[float], float] = lambda _: 100.0,
) -> SurgeWatch:
    """Feeds a watch every 50 ms with a period of 100 ms, throttled or not, at every second step."""
    surges, nr_throttled = SurgeWatch(), 0
    for sample in range(round(seconds * 20)):
        now = sample * 0.05
        nr_throttled += sample % 2 == 0 and is_throttled(now)
        surges.feed(now, nr_throttled, quota(now))
    surges.finish()
    return surges


def test_a_reaction_runs_from_the_end_of_the_first_throttled_period_to_the_raise() -> None:
    surges = watch(
        10, is_throttled=lambda now: now >= 3, quota=lambda now: 200.0 if now >= 5.5 else 100.0
    )

    assert surges.reactions_seconds == [pytest.approx(2.5)]
    assert surges.unanswered_count == 0


def test_a_surge_that_is_seldom_throttled_is_none() -> None:
    surges = watch(
        10,
        is_throttled=lambda now: now >= 3 and round(now * 10) % 2 == 0,
        quota=lambda now: 200.0 if now >= 5.5 else 100.0,
    )

    assert surges.reactions_seconds == []
    assert surges.unanswered_count == 0


def test_a_container_that_is_always_throttled_has_no_surge() -> None:
    surges = watch(
        10, is_throttled=lambda _: True, quota=lambda now: 200.0 if now >= 5.5 else 100.0
    )

    assert surges.reactions_seconds == []


def test_a_surge_that_ends_before_the_raise_stays_unanswered() -> None:
    surges = watch(
        12, is_throttled=lambda now: 3 <= now < 6, quota=lambda now: 200.0 if now >= 9 else 100.0
    )

    assert surges.reactions_seconds == []
    assert surges.unanswered_count == 1


def test_a_surge_that_is_answered_within_its_first_second_counts() -> None:
    surges = watch(
        10, is_throttled=lambda now: 3 <= now < 3.5, quota=lambda now: 200.0 if now >= 3.5 else 100
    )

    assert surges.reactions_seconds == [pytest.approx(0.5)]


def test_a_raise_just_after_a_single_throttled_period_is_no_answer() -> None:
    surges = watch(
        10, is_throttled=lambda now: now == 3.0, quota=lambda now: 200.0 if now > 3.0 else 100.0
    )

    assert surges.reactions_seconds == []


def test_a_cut_in_the_surge_does_not_make_its_undoing_an_answer() -> None:
    def quota(now: float) -> float:
        return 50.0 if 4 <= now < 5 else 100.0 if now < 7 else 150.0

    surges = watch(10, is_throttled=lambda now: now >= 3, quota=quota)

    assert surges.reactions_seconds == [pytest.approx(4.0)]


def test_two_surges_are_two_reactions() -> None:
    def quota(now: float) -> float:
        return 100.0 + 50.0 * (now >= 4.5) - 50.0 * (now >= 6) + 50.0 * (now >= 9)

    surges = watch(12, is_throttled=lambda now: 3 <= now < 4.5 or 8 <= now < 9, quota=quota)

    assert surges.reactions_seconds == [pytest.approx(1.5), pytest.approx(1.0)]
