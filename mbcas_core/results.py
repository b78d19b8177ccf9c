"""How orders ended: what the API server and the shims answered, and who rests because of it.

On Kubernetes an answer is told by its HTTP status, its cause and its field, never by its sentence,
which people are told:

| status | what it means | what follows |
|---|---|---|
| 403 on a raise, no cause | a quota, a LimitRange or a policy of the namespace | its raises rest |
| other 403, also on a release; 422, others | this container cannot have it | it rests |
| 404, 409 | the pod is gone, or another than was thought | an inventory, no blame |
| 429 | too many writes | the budget rests |
| 5xx, none | nobody knows | it stays billed; an inventory |

Rests double from time to time, up to ten minutes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from mbcas_core import ledger
from mbcas_core.effects import Effect, PodNotice, Reason, RequestInventory
from mbcas_core.events import OrderResult, Outcome
from mbcas_core.state import SentOrder, State

OK = (Outcome.APPLIED, Outcome.UNCHANGED)
FORBIDDEN, NOT_FOUND, CONFLICT, TOO_MANY_REQUESTS = 403, 404, 409, 429
OWN_CAUSES = frozenset({"NodeCapacity", "UnsupportedPlatform"})
"""Causes of a 403 that are about one container and not about its namespace."""
PAUSE_SECONDS = 1.0
PAUSE_MAX_SECONDS = 60.0


def take_results(
    state: State, node: int, results: Iterable[OrderResult], now: float
) -> list[Effect]:
    """Takes in how a node's orders ended."""
    effects: list[Effect] = []
    why = ""
    for result in results:
        sent = state.orders.pop(result.order_id, None)
        if sent is None or state.fleet.names.get(sent.row) != sent.names:
            state.counts["results_unknown"] += 1
            continue
        state.resizes[result.outcome, sent.reason] += 1
        if state.fleet.rows.kube[sent.row]:
            _note_sentence(state, sent.row, result)
            ended = _Patch(state, sent, result, now)
            effects += ended.take()
            why = why or ended.inventory_reason
        else:
            why = why or _take_result(state, sent.row, result, now)
        if state.fleet.nodes.waiting[node]:
            state.fleet.nodes.next_round[node] = -np.inf
    if why:
        effects.append(RequestInventory(node=state.fleet.node_names[node], reason=why))
    return effects


def _note_sentence(state: State, row: int, result: OrderResult) -> None:
    if result.message:
        state.fleet.refusals[row] = result.message
    else:
        state.fleet.refusals.pop(row, None)


def _take_result(state: State, row: int, result: OrderResult, now: float) -> str:
    """Takes in a result without Kubernetes; returns why an inventory is needed."""
    ledger.settle(
        state.ledger,
        row,
        result,
        now_seconds=now,
        backoff_seconds=state.parameters.backoff_seconds,
    )
    if result.generation > 0:
        state.fleet.rows.generation[row] = result.generation
    if result.outcome != Outcome.FAILED:
        return ""
    return "an order may or may not have been carried out"


