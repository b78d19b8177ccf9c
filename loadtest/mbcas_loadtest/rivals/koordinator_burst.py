"""Koordinator's CPU burst: limits grow above what was declared while the node has CPU to spare.

**Rule** (koordinator-sh/koordinator, pkg/koordlet/qosmanager/plugins/cpuburst/cpu_burst.go, commit
0221c69; defaults in pkg/util/sloconfig/nodeslo_config.go, commit 01ef2b5; every second, as in
pkg/koordlet/qosmanager/framework/config.go, commit 189d380). Of each container with a limit:

    throttled in the last second:  quota x 1.2,  otherwise unchanged
    node's use >= 50 %:            quota x 0.8 in both cases
    node's use >= 45 %:            unchanged in both cases
    always within                  [declared, declared x cfsQuotaBurstPercent / 100]

in whole microseconds, rounded down; the node's use is its mean over five seconds. A quota never
comes back down while the node is quiet. The token bucket is off by default and left out.

`koordinator-quota` is the policy `cfsQuotaBurstOnly`. `koordinator-auto` is `auto`, which also lets
unused quota be carried over: min(10 x declared, quota). (The default policy is `none`.) Requests
stay as declared: pods have two goods here.

**Example.** Declared 100m, so 10 000 us: seven throttled seconds on a quiet node make 12 000,
14 400, 17 280, 20 736, 24 883, 29 859, 30 000, and no more.
"""

from functools import partial

import numpy as np

from mbcas_loadtest.rivals.one_number import USEC_PER_MILLICORE_PERIOD, mean_millicores
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared

UP_FACTOR = 1.2
DOWN_FACTOR = 0.8
OVERLOAD_RATIO = 0.5
COOLING_RATIO = 0.9 * OVERLOAD_RATIO
NODE_SECONDS = 5
BURST_FACTOR = 10.0
WHOLE_PERCENT = 100.0


class KoordinatorBurst:
    """The strategy on m nodes; it remembers only what the nodes used."""

    interval_periods = PERIODS_PER_SECOND
    actuation = Actuation.DIRECT

    def __init__(self, declared: Declared, percent: float, *, with_burst: bool) -> None:
        assert percent >= WHOLE_PERCENT, (
            "cfsQuotaBurstPercent is what the declared limit may grow to"
        )
        self._request = declared.request_millicores.astype(np.float64)
        limited = declared.limit_millicores > 0
        self._base_usec = np.where(
            limited, declared.limit_millicores * USEC_PER_MILLICORE_PERIOD, np.inf
        )
        self._most_usec = np.floor(self._base_usec * percent / WHOLE_PERCENT)
        self._burst_usec = np.where(limited & with_burst, BURST_FACTOR * self._base_usec, 0.0)
        self._cpus = declared.cpus
        self._used_ratio = np.zeros((0, 0))
        """(seconds, m), the last few."""

    def step(self, seen: Seen) -> Settings | None:
        used = mean_millicores(seen.usage_usec).sum(axis=-1) / (1000.0 * self._cpus)
        before = self._used_ratio.reshape(-1, used.size)[-(NODE_SECONDS - 1) :]
        self._used_ratio = np.concatenate([before, used[np.newaxis]])
        node = self._used_ratio.mean(axis=0)[:, np.newaxis]
        factor = np.where(seen.throttled.any(axis=0), UP_FACTOR, 1.0)
        factor = np.where(node >= COOLING_RATIO, np.minimum(factor, 1.0), factor)
        factor = np.where(node >= OVERLOAD_RATIO, DOWN_FACTOR, factor)
        quota = seen.applied.limit_millicores * USEC_PER_MILLICORE_PERIOD
        # A quota in millicores may fall short of its microseconds by a bit of a float.
        wanted = np.floor(np.round(quota, 6) * factor)
        wanted = np.maximum(np.minimum(wanted, self._most_usec), self._base_usec)
        wanted = np.where(seen.exists, wanted, self._base_usec)
        return Settings(
            request_millicores=self._request.copy(),
            limit_millicores=wanted / USEC_PER_MILLICORE_PERIOD,
            burst_millicores=np.minimum(self._burst_usec, wanted) / USEC_PER_MILLICORE_PERIOD,
        )


_SOURCE = "koordinator-sh/koordinator, pkg/koordlet/qosmanager/plugins/cpuburst, commit 0221c69"
_SWEEP = (1000.0, 500.0, 300.0, 200.0, 150.0, 100.0)
KOORDINATOR_QUOTA = Rival(
    name="koordinator-quota",
    make=partial(KoordinatorBurst, with_burst=False),
    knob="cfsQuotaBurstPercent",
    default=300.0,
    sweep=_SWEEP,
    source=f"{_SOURCE}, policy cfsQuotaBurstOnly",
    goods=2,
)
KOORDINATOR_AUTO = Rival(
    name="koordinator-auto",
    make=partial(KoordinatorBurst, with_burst=True),
    knob="cfsQuotaBurstPercent",
    default=300.0,
    sweep=_SWEEP,
    source=f"{_SOURCE}, policy auto",
    goods=2,
)
