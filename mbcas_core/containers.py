"""What the facts about one container do to its row: admission, spec, permits, weight.

What a container was *admitted* with is what it asked for before MBCAS touched it. On Kubernetes the
facts say who last set each number of the spec. One that MBCAS did not set is the admitted one, so a
change by somebody else is recognised even where it happened while nobody watched; for one that it
did set, it is what was remembered, and where nobody remembers, the container is left alone. One of
which this server knows that it sent it stays MBCAS's until it is another number. Without
Kubernetes the shim says what was admitted, or the first spec is.
"""

import zlib
from dataclasses import replace

import numpy as np

from mbcas_core import ledger, recall
from mbcas_core.effects import Effect, Notice, PodNotice, Reason
from mbcas_core.events import (
    ContainerFacts,
    CpuResources,
    Mode,
    Pending,
    Policy,
    PriorityClass,
    QosClass,
)
from mbcas_core.fleet import FleetFullError, Names
from mbcas_core.market.goods import pod_weights
from mbcas_core.permits import EXCLUDED, find_permit
from mbcas_core.state import State
from mbcas_core.units import MAX_MILLICORES

UNREADY_SECONDS = 300.0
"""A container that is not ready counts as starting for at most this long."""
AGE_MAX_SECONDS = 3600.0


def take_container(
    state: State, node: int, facts: ContainerFacts, now: float
) -> tuple[int | None, list[Effect]]:
    """Takes in one container's facts; returns its row, None where there is no room for it."""
    fleet = state.fleet
    names = Names(
        pod_uid=facts.pod_uid,
        namespace=facts.namespace,
        pod=facts.pod,
        container=facts.container,
        container_id=facts.container_id,
    )
    row = fleet.find_row(node, facts.pod_uid, facts.container)
    effects: list[Effect] = []
    if row is None:
        if fleet.count_rows(node) >= state.parameters.max_containers_per_node:
            return None, [_refuse(state, node, names, "the node has as many as it may")]
        try:
            row = fleet.add_row(node, facts.handle, names)
        except FleetFullError as error:
            return None, [_refuse(state, node, names, str(error))]
        _enrol(state, row, facts, now)
        fleet.nodes.next_round[node] = -np.inf
    else:
        fleet.set_handle(row, facts.handle)
        effects = _update(state, row, facts, names, now)
    _configure(state, row, facts, now)
    return row, effects


def remove_row(state: State, row: int) -> None:
    """Removes a container; its order is forgotten with it."""
    state.orders.pop(int(state.ledger.order_id[row]), None)
    names, node = state.fleet.names[row], int(state.fleet.rows.node[row])
    state.fleet.remove_row(row)
    rest = state.fleet.rows_of_node(node)
    for other in rest.tolist():
        if state.fleet.names[other].pod_uid == names.pod_uid:
            _weigh_pod(state, other)
            break
    state.fleet.nodes.next_round[node] = -np.inf  # Its share is free for the others.


def _refuse(state: State, node: int, names: Names, why: str) -> Effect:
    state.counts["containers_refused"] += 1
    return Notice(
        node=state.fleet.node_names[node],
        event="container refused",
        detail=f"pod={names.namespace}/{names.pod} container={names.container} reason={why}",
    )


def _enrol(state: State, row: int, facts: ContainerFacts, now: float) -> None:
    """Fills a new row."""
    rows = state.fleet.rows
    rows.kube[row] = facts.qos is not None
    if rows.kube[row]:
        rows.admitted_known[row] = False
        _admit_on_kubernetes(state, row, facts)
        _note_kubelet(state, row, facts, now)
        _adopt(state, row, facts, now)
        state.ledger.changed_time[row] = state.ledger.cut_time[row] = -np.inf
        if rows.request_set[row] or rows.limit_set[row]:
            # An earlier server sent the last order, and perhaps a moment ago.
            state.fleet.pods.order_time[rows.pod[row]] = now
            state.fleet.pods.resized[rows.pod[row]] = True
        # It is no younger than before; it is this server that must get to know it.
        rows.steady_until[row] = now + state.parameters.startup_grace_seconds
        recall.apply(state, row, now_seconds=now)
    else:
        _admit(state, row, facts)
        _adopt(state, row, facts, None)
    _restart(state, row, facts, now)
    state.decisions.target_request[row] = state.ledger.desired_request[row]
    state.decisions.target_limit[row] = state.ledger.desired_limit[row]


