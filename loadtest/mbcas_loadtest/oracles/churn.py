"""The least allocation of a whole run with at most so many changes: a bound that knows churn.

For each container alone, of all plans that set one of its levels at boundaries of 15 s, change only
where nothing waits, let nothing wait for longer than a minute and throttle at most a share tau of
the run, it follows one of least allocation (`plan`). Unlike the per-slot oracle it may spend its
throttling where it saves most, which no agent could know. Where work waits for longer than a minute
at any limit, since it wants more CPUs than its threads, the plan holds all they can use until
nothing waits, and `unmet_slots` says so.
"""

from functools import partial

import numpy as np

from mbcas_core.units import MILLICORES_PER_CORE, MIN_CEILING_MILLICORES, FloatArray, IntArray
from mbcas_loadtest.oracles.plan import find_plans
from mbcas_loadtest.oracles.search import find_known_work
from mbcas_loadtest.oracles.stays import (
    SLOT_PERIODS,
    SLOT_SECONDS,
    cut_slots,
    find_stays,
    tabulate,
)
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import World

HOUR_SECONDS = 3600


class Churn:
    """The oracle on the world's m nodes; it plans before the world begins."""

    interval_periods = SLOT_PERIODS
    actuation = Actuation.DIRECT

    def __init__(
        self, world: World, tau_ratio: float, *, changes_per_hour: float, has_burst: bool = False
    ) -> None:
        """Plans.

        Args:
            world: All of it.
            tau_ratio: Share of the run's periods that may be throttled.
            changes_per_hour: Of each container at most; once in any case.
            has_burst: Whether unused quota is carried over, up to the quota.
        """
        self._has_burst = has_burst
        changes_max = max(1, round(changes_per_hour * world.seconds / HOUR_SECONDS))
        self.unmet_slots: IntArray = np.zeros(world.shape, np.int64)
        """(m, n) slots in which work waits for longer than a minute, or beyond the run's end,
        whatever the limit."""
        self.limit_millicores = self._plan(world, tau_ratio, changes_max)
        """(s, m, n); the first slot is over before anything can be set."""

    def step(self, seen: Seen) -> Settings | None:
        slot = seen.period // SLOT_PERIODS
        if slot >= self.limit_millicores.shape[0]:
            return None
        limit = self.limit_millicores[slot]
        return Settings(
            request_millicores=limit,
            limit_millicores=limit,
            burst_millicores=limit if self._has_burst else np.zeros(limit.shape),
        )

    def _plan(self, world: World, tau_ratio: float, changes_max: int) -> FloatArray:
        m, n = world.shape
        slots = -(-world.seconds // SLOT_SECONDS)
        limit = np.zeros((slots, m, n))
        served = [place for place in range(n) if not world.declared.batch[place]]
        if slots > 1 and served:
            known = find_known_work(world)
            stays = [
                find_stays(
                    cut_slots(known[:, node, place])[:, 1:],
                    threads=float(world.threads[node, place]),
                    max_backlog_usec=float(world.max_backlog_usec[node, place]),
                    request_usec=float(world.request_usec[node, place]),
                    tau_ratio=tau_ratio,
                    has_burst=self._has_burst,
                )
                for node in range(m)
                for place in served
            ]
            unmet = np.array([each.is_unmet.sum() for each in stays])
            self.unmet_slots[:, served] = unmet.reshape(m, len(served))
            plans = find_plans(
                tabulate(stays),
                throttled_max=tau_ratio * (slots - 1) * SLOT_PERIODS,
                changes_max=changes_max,
            )
            limit[1:, :, served] = plans.level_millicores.reshape(slots - 1, m, len(served))
        limit[0] = limit[min(1, slots - 1)]
        return _leave_to_batch(world, limit)


def _leave_to_batch(world: World, limit: FloatArray) -> FloatArray:
    """Gives batch containers, which throttling does not harm, what is left at the tightest time."""
    batch = np.array(world.declared.batch, np.bool_)
    if batch.any():
        left = world.declared.cpus * MILLICORES_PER_CORE - limit.sum(axis=2).max(axis=0)
        each = np.floor(np.maximum(left / batch.sum(), MIN_CEILING_MILLICORES))
        usable = np.minimum(each[:, None], world.threads * MILLICORES_PER_CORE)
        limit[:, :, batch] = usable[:, batch]
    return limit


def _rival(changes_per_hour: int, *, has_burst: bool = False) -> Rival:
    return Rival(
        name=f"oracle-churn-{changes_per_hour}" + ("-burst" if has_burst else ""),
        make_with_truth=partial(Churn, changes_per_hour=changes_per_hour, has_burst=has_burst),
        knob="tau: share of the run's periods that may be throttled",
        default=0.05,
        sweep=(0.01, 0.05, 0.1),
        source=f"evaluation.md, section 3, no. 14: dynamic programme, {changes_per_hour} changes/h",
    )


ORACLE_CHURN_10 = _rival(10)
ORACLE_CHURN_60 = _rival(60)
ORACLE_CHURN_10_BURST = _rival(10, has_burst=True)
