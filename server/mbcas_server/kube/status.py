"""What kubectl shows of a PodAllocation, from the core's views.

A pod is looked at soon after an order of it has left, and in turn with all others; its status is
written when it says something new, at most once a minute, and within a budget over all pods. A pod
whose object was deleted while it holds other than admitted values gets a new one here.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from mbcas_core.effects import Reason
from mbcas_core.errors import UnknownNodeError, UnknownPodError
from mbcas_core.events import CpuResources
from mbcas_core.views import ContainerGoodView, ContainerView, DecisionView, MarketView
from mbcas_server.clock import Clock
from mbcas_server.core import Core
from mbcas_server.core_thread import CoreThread
from mbcas_server.kube.allocation import CONTAINERS_MAX, ContainerAllocation, PodKey, to_quantities
from mbcas_server.kube.buckets import Bucket
from mbcas_server.kube.client import ApiError, Object
from mbcas_server.kube.pod_allocations import Entry, PodAllocations
from mbcas_server.logs import LimitedLog
from mbcas_server.metrics import Metrics

STEP_SECONDS = 1.0
PODS_PER_STEP = 50  # Of the others, in turn.
PODS_PER_READ = 10  # The core answers a few questions at a time: a tick may be waiting.
SPACING_SECONDS = 60.0
NOTED_MAX = 20_000
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
QUIET_KEYS = ("shadowPrice", "lag")  # They move all the time; alone they are not worth a write.

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """A pod as the core sees it."""

    pod: PodKey
    decisions: list[DecisionView]
    market: MarketView


@dataclass(eq=False, slots=True, kw_only=True)
class StatusWriter:
    """Keeps statuses; `run` never returns by itself."""

    allocations: PodAllocations
    core: CoreThread
    clock: Clock
    metrics: Metrics
    writes_per_second: float
    _noted: dict[PodKey, None] = field(init=False, default_factory=dict)
    """Pods with something new, in the order of their turn."""
    _written_seconds: dict[PodKey, float] = field(init=False, default_factory=dict)
    _turn: list[PodKey] = field(init=False, default_factory=list)
    _budget: Bucket = field(init=False)
    _log: LimitedLog = field(init=False)

    def __post_init__(self) -> None:
        self._budget = Bucket(
            self.clock,
            per_second=self.writes_per_second,
            burst=max(1.0, 2 * self.writes_per_second),
        )
        self._log = LimitedLog(logger, self.clock)

    def note(self, pod: PodKey) -> None:
        """Notes that something about a pod has changed."""
        if len(self._noted) < NOTED_MAX:
            self._noted[pod] = None

    async def run(self) -> None:
        while True:
            await self.clock.sleep_until(self.clock.now_seconds() + STEP_SECONDS)
            await self.step()

    async def step(self) -> None:
        """Looks at the pods whose turn it is, and writes what is worth it."""
        due = self._due()
        while due:
            batch, due = due[:PODS_PER_READ], due[PODS_PER_READ:]
            found = await self.core.read(partial(_look, batch))
            for seen in found:
                await self._keep(seen)

    def _due(self) -> list[PodKey]:
        """Returns who was noted and may be written, then some of the others."""
        now_seconds = self.clock.now_seconds()
        latest_seconds = now_seconds - SPACING_SECONDS
        self._written_seconds = {
            pod: at for pod, at in self._written_seconds.items() if at > latest_seconds
        }
        noted = [pod for pod in self._noted if pod not in self._written_seconds][:PODS_PER_STEP]
        for pod in noted:
            del self._noted[pod]
        if not self._turn:
            self._turn = [entry.pod for entry in self.allocations.entries()]
        others, self._turn = self._turn[:PODS_PER_STEP], self._turn[PODS_PER_STEP:]
        return noted + [pod for pod in others if pod not in self._written_seconds]

    async def _keep(self, seen: Seen) -> None:
        """Writes spec and status where they say something else than what is so."""
        entry = self.allocations.find(seen.pod)
        if entry is None:
            return
        status = status_of(seen, entry.status, unix_seconds=self.clock.unix_seconds())
        is_kept = _is_kept(entry, seen)
        if is_kept and (entry.written is None or not _is_news(status, entry.status)):
            return
        if not self._budget.take():
            self.note(seen.pod)  # Its turn comes again.
            return
        self._written_seconds[seen.pod] = self.clock.now_seconds()
        try:
            if not is_kept:
                await self.allocations.write(seen.pod, _parts(entry, seen))
            await self.allocations.write_status(entry, status)
        except ApiError as error:
            pod = f"{seen.pod.namespace}/{seen.pod.name}"
            self._log.log(logging.WARNING, "status not written", f"pod={pod} error={error}")


def _look(pods: list[PodKey], core: Core) -> list[Seen]:
    """Runs in the core's thread."""
    markets: dict[str, MarketView] = {}
    found: list[Seen] = []
    for pod in pods:
        try:
            decisions = [
                decision
                for decision in core.explain_pod(pod.namespace, pod.name)
                if decision.container.pod_uid == pod.uid
            ]
            if not decisions:
                continue
            node = decisions[0].node
            if node not in markets:
                markets[node] = core.market_view(node, include_containers=False)
        except (UnknownPodError, UnknownNodeError):
            continue  # It has gone, or has not come yet.
        found.append(Seen(pod, decisions, markets[node]))
    return found


