"""Whether a kubelet grants a resize (canResizePod of 1.35.4); limits are never looked at."""

from collections.abc import Iterable

from tests.kube.resources import Pod, amount, qos_of, request_millicores, running_containers


def why_not(
    pod: Pod,
    granted: Pod,
    others: Iterable[Pod],
    *,
    millicores: int,
    static_cpu_manager: bool,
    has_swap: bool = False,
) -> tuple[str, str] | None:
    """Returns reason and message where the spec is not granted, None where it is."""
    asked, has = request_millicores(pod), request_millicores(granted)
    if static_cpu_manager and qos_of(pod) == "Guaranteed" and asked != has:
        message = 'Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"'
        return "Infeasible", message
    if has_swap and _memory_requests(pod) != _memory_requests(granted):
        return "Infeasible", "In-place resize of memory requests is not supported with swap"
    if asked > millicores:
        message = (
            f"Node didn't have enough capacity: cpu, requested: {asked}, capacity: {millicores}"
        )
        return "Infeasible", message
    used = sum(request_millicores(each) for each in others)
    if asked > has and used + asked > millicores:
        message = (
            "Node didn't have enough resource: "
            f"cpu, requested: {asked}, used: {used}, capacity: {millicores}"
        )
        return "Deferred", message
    return None


def _memory_requests(pod: Pod) -> list[str | None]:
    return [amount(each, "requests", "memory") for each in running_containers(pod)]


def precedence(pod: Pod, granted: Pod, waiting_since: float) -> tuple[bool, int, bool, float]:
    """Returns what deferred pods are served by: priority, class of service, then who waits."""
    rising = request_millicores(pod) > request_millicores(granted)
    priority: int = pod["spec"].get("priority", 0)
    return rising, -priority, qos_of(pod) != "Guaranteed", waiting_since
