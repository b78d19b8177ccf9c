"""Orders of one pod turned into one PATCH of its resize subresource, or refused without a call.

Only cpu leaves that differ from the spec are sent: never null, which would turn a request into its
limit, and never a request or limit where the spec has none, which could not be taken back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.inventory import Cpu
from mbcas_shim.kube.pod_containers import PodContainer
from mbcas_shim.kube.pods import Pod
from mbcas_shim.orders import Order, result

_LEAVES = (("requests", "request_millicores"), ("limits", "limit_millicores"))


class _RefusalError(Exception):
    """An order that is not sent."""

    def __init__(self, outcome: pb.Outcome.ValueType, cause: str, field: str = "") -> None:
        self.outcome, self.cause, self.field = outcome, cause, field
        super().__init__(cause)


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of the orders of one pod."""

    changes: Mapping[str, Cpu] = field(default_factory=dict)
    """By container: what is to be sent. None is a leaf that stays."""
    sent: Sequence[Order] = ()
    """Orders that the changes carry out."""
    results: Sequence[pb.OrderResult] = ()
    """Of all others."""


def plan_orders(pod: Pod, specs: Mapping[str, Cpu], orders: Sequence[Order]) -> Plan:
    """Decides what of some orders is sent.

    Args:
        pod: As the watch knows it.
        specs: The CPU of its containers now, which may be newer than the pod's.
        orders: Orders of this pod; of two for one container the later counts.
    """
    latest = {order.container: order for order in orders}
    containers = {container.name: container for container in pod.containers}
    changes: dict[str, Cpu] = {}
    sent: list[Order] = []
    results = [
        result(order.order_id, pb.OUTCOME_STALE, cause="Superseded")
        for order in orders
        if latest[order.container] is not order
    ]
    is_cut_refused = False
    for order in sorted(latest.values(), key=lambda order: _is_raise(order, specs)):
        is_raise = _is_raise(order, specs)
        try:
            change = _change(containers.get(order.container), specs, order.desired)
            _check_cuts(is_refused=is_raise and is_cut_refused)
        except _RefusalError as refusal:
            is_cut_refused |= not is_raise
            results.append(
                result(order.order_id, refusal.outcome, cause=refusal.cause, field=refusal.field)
            )
            continue
        if change == Cpu():
            results.append(result(order.order_id, pb.OUTCOME_UNCHANGED))
        else:
            changes[order.container] = change
            sent.append(order)
    return Plan(changes, sent, results)


def patch_body(pod: Pod, changes: Mapping[str, Cpu]) -> dict[str, Any]:
    """Builds the patch: the uid as a precondition, containers in the pod's own order."""
    spec = {
        list_name: entries
        for list_name, names in (
            ("initContainers", pod.init_container_names),
            ("containers", pod.container_names),
        )
        if (entries := [_entry(name, changes[name]) for name in names if name in changes])
    }
    return {"metadata": {"uid": pod.uid}, "spec": spec}


def merged(spec: Cpu, change: Cpu) -> Cpu:
    """What a container has after a change."""
    request, limit = change.request_millicores, change.limit_millicores
    return Cpu(
        spec.request_millicores if request is None else request,
        spec.limit_millicores if limit is None else limit,
    )


def difference(spec: Cpu, desired: Cpu) -> Cpu:
    """What of the desired values is not so already."""
    request, limit = desired.request_millicores, desired.limit_millicores
    return Cpu(
        None if request == spec.request_millicores else request,
        None if limit == spec.limit_millicores else limit,
    )


def _change(container: PodContainer | None, specs: Mapping[str, Cpu], desired: Cpu) -> Cpu:
    if container is None:
        raise _RefusalError(pb.OUTCOME_STALE, "UnknownContainer")
    if container.skip_reason:
        raise _RefusalError(pb.OUTCOME_REFUSED, "Skipped")
    if container.restarts_on_resize:
        raise _RefusalError(pb.OUTCOME_REFUSED, "RestartContainer")
    spec = specs[container.name]
    for _, leaf in _LEAVES:
        if getattr(spec, leaf) is None and getattr(desired, leaf) is not None:
            raise _RefusalError(pb.OUTCOME_REFUSED, "NothingToChange", f"desired.{leaf}")
    change = difference(spec, desired)
    after = merged(spec, change)
    request, limit = after.request_millicores, after.limit_millicores
    if request is not None and limit is not None and request > limit:
        raise _RefusalError(pb.OUTCOME_REFUSED, "RequestAboveLimit", "desired")
    return change


def _check_cuts(*, is_refused: bool) -> None:
    if is_refused:
        raise _RefusalError(pb.OUTCOME_REFUSED, "CutRefused")


def _entry(name: str, change: Cpu) -> dict[str, Any]:
    resources = {
        leaf: {"cpu": f"{millicores}m"}
        for leaf, attribute in _LEAVES
        if (millicores := getattr(change, attribute)) is not None
    }
    return {"name": name, "resources": resources}


def _is_raise(order: Order, specs: Mapping[str, Cpu]) -> bool:
    """True where an order raises the limit, or the request alone."""
    spec = specs.get(order.container, Cpu())
    for desired, now in (
        (order.desired.limit_millicores, spec.limit_millicores),
        (order.desired.request_millicores, spec.request_millicores),
    ):
        if desired is not None and now is not None and desired != now:
            return desired > now
    return False