def _parts(entry: Entry, seen: Seen) -> dict[str, ContainerAllocation]:
    """Returns the containers that have an object's part, as they are now."""
    return {
        decision.container.container: ContainerAllocation(
            admitted=_resources(decision.container, "admitted_millicores"),
            desired=_resources(decision.container, "desired_millicores"),
        )
        for decision in seen.decisions
        if decision.container.container in entry.remembered
    }


def _is_kept(entry: Entry, seen: Seen) -> bool:
    """Returns whether the API has what it must have; a pod at its admitted values needs nothing."""
    parts = _parts(entry, seen)
    if entry.written is None:
        return all(part.admitted == part.desired for part in parts.values())
    return all(entry.written.get(name) == part for name, part in parts.items())


def _resources(container: ContainerView, which: str) -> CpuResources:
    request: int | None = getattr(container.reservation, which)
    limit: int | None = getattr(container.ceiling, which)
    return CpuResources(request_millicores=request, limit_millicores=limit)


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
        "applied": to_quantities(_resources(row, "applied_millicores")),
        "class": decision.headroom.workload_class,
        "reason": _word(row.reason),
        "message": decision.summary[:TEXT_MAX],
        **lag,
    }


def _conditions(seen: Seen, old: Mapping[str, object], unix_seconds: float) -> list[Object]:
    rows = [decision.container for decision in seen.decisions]
    behind = [row for row in rows if not (_done(row.reservation) and _done(row.ceiling))]
    scarce = [row for row in rows if row.reason in SCARCE]
    resting = [row for row in rows if row.reason in RESTS]
    frozen = (
        [row for row in rows if row.reason is Reason.FROZEN] if not seen.market.frozen else rows
    )
    told = (
        ("Applied", not behind, behind or rows),
        ("Rationed", bool(scarce), scarce or rows),
        ("Resting", bool(resting), resting or rows),
        ("Frozen", bool(frozen), frozen or rows),
    )
    now = datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = _by_type(old)
    return [
        {
            "type": kind,
            "status": str(holds),
            "reason": _word(about[0].reason),
            "message": f"{about[0].container}: {_word(about[0].reason)}"[:TEXT_MAX],
            "lastTransitionTime": before[kind]["lastTransitionTime"]
            if kind in before and before[kind].get("status") == str(holds)
            else now,
        }
        for kind, holds, about in told
    ]


def _by_type(old: Mapping[str, object]) -> dict[str, Object]:
    found = old.get("conditions")
    return {
        str(each.get("type")): each
        for each in (found if isinstance(found, list) else ())
        if isinstance(each, dict) and isinstance(each.get("lastTransitionTime"), str)
    }


def _is_news(status: Object, old: Mapping[str, object]) -> bool:
    return _telling(status) != _telling(old)


def _telling(status: Mapping[str, object]) -> object:
    """Returns what of a status is worth a write."""
    kept = {key: value for key, value in status.items() if key not in QUIET_KEYS}
    containers = kept.pop("containers", None)
    conditions = kept.pop("conditions", None)
    return (
        kept,
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
