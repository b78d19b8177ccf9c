"""What pods say to what they are allocated: asked before a clearing, heard after it.

The rules are in `market.participation` and `market.credits`; here is what they are fed with, where
their answers go, and what an operator is told.
"""

import numpy as np

from mbcas_core.effects import Effect, Notice, PodNotice
from mbcas_core.fleet import Selection
from mbcas_core.loops.response import Cleared
from mbcas_core.market import participation
from mbcas_core.market.clearing import sum_by
from mbcas_core.market.credits import endow
from mbcas_core.market.participation import Compliance
from mbcas_core.market.targets import Acceptance
from mbcas_core.state import State
from mbcas_core.units import IntArray

BEGUN = "pod refuses its allocation"
ENDED = "pod refuses no longer"


def ask(state: State, selection: Selection) -> Acceptance | None:
    """Returns what these pods declared acceptable, and what they have to get it."""
    parameters, pods = state.parameters, selection.pods
    acceptable = state.fleet.pods.min_acceptable[pods]
    per_core = int(parameters.credit_endowment_millicore_rounds)
    if not (per_core or acceptable.any()):
        return None
    credit_max = np.zeros_like(acceptable)
    if per_core:
        requests = state.fleet.rows.admitted_request[selection.rows]
        admitted = sum_by(selection.pod_of_row, requests, pods.size)
        credit_max = endow(state.purses, pods, admitted, per_core=per_core)
    return Acceptance(
        acceptable_millicores=acceptable,
        floor_growth_millicores=participation.find_growth(
            state.refusals, pods, acceptable, step=parameters.refusal_floor_step
        ),
        credit_balance=state.purses.balance[pods],
        credit_max=credit_max,
    )


def note(state: State, selection: Selection, cleared: Cleared) -> list[Effect]:
    """Keeps who refuses and settles credits; returns what is worth telling."""
    pods, targets = selection.pods, cleared.targets
    state.purses.balance[pods] -= targets.reservation.pod_credit_millicores
    compliance = participation.judge(cleared.bids, targets, state.fleet.pods.min_acceptable[pods])
    episodes = participation.remember(state.refusals, pods, compliance)
    state.counts["refusals"] += episodes.began.size
    effects: list[Effect] = [
        _notice(state, selection, compliance, event=event, pod=pod)
        for event, which in ((BEGUN, episodes.began), (ENDED, episodes.ended))
        for pod in which.tolist()
    ]
    return effects + _tell_pods(state, selection, compliance, episodes.began)


def _tell_pods(
    state: State, selection: Selection, compliance: Compliance, began: IntArray
) -> list[Effect]:
    """What is told to whoever owns a pod on Kubernetes, once for each episode."""
    effects: list[Effect] = []
    for pod in began.tolist():
        row = int(selection.rows[selection.pod_of_row.searchsorted(pod)])
        if not state.fleet.rows.kube[row]:
            continue
        names = state.fleet.names[row]
        effects.append(
            PodNotice(
                namespace=names.namespace,
                pod=names.pod,
                pod_uid=names.pod_uid,
                container=names.container,
                event="Refuses",
                message=f"The pod gets {compliance.allocation_millicores[pod]}m of CPU, which is "
                f"less than the {compliance.least_millicores[pod]}m it needs at the least.",
                warning=True,
            )
        )
    return effects


def _notice(
    state: State, selection: Selection, compliance: Compliance, *, event: str, pod: int
) -> Notice:
    row = int(selection.rows[selection.pod_of_row.searchsorted(pod)])
    names = state.fleet.names[row]
    return Notice(
        node=state.fleet.node_names[int(selection.nodes[selection.node_of_pod[pod]])],
        event=event,
        detail=f"pod={names.namespace}/{names.pod} "
        f"allocation={compliance.allocation_millicores[pod]}m "
        f"least={compliance.least_millicores[pod]}m "
        f"acceptable={state.fleet.pods.min_acceptable[selection.pods[pod]]}m",
    )
