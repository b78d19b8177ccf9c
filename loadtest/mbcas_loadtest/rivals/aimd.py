"""AIMD: a limit grows by steps while it throttles, and shrinks by a factor while it does not.

**Rule.** Additive increase, multiplicative decrease (Chiu and Jain, Computer Networks and ISDN
Systems 17, 1989), the simplest controller that settles: a container that is over its target gets
10 % of what it declared on top, one that is under it keeps 95 % (`watch`: over at once, under after
15 s). Step and factor are ours; the target is the knob. It acts through the API, once a second.

**Example.** Declared 500m, target 0.05: eight throttled periods within 15 s make it 550m; the next
15 s with six or less, 522.5m.
"""

import numpy as np

from mbcas_loadtest.rivals.one_number import (
    FLOOR_MILLICORES,
    declared_millicores,
    one_number,
)
from mbcas_loadtest.rivals.watch import ThrottleWatch
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared

STEP_RATIO = 0.1
FACTOR = 0.95


class Aimd:
    """Limits (m, n) of m nodes."""

    interval_periods = PERIODS_PER_SECOND
    actuation = Actuation.API

    def __init__(self, declared: Declared, target_ratio: float) -> None:
        self._first_millicores = np.maximum(declared_millicores(declared), FLOOR_MILLICORES)
        self._most_millicores = max(1000.0 * declared.cpus, FLOOR_MILLICORES)
        self._target_ratio = target_ratio
        self.limit_millicores = self._first_millicores
        self._watch = ThrottleWatch(self._first_millicores.shape)

    def step(self, seen: Seen) -> Settings | None:
        self._watch.add(seen.throttled)
        over, under = self._watch.verdicts(self._target_ratio, self._target_ratio)
        if not (over.any() or under.any()) and seen.exists.all():
            return None
        limit = self.limit_millicores
        limit = np.where(over, limit + STEP_RATIO * self._first_millicores, limit)
        limit = np.where(under, FACTOR * limit, limit)
        if not seen.exists.all():
            self._watch.forget(~seen.exists)
            limit = np.where(seen.exists, limit, self._first_millicores)
        self.limit_millicores = np.clip(limit, FLOOR_MILLICORES, self._most_millicores)
        return one_number(self.limit_millicores)


AIMD = Rival(
    name="aimd",
    make=Aimd,
    knob="throttle target",
    default=0.05,
    sweep=(0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2),
    source="Chiu and Jain 1989; step and factor are ours",
)
