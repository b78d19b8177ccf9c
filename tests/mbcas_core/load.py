"""A container's load under the kernel's bandwidth control, in periods of 100 ms."""

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import IntArray

PERIOD_USEC = 100_000
Detail = tuple[NDArray[np.uint16], int]


class Kernel:
    """Work arrives in slices; what the quota does not let through in a period waits."""

    def __init__(self, random: np.random.Generator, limit_millicores: int | None) -> None:
        self._random = random
        self.mean_millicores = float(random.integers(5, 400))
        self._shape = float(random.choice([1.0, 4.0, 25.0]))
        self.limit_millicores = limit_millicores
        self._interval = int(random.choice([1, 1, 2, 5]))
        self.restart(limit_millicores)

    def restart(self, limit_millicores: int | None) -> None:
        """A new run: its counters start from 0."""
        self.limit_millicores = limit_millicores
        self._backlog_usec = 0.0
        self._usage = self._periods = self._throttled = self._throttled_usec = 0
        self._detail: list[Detail] = []

    def set_limit(self, limit_millicores: int | None) -> None:
        self.limit_millicores = limit_millicores

    def second(self, *, cpus: int) -> None:
        """Runs ten periods."""
        arrivals = self._random.gamma(self._shape, 1.0 / self._shape, 10) * self.mean_millicores
        quota = cpus * PERIOD_USEC
        if self.limit_millicores is not None:
            quota = min(quota, max(self.limit_millicores, 10) * 100)
        slices = np.zeros(10, np.uint16)
        throttled = 0
        for i, millicores in enumerate(arrivals.tolist()):
            self._backlog_usec = min(self._backlog_usec + millicores * 100.0, 5e6)
            used = int(min(self._backlog_usec, quota))
            self._backlog_usec -= used
            self._usage += used
            slices[i] = used // 100
            self._periods += used > 0
            if self._backlog_usec >= 1.0 and self.limit_millicores is not None:
                throttled += 1
                self._throttled_usec += PERIOD_USEC // 2
        self._throttled += throttled
        self._detail = [*self._detail[-4:], (slices, throttled)]

    def sample_is_due(self) -> bool:
        return len(self._detail) >= self._interval

    def counters(self) -> IntArray:
        """In the order of COUNTERS."""
        limit = self.limit_millicores
        quota = 0 if limit is None else max(limit, 10) * 100
        return np.array(
            [
                self._usage,
                self._periods,
                self._throttled,
                self._throttled_usec,
                0,
                quota,
                PERIOD_USEC,
                0,
                0,
            ],
            np.int64,
        )

    def take_detail(self) -> list[Detail]:
        """The seconds since the last sample, at most five."""
        detail, self._detail = self._detail, []
        return detail