def _update(
    state: State, row: int, facts: ContainerFacts, names: Names, now: float
) -> list[Effect]:
    fleet = state.fleet
    old = fleet.names[row]
    # A pod keeps its names; what the uid stands for cannot be given another.
    fleet.names[row] = replace(old, container_id=names.container_id)
    restarted = old.container_id != names.container_id or (
        facts.restart_count > fleet.rows.restart_count[row]
    )
    if restarted:
        _restart(state, row, facts, now)
        state.counts["restarts"] += 1
    if fleet.rows.kube[row]:
        return _update_on_kubernetes(state, row, facts, now)
    if facts.generation < fleet.rows.generation[row]:
        return []  # An order's result has said more already.
    if facts.admitted is not None:
        _admit(state, row, facts)
    elif _is_foreign(state, row, facts):
        _admit(state, row, facts)
        _rest_for_others(state, row, now)
    _adopt(state, row, facts, None if restarted else now)
    return []


def _update_on_kubernetes(
    state: State, row: int, facts: ContainerFacts, now: float
) -> list[Effect]:
    effects: list[Effect] = []
    if _note_kubelet(state, row, facts, now):
        resting = now < state.ledger.foreign_until[row]
        if _admit_on_kubernetes(state, row, facts):
            _rest_for_others(state, row, now)
            if not resting:
                effects.append(_changed_elsewhere(state, row, facts.spec))
        _adopt(state, row, facts, now)
    return effects


def _note_kubelet(state: State, row: int, facts: ContainerFacts, now: float) -> bool:
    """Takes in what the kubelet has seen; returns whether these facts are the newest."""
    pods, nodes = state.fleet.pods, state.fleet.nodes
    pod, node = int(state.fleet.rows.pod[row]), int(state.fleet.rows.node[row])
    new_pod = pods.generation[pod] == 0
    if facts.observed_generation > pods.observed_generation[pod]:
        pods.observed_generation[pod] = facts.observed_generation
        if not new_pod:
            nodes.observed_time[node] = now
    if facts.generation < pods.generation[pod]:
        return False  # An order's result has said more already.
    pods.generation[pod] = facts.generation
    # A kubelet that never says what it has seen is not waited for.
    unseen = 0 < pods.observed_generation[pod] < facts.generation
    if not unseen:
        pods.unseen_since[pod] = np.nan
    elif np.isnan(pods.unseen_since[pod]) and (facts.request_set or facts.limit_set):
        pods.unseen_since[pod] = now
    pending = Pending.NOTHING if unseen else facts.pending
    pods.pending[pod] = int(pending)
    admitted = facts.allocated.request_millicores if facts.allocated is not None else None
    if pending == Pending.NOTHING and ((admitted or 0) > state.ledger.allocated_request[row]):
        pods.withdrawals[pod] = 0
    return True


