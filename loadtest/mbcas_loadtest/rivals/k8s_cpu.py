"""K8s-CPU and K8s-CPU-Fast, the baselines of Autothrottle: utilisation held at a target.

    limit = max over the last 20 measurements of usage / target

with a measurement every 15 s (of 5 minutes) or every second (of 20 s). After `worker-daemon.py` of
microsoft/autothrottle (K8sCPUScalerBase), whose evaluation.py tunes the target for each trace, from
0.4 to 0.8. There the limit is written to the cgroup; here it goes through the API, as what the rule
imitates would. Until the first measurement there stays what was declared.
"""

import numpy as np

from mbcas_loadtest.rivals.one_number import mean_millicores, one_number
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared

MEASUREMENTS = 20  # stabilization // period: 300 s of 15 s, 20 s of 1 s.


class K8sCpu:
    """Holds the highest of recent usages at a share of the limit."""

    actuation = Actuation.API

    def __init__(self, declared: Declared, *, target_ratio: float, period_seconds: int) -> None:
        self.interval_periods = period_seconds * PERIODS_PER_SECOND
        self._target_ratio = target_ratio
        self._usage_millicores = np.zeros((MEASUREMENTS, *declared.request_millicores.shape))
        self._next = 0

    def step(self, seen: Seen) -> Settings | None:
        """Measures once more and returns the new limits."""
        usage = np.where(seen.exists, mean_millicores(seen.usage_usec), 0.0)
        self._usage_millicores[self._next] = usage
        self._next = (self._next + 1) % MEASUREMENTS
        return one_number(self._usage_millicores.max(axis=0) / self._target_ratio)


def _slow(declared: Declared, knob: float) -> K8sCpu:
    return K8sCpu(declared, target_ratio=knob, period_seconds=15)


def _fast(declared: Declared, knob: float) -> K8sCpu:
    return K8sCpu(declared, target_ratio=knob, period_seconds=1)


_TARGETS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

K8S_CPU = Rival(
    name="k8s-cpu",
    make=_slow,
    knob="target",
    default=0.5,
    sweep=_TARGETS,
    source="microsoft/autothrottle, worker-daemon.py, K8sCPUScaler",
)
K8S_CPU_FAST = Rival(
    name="k8s-cpu-fast",
    make=_fast,
    knob="target",
    default=0.6,
    sweep=_TARGETS,
    source="microsoft/autothrottle, worker-daemon.py, K8sCPUFastScaler",
)
