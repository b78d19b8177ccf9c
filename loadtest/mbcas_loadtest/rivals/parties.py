"""PARTIES on throttling: steps up where the slack is gone, small steps down where it is large.

**Rule.** PARTIES (ASPLOS 2019) compares each service's latency with its bound every half second and
moves one unit of one resource. Its port to CPU alone, romilbhardwaj/cilantro,
cilantro/policies/parties.py, commit 05ba90e (OSDI 2023), is followed here: slack = (bound -
observed) / bound; below 5 % the demand grows by 20 units, above 20 % it falls by 5, and demands
beyond the machine are cut to max-min shares by what each job is entitled to, from which the next
step starts. In that experiment, 20 jobs on 1,000 CPUs, these are 50 units each: the steps are 40 %
and 10 % of them. (As stored, the port's last lines use a name that does not exist there; what it
meant to do is read from the lines before.)

**Ours.** There is no latency from outside, so the bound is the throttle target, the knob: slack =
(target - ratio) / target. The ratio is watched over 15 s (`watch`), as half a second cannot tell
5 %; who is over is still answered within half a second. Entitled is everybody to what was declared.
Of the paper itself only the abstract could be read: its interval is from memory.

**Example.** Declared 1000m, target 0.05: over at the eighth throttled period of a window (above
0.95 x 0.05 x 150 = 7.1), then 1400m; 15 s with five or less (below 6), then 1300m.
"""

import numpy as np

from mbcas_loadtest.plant.recursion import share_by_weight
from mbcas_loadtest.rivals.one_number import (
    FLOOR_MILLICORES,
    declared_millicores,
    one_number,
)
from mbcas_loadtest.rivals.watch import ThrottleWatch
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import Declared

LOW_SLACK = 0.05
HIGH_SLACK = 0.2
UP_RATIO = 20 / 50
DOWN_RATIO = 5 / 50


class Parties:
    """The state machine on m nodes; allocations (m, n)."""

    interval_periods = 5
    actuation = Actuation.DIRECT

    def __init__(self, declared: Declared, target_ratio: float) -> None:
        self._entitled_millicores = np.maximum(declared_millicores(declared), FLOOR_MILLICORES)
        self._capacity_millicores = 1000.0 * declared.cpus
        self._target_ratio = target_ratio
        self.allocation_millicores = self._entitled_millicores
        self._watch = ThrottleWatch(self._entitled_millicores.shape)

    def step(self, seen: Seen) -> Settings | None:
        self._watch.add(seen.throttled)
        over, under = self._watch.verdicts(
            (1.0 - LOW_SLACK) * self._target_ratio, (1.0 - HIGH_SLACK) * self._target_ratio
        )
        is_moved = (over | under | ~seen.exists).any(axis=-1, keepdims=True)
        if not is_moved.any():
            return None
        ratio = np.where(over, UP_RATIO, np.where(under, -DOWN_RATIO, 0.0))
        wanted = self.allocation_millicores + ratio * self._entitled_millicores
        wanted = np.where(seen.exists, np.maximum(wanted, FLOOR_MILLICORES), 0.0)
        shares = share_by_weight(
            wanted, self._entitled_millicores, capacity=self._capacity_millicores
        )
        if not seen.exists.all():
            self._watch.forget(~seen.exists)
            shares = np.where(seen.exists, shares, self._entitled_millicores)
        # A full node is not shared anew because another one is.
        self.allocation_millicores = np.where(
            is_moved, np.maximum(shares, FLOOR_MILLICORES), self.allocation_millicores
        )
        return one_number(self.allocation_millicores, is_whole=False)


PARTIES = Rival(
    name="parties",
    make=Parties,
    knob="throttle target",
    default=0.05,
    sweep=(0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2),
    source="romilbhardwaj/cilantro, cilantro/policies/parties.py, commit 05ba90e (ASPLOS 2019)",
)
