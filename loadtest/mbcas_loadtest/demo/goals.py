"""What the demo was to reach, set before it ran, and whether it did."""

from dataclasses import dataclass

from mbcas_loadtest.demo import findings
from mbcas_loadtest.demo.record import ContainerResult, DemoRecord, Phase
from mbcas_loadtest.pages import wording

THROTTLED_SHARE_GOAL = 0.2  # Of what it was under `static`: 80 % less.
REACTION_P95_GOAL_SECONDS = 5.0
FIRST_ALLOCATION_GOAL_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What was asked of the demo, and what came out."""

    asked: str
    measured: str
    reached: bool


def goals(record: DemoRecord) -> list[Goal]:
    """What the run was to show, each with what was measured; empty unless both phases ran.

    They are set for policy `hard-quota` with burst credit off in both phases; other runs are shown
    beside them.
    """
    static, mbcas = findings.phase_named(record, "static"), findings.phase_named(record, "mbcas")
    if static is None or mbcas is None:
        return []
    before, after = findings.totals(static), findings.totals(mbcas)
    violations = sum(phase.invariant_violations for phase in record.phases)
    first, p95 = record.first_allocation_seconds, record.reaction_seconds.p95
    return [
        *_throttling_goal(before, after),
        Goal(
            asked="no more CPU reserved in total",
            measured=wording.relative(before.reserved_core_seconds, after.reserved_core_seconds),
            reached=not wording.is_more(after.reserved_core_seconds, before.reserved_core_seconds),
        ),
        *(_batch_goal(c, mbcas) for c in mbcas.containers if c.role == "batch"),
        Goal(
            asked=f"first decision within {FIRST_ALLOCATION_GOAL_SECONDS:.0f} s",
            measured=wording.fixed(first, 1, " s"),
            reached=first is not None and first <= FIRST_ALLOCATION_GOAL_SECONDS,
        ),
        Goal(
            asked=f"95 % of surges answered within {REACTION_P95_GOAL_SECONDS:.0f} s",
            measured=f"{wording.fixed(p95, 1, ' s')} "
            f"({findings.counted(record.reaction_seconds.count, 'surge')})",
            reached=p95 is not None and p95 <= REACTION_P95_GOAL_SECONDS,
        ),
        Goal(asked="no invariant violated", measured=str(violations), reached=violations == 0),
    ]


def _throttling_goal(before: findings.Totals, after: findings.Totals) -> list[Goal]:
    static, mbcas = before.services_throttled_ratio, after.services_throttled_ratio
    if static is None or mbcas is None:
        return []
    change = wording.relative(static, mbcas)
    return [
        Goal(
            asked="services throttled at least 80 % less",
            measured=change if change != wording.DASH else wording.percent(mbcas),
            reached=mbcas <= static * THROTTLED_SHARE_GOAL,
        )
    ]


def _batch_goal(container: ContainerResult, phase: Phase) -> Goal:
    seconds = phase.duration_seconds
    mean_millicores = container.reserved_core_seconds / seconds * 1000 if seconds > 0 else None
    return Goal(
        asked=f"{container.name} keeps its admitted "
        f"{wording.millicores(container.admitted_millicores)} reserved, on average",
        measured=wording.millicores(mean_millicores),
        # A millicore of slack: the reservation is sampled once a second.
        reached=mean_millicores is not None
        and mean_millicores >= container.admitted_millicores - 1,
    )