@dataclass(slots=True)
class _Patch:
    """The end of one container's part in the patch of a pod."""

    state: State
    sent: SentOrder
    result: OrderResult
    now: float
    inventory_reason: str = ""

    def take(self) -> list[Effect]:
        if self.result.status in (NOT_FOUND, CONFLICT):
            self.inventory_reason = "a pod is not what it was thought to be"
            self.result = replace(self.result, outcome=Outcome.STALE)
        if self.result.outcome in OK:
            return self._succeed()
        if self.result.outcome == Outcome.REFUSED:
            return self._refuse()
        rest = 0.0
        if self.result.outcome == Outcome.FAILED:
            self.inventory_reason = "an order may or may not have been carried out"
            rest = self.state.parameters.backoff_seconds
        self._settle(rest)
        return []

    def _settle(self, rest_seconds: float) -> None:
        ledger.settle_patch(
            self.state.ledger,
            self.sent.row,
            self.result.outcome,
            now_seconds=self.now,
            rest_seconds=rest_seconds,
        )

    def _succeed(self) -> list[Effect]:
        fleet, row = self.state.fleet, self.sent.row
        pod = int(fleet.rows.pod[row])
        pods = fleet.pods
        pods.generation[pod] = max(int(pods.generation[pod]), self.result.generation)
        # A kubelet that never says what it has seen is not waited for.
        if 0 < pods.observed_generation[pod] < pods.generation[pod]:
            pods.unseen_since[pod] = self.now
        if self._raises():
            namespace = fleet.rows.namespace[row]
            fleet.namespaces.failures[namespace] = 0
            fleet.namespaces.rest_until[namespace] = -np.inf
        pods.refusal_told[pod] = False
        first = self.sent.patches and not pods.resized[pod]
        change = self._change()
        self._settle(0.0)
        if not first or self.result.outcome != Outcome.APPLIED:
            return []
        pods.resized[pod] = True
        return [
            self._notice("FirstResize", f"MBCAS resizes this pod for the first time: {change}.")
        ]

    def _refuse(self) -> list[Effect]:
        state, row = self.state, self.sent.row
        if self.result.status == TOO_MANY_REQUESTS:
            asked = self.result.retry_after_seconds
            pause = PAUSE_SECONDS if asked is None else min(asked, PAUSE_MAX_SECONDS)
            cluster = int(state.fleet.nodes.cluster[state.fleet.rows.node[row]])
            state.budgets[cluster].pause(until_seconds=self.now + pause)
            self._settle(0.0)
            return []
        change, of_namespace = self._change(), self._is_of_namespace()
        self._settle(0.0 if of_namespace else self._rest_seconds())
        if of_namespace and not self._rest_namespace():
            return []
        pod = int(state.fleet.rows.pod[row])
        if state.fleet.pods.refusal_told[pod]:
            return []
        state.fleet.pods.refusal_told[pod] = True
        why = f"HTTP {self.result.status}" if self.result.status else "it was not tried"
        why += "".join(f", {word}" for word in (self.result.cause, self.result.field) if word)
        rests = "raises in this namespace rest" if of_namespace else "the container rests"
        message = f"A resize was refused ({why}), {rests}: {change}."
        message += f" The API server says: {self.result.message}" if self.result.message else ""
        return [self._notice("ResizeRefused", message, warning=True)]

    def _rest_seconds(self) -> float:
        return max(self.state.parameters.backoff_seconds, 1.0)

    def _raises(self) -> bool:
        table, row = self.state.ledger, self.sent.row
        return bool(
            table.desired_request[row] > table.before_request[row]
            or table.desired_limit[row] > table.before_limit[row]
        )

    def _is_of_namespace(self) -> bool:
        return (
            self.result.status == FORBIDDEN
            and self.result.cause not in OWN_CAUSES
            and self.sent.reason != Reason.RELEASED  # It does not wait for its namespace.
            and self._raises()
        )

    def _rest_namespace(self) -> bool:
        """Lets the raises of a namespace rest; returns whether they did not already."""
        table = self.state.fleet.namespaces
        namespace = int(self.state.fleet.rows.namespace[self.sent.row])
        if self.now < table.rest_until[namespace]:
            return False  # One of several that were refused together.
        wait = ledger.back_off(
            int(table.failures[namespace]), self.state.parameters.backoff_seconds
        )
        table.failures[namespace] += 1
        table.rest_until[namespace] = self.now + wait
        return True

    def _change(self) -> str:
        """What was asked for, in words."""
        table, row = self.state.ledger, self.sent.row
        said = [
            f"{name} {before[row]}m to {after[row]}m"
            for name, before, after in (
                ("request", table.before_request, table.desired_request),
                ("limit", table.before_limit, table.desired_limit),
            )
            if before[row] != after[row]
        ]
        return ", ".join(said) or "no change"

    def _notice(self, event: str, message: str, *, warning: bool = False) -> PodNotice:
        names = self.sent.names
        return PodNotice(
            namespace=names.namespace,
            pod=names.pod,
            pod_uid=names.pod_uid,
            container=names.container,
            event=event,
            message=message,
            warning=warning,
        )