def _admit_on_kubernetes(state: State, row: int, facts: ContainerFacts) -> bool:
    """Takes in what was admitted; returns whether somebody else has changed it."""
    rows, spec = state.fleet.rows, _whole_spec(facts)
    remembered = facts.admitted or CpuResources()
    known_before = bool(rows.admitted_known[row])
    rows.has_limit[row] = spec.limit_millicores is not None
    foreign, known = False, True
    for value, owned, told, admitted, ours, sent in (
        (
            spec.request_millicores or 0,
            facts.request_set,
            remembered.request_millicores,
            rows.admitted_request,
            rows.request_set,
            ledger.sent_request(state.ledger, row),
        ),
        (
            spec.limit_millicores or 0,
            facts.limit_set,
            remembered.limit_millicores,
            rows.admitted_limit,
            rows.limit_set,
            ledger.sent_limit(state.ledger, row),
        ),
    ):
        before = int(admitted[row])
        if not (owned or _stays_ours(value, before, sent, was_ours=bool(ours[row]))):
            admitted[row] = value
            foreign |= bool(ours[row]) or before != value
            ours[row] = False
            continue
        ours[row] = True
        if told is not None:
            admitted[row] = told
        elif not known_before:
            admitted[row] = value
            known = False
    if spec.limit_millicores is not None and rows.admitted_request[row] > rows.admitted_limit[row]:
        # Somebody else set one of the two where ours left room: that one stays as it was set.
        if rows.limit_set[row]:
            rows.admitted_limit[row] = rows.admitted_request[row]
        else:
            rows.admitted_request[row] = rows.admitted_limit[row]
    rows.admitted_known[row] = known
    return foreign and known_before


def _stays_ours(value: int, admitted: int, sent: ledger.Sent, *, was_ours: bool) -> bool:
    """True where a number is ours although `managedFields` no longer say so.

    Anybody may clear those, and with them whose a number is, without changing it.
    """
    if was_ours:
        return value in sent.possible
    return value != admitted and value in sent.changed


def _changed_elsewhere(state: State, row: int, spec: CpuResources) -> PodNotice:
    names, rest = state.fleet.names[row], state.parameters.foreign_rest_seconds
    request, limit = spec.request_millicores, spec.limit_millicores
    said = [
        f"{name} {value}m"
        for name, value in (("request", request), ("limit", limit))
        if value is not None
    ]
    return PodNotice(
        namespace=names.namespace,
        pod=names.pod,
        pod_uid=names.pod_uid,
        container=names.container,
        event="ChangedElsewhere",
        message=f"The CPU of container {names.container} was changed by somebody else: "
        f"{', '.join(said)} is what it asks for from now on; it is left alone for {rest:.0f} s.",
    )


def _rest_for_others(state: State, row: int, now: float) -> None:
    state.ledger.foreign_until[row] = now + state.parameters.foreign_rest_seconds
    state.decisions.reason[row] = int(Reason.CHANGED_ELSEWHERE)
    state.counts["foreign_changes"] += 1


def _is_foreign(state: State, row: int, facts: ContainerFacts) -> bool:
    """True where somebody else changed the spec.

    While its shim was away, that may have been the shim's fail-safe: nobody else is blamed then.
    """
    node = int(state.fleet.rows.node[row])
    return bool(state.fleet.nodes.attached[node]) and ledger.is_foreign(
        state.ledger, row, _whole_spec(facts)
    )


def _whole_spec(facts: ContainerFacts) -> CpuResources:
    """The spec as the API server completes it: a limit alone is both."""
    spec = facts.spec
    if spec.request_millicores is not None:
        return spec
    return CpuResources(
        request_millicores=spec.limit_millicores, limit_millicores=spec.limit_millicores
    )


def _adopt(state: State, row: int, facts: ContainerFacts, now: float | None) -> None:
    spec = _whole_spec(facts)
    allocated, actual = facts.allocated or CpuResources(), facts.actual or CpuResources()
    if not state.fleet.rows.kube[row]:
        ledger.adopt(
            state.ledger, row, spec=spec, allocated=allocated, actual=actual, now_seconds=now
        )
        return
    assert now is not None, "on Kubernetes a change is noted whenever it is told"
    pending = int(state.fleet.pods.pending[state.fleet.rows.pod[row]])
    ledger.adopt_status(
        state.ledger,
        row,
        spec=spec,
        allocated=allocated,
        actual=actual,
        pending=pending in (Pending.DEFERRED, Pending.INFEASIBLE),
        measured=not np.isnan(state.counters.quota[row]),
        now_seconds=now,
    )


def _admit(state: State, row: int, facts: ContainerFacts) -> None:
    admitted = facts.admitted or facts.spec
    limit = admitted.limit_millicores
    request = admitted.request_millicores
    rows = state.fleet.rows
    rows.admitted_request[row] = (limit or 0) if request is None else request
    rows.admitted_limit[row] = limit or 0
    rows.has_limit[row] = limit is not None


