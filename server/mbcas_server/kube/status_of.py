"""The status of a PodAllocation: what a person wants to know of a pod, from the core's views."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime

from mbcas_core.effects import Reason
from mbcas_core.events import CpuResources
from mbcas_core.views import ContainerGoodView, ContainerView, DecisionView, MarketView
from mbcas_server.kube.allocation import CONTAINERS_MAX, PodKey, to_quantities
from mbcas_server.kube.client import Object

TEXT_MAX = 256
RESTS = {
    Reason.BACKING_OFF,
    Reason.CHANGED_ELSEWHERE,
    Reason.RELEASED,
    Reason.WITHDRAWN,
    Reason.KUBELET_SILENT,
    Reason.NAMESPACE_RESTS,
}
SCARCE = {Reason.RATIONED, Reason.WAITING_SUPPLY, Reason.FLOORS_REDUCED}
QUIET_KEYS = ("shadowPrice", "lag")  # They move all the time; a new value is not worth a write.
FROZEN = "All writes are stopped. If an operator did that: mbcasctl freeze --off lets them go on."
THAWED = "Writes are not stopped."


@dataclass(frozen=True, slots=True)
class Seen:
    """A pod as the core sees it."""

    pod: PodKey
    decisions: list[DecisionView]
    market: MarketView


def status_of(seen: Seen, old: Mapping[str, object], *, unix_seconds: float) -> Object:
    """Returns the status of a pod; conditions that stay as they were keep their times."""
    rows = [decision.container for decision in seen.decisions]
    main = _most_telling(seen.decisions)
    lags = [row.lag_seconds for row in rows if row.lag_seconds is not None]
    return {
        "node": seen.decisions[0].node,
        "admitted": _both(rows, "admitted_millicores"),
        "reservation": _sum(row.reservation.desired_millicores for row in rows),
        "ceiling": _sum(row.ceiling.desired_millicores for row in rows),
        "applied": _both(rows, "applied_millicores"),
        "lag": f"{max(lags):.1f}s" if lags else None,
        "class": main.headroom.workload_class,
        "reason": _word(main.container.reason),
        "shadowPrice": {
            "reservation": round(seen.market.reservation.price.shadow_price, 3),
            "ceiling": round(seen.market.ceiling.price.shadow_price, 3),
        },
        "containers": [_container(decision) for decision in seen.decisions[:CONTAINERS_MAX]],
        "conditions": _conditions(seen, old, unix_seconds),
    }


def _container(decision: DecisionView) -> Object:
    row = decision.container
    lag = {} if row.lag_seconds is None else {"lagSeconds": round(row.lag_seconds, 2)}
    return {
        "name": row.container,
        "applied": to_quantities(resources_of(row, "applied_millicores")),
        "class": decision.headroom.workload_class,
        "reason": _word(row.reason),
        "message": decision.summary[:TEXT_MAX],
        **lag,
    }


def _conditions(seen: Seen, old: Mapping[str, object], unix_seconds: float) -> list[Object]:
    """Returns each condition; where it says something, in the words of the first it is about."""
    decisions = seen.decisions
    behind = [each for each in decisions if not _is_applied(each.container)]
    frozen, nobody = seen.market.frozen, list[DecisionView]()
    told = (
        ("Applied", not behind, behind, "AsDesired", "What was sent is in force."),
        ("Rationed", *_any(decisions, SCARCE), "CpuSuffices", "CPU is not scarce for it."),
        ("Resting", *_any(decisions, RESTS), "NotResting", "Nothing makes it rest."),
        ("Frozen", frozen, nobody, *(("Frozen", FROZEN) if frozen else ("NotFrozen", THAWED))),
    )
    now = datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = _by_type(old)
    return [
        {
            "type": kind,
            "status": str(holds),
            "reason": _word(about[0].container.reason) if about else plain,
            "message": f"{about[0].container.container}: {about[0].summary}"[:TEXT_MAX]
            if about
            else words,
            "lastTransitionTime": before[kind]["lastTransitionTime"]
            if kind in before and before[kind].get("status") == str(holds)
            else now,
        }
        for kind, holds, about, plain, words in told
    ]


def _any(
    decisions: list[DecisionView], reasons: AbstractSet[Reason]
) -> tuple[bool, list[DecisionView]]:
    found = [each for each in decisions if each.container.reason in reasons]
    return bool(found), found


def _is_applied(row: ContainerView) -> bool:
    return _done(row.reservation) and _done(row.ceiling)


def _by_type(old: Mapping[str, object]) -> dict[str, Object]:
    found = old.get("conditions")
    return {
        str(each.get("type")): each
        for each in (found if isinstance(found, list) else ())
        if isinstance(each, dict) and isinstance(each.get("lastTransitionTime"), str)
    }


def is_news(status: Object, old: Mapping[str, object]) -> bool:
    """Returns whether a status says something that a person would want to know."""
    return _telling(status) != _telling(old)


def _telling(status: Mapping[str, object]) -> object:
    """Returns what of a status is worth a write."""
    kept = {key: value for key, value in status.items() if key not in QUIET_KEYS}
    containers = kept.pop("containers", None)
    conditions = kept.pop("conditions", None)
    return (
        kept,
        status.get("lag") is not None,
        [
            (each.get("name"), each.get("applied"), each.get("class"), each.get("reason"))
            for each in (containers if isinstance(containers, list) else ())
            if isinstance(each, dict)
        ],
        [
            (each.get("type"), each.get("status"))
            for each in (conditions if isinstance(conditions, list) else ())
            if isinstance(each, dict)
        ],
    )


def _most_telling(decisions: list[DecisionView]) -> DecisionView:
    """Returns the container that most is said about: the one with the most CPU among the first."""
    return max(decisions, key=lambda each: each.container.ceiling.desired_millicores or 0)


def _done(good: ContainerGoodView) -> bool:
    return good.desired_millicores is None or good.applied_millicores == good.desired_millicores


def _both(rows: list[ContainerView], which: str) -> str:
    request = _sum(getattr(row.reservation, which) for row in rows)
    return f"{request}/{_sum(getattr(row.ceiling, which) for row in rows)}"


def _sum(values: Iterator[int | None]) -> str:
    """Returns the sum, or that there is none: one container without a limit has all of the node."""
    known = list(values)
    if None in known:
        return "none"
    return f"{sum(value for value in known if value is not None)}m"


def _word(reason: Reason) -> str:
    """Returns a reason as Kubernetes writes them: ReclaimBound."""
    return reason.name.title().replace("_", "")


def resources_of(container: ContainerView, which: str) -> CpuResources:
    """Returns one pair of a container's numbers, such as `desired_millicores`."""
    request: int | None = getattr(container.reservation, which)
    limit: int | None = getattr(container.ceiling, which)
    return CpuResources(request_millicores=request, limit_millicores=limit)
