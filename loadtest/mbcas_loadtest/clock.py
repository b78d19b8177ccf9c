"""The wall's monotonic clock, for programs that measure the real machine."""

import time


def monotonic_seconds() -> float:
    """Returns seconds on CLOCK_MONOTONIC, the same for every process of this machine."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def sleep_seconds(seconds: float) -> None:
    """Waits on the real clock."""
    time.sleep(seconds)  # noqa: TID251 - the one place where programs that measure wait.
