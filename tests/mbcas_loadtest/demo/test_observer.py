import pytest

from mbcas_loadtest.demo.observer import Observer
from mbcas_loadtest.node.cgroups import Counters


class Kernel:
    """Counters of one container that a test sets."""

    def __init__(self) -> None:
        self.usage_usec = 0
        self.nr_throttled = 0
        self.quota_millicores: int | None = 400

    def read(self, name: str) -> Counters:
        assert name == "api"
        return Counters(
            usage_usec=self.usage_usec,
            nr_throttled=self.nr_throttled,
            quota_millicores=self.quota_millicores,
            shares_millicores=200,
        )


def observer(kernel: Kernel) -> Observer:
    return Observer(
        ["api"],
        read=kernel.read,
        reservation=lambda _, counters: counters.shares_millicores or 0,
        node_millicores=1600,
    )


def test_use_and_ceiling_are_added_up_over_time() -> None:
    kernel = Kernel()
    watched = observer(kernel)

    watched.sample(0.0)
    kernel.usage_usec = 500_000
    watched.sample(2.0)

    recent = watched.take_recent()["api"].recent
    assert recent.usage_core_seconds == pytest.approx(0.5)
    assert recent.ceiling_core_seconds == pytest.approx(0.8)
    assert recent.reserved_core_seconds == pytest.approx(0.4)


def test_a_new_quota_counts_from_when_it_was_seen() -> None:
    kernel = Kernel()
    watched = observer(kernel)

    watched.sample(0.0)
    kernel.quota_millicores = 1000
    watched.sample(1.0)
    watched.sample(2.0)

    assert watched.take_recent()["api"].recent.ceiling_core_seconds == pytest.approx(0.4 + 1.0)


def test_without_a_quota_the_node_is_the_ceiling() -> None:
    kernel = Kernel()
    kernel.quota_millicores = None
    watched = observer(kernel)

    watched.sample(0.0)
    watched.sample(1.0)

    assert watched.take_recent()["api"].recent.ceiling_core_seconds == pytest.approx(1.6)


def test_throttled_periods_are_a_share_of_wall_time() -> None:
    kernel = Kernel()
    watched = observer(kernel)

    watched.sample(0.0)
    kernel.nr_throttled = 5
    watched.sample(1.0)

    assert watched.take_recent()["api"].recent.throttled_ratio == pytest.approx(0.5)


def test_what_was_taken_is_not_taken_again() -> None:
    kernel = Kernel()
    watched = observer(kernel)
    watched.sample(0.0)
    kernel.usage_usec = 500_000
    watched.sample(1.0)

    watched.take_recent()
    watched.sample(2.0)

    assert watched.take_recent()["api"].recent.usage_core_seconds == 0


def test_the_warm_up_is_not_counted() -> None:
    kernel = Kernel()
    watched = observer(kernel)
    watched.sample(0.0)
    kernel.usage_usec = 500_000

    watched.start_counting()

    assert watched.take_recent()["api"].counted.usage_core_seconds == 0