def _restart(state: State, row: int, facts: ContainerFacts, now: float) -> None:
    rows = state.fleet.rows
    state.counters.known[row] = False
    state.counters.waiting[row] = False
    rows.seen_time[row] = now - min(facts.age_seconds or 0.0, AGE_MAX_SECONDS)
    rows.starting_until[row] = rows.seen_time[row] + UNREADY_SECONDS
    state.emergency.reset(row)


def _configure(state: State, row: int, facts: ContainerFacts, now: float) -> None:
    fleet, parameters = state.fleet, state.parameters
    rows, pods = fleet.rows, fleet.pods
    permit = find_permit(
        facts,
        facts.policy or parameters.policy,
        admitted_known=bool(rows.admitted_known[row]),
    )
    mode = _mode(facts, facts.mode or parameters.mode, parameters.canary_share)
    rows.mode[row] = int(mode)
    rows.policy[row] = int(permit.policy)
    rows.guaranteed[row] = facts.qos == QosClass.GUARANTEED
    rows.fixed[row] = permit.fixed
    rows.keeps_gap[row] = permit.keeps_gap
    if rows.kube[row]:
        _find_returns(state, row, facts, mode)
        if rows.unready[row] and facts.ready and now < rows.starting_until[row]:
            rows.seen_time[row] = now  # The grace of a start counts from here.
        rows.unready[row] = not facts.ready
    priority = facts.priority_class or PriorityClass.NORMAL
    rows.priority[row] = int(priority)
    rows.tau[row] = parameters.tau[priority]
    rows.strict[row] = bool(facts.strict)
    rows.skipped[row] = bool(permit.skip_reason)
    fleet.skip_reasons.pop(row, None)
    if permit.skip_reason:
        fleet.skip_reasons[row] = permit.skip_reason
    rows.generation[row] = max(facts.generation, int(rows.generation[row]))
    rows.restart_count[row] = facts.restart_count
    pod = int(rows.pod[row])
    pods.min_millicores[pod] = _or(facts.min_millicores, MAX_MILLICORES)
    pods.max_millicores[pod] = _or(facts.max_millicores, MAX_MILLICORES)
    pods.min_acceptable[pod] = _or(facts.min_acceptable_millicores, 0)
    _weigh_pod(state, row)


def _mode(facts: ContainerFacts, mode: Mode, canary_share: float) -> Mode:
    """The mode in effect: a pod outside the canary share is not resized."""
    inside = zlib.crc32(facts.pod_uid.encode()) < canary_share * 2**32
    return Mode.RECOMMEND if mode == Mode.AUTO and not inside else mode


def _find_returns(state: State, row: int, facts: ContainerFacts, mode: Mode) -> None:
    """Notes which numbers MBCAS has set and sets no longer: those are given back."""
    rows, policy = state.fleet.rows, Policy(int(state.fleet.rows.policy[row]))
    sets = mode == Mode.AUTO and not rows.fixed[row]
    # What cannot be resized is not tried.
    may = bool(rows.admitted_known[row]) and facts.skip_reason in ("", EXCLUDED)
    rows.returns_request[row] = (
        may and rows.request_set[row] and not (sets and policy != Policy.LIMITS_ONLY)
    )
    rows.returns_limit[row] = (
        may and rows.limit_set[row] and not (sets and policy != Policy.REQUESTS_ONLY)
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _weigh_pod(state: State, row: int) -> None:
    """Sets the weight of a row's pod: declared at admission, never bid."""
    rows, parameters = state.fleet.rows, state.parameters
    own = state.fleet.rows_of_pod(row)
    factor = parameters.priority_factor[PriorityClass(int(rows.priority[row]))]
    weight = pod_weights(
        np.zeros(own.size, np.int64),
        rows.admitted_request[own],
        np.array([factor]),
        parameters=parameters,
    )
    state.fleet.pods.weight[rows.pod[row]] = weight[0]
