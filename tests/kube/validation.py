"""What may not be changed in a pod, by `/resize` and without it.

Order and fields follow ValidatePodResize of Kubernetes 1.35.4 (pkg/apis/core/validation).
"""

from copy import deepcopy
from typing import Any

from tests.kube.errors import ApiError, Cause, forbidden, invalid
from tests.kube.quantity import number_of
from tests.kube.resources import Pod, qos_of

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
MUTABLE = ("cpu", "memory")
OVERCOMMITTED = (*MUTABLE, "ephemeral-storage")
CONTAINER_LISTS = ("initContainers", "containers")


def keep_only_resources(new: Pod, old: Pod) -> Pod:
    """Returns the old pod with the new one's resources: all else is silently dropped.

    Where containers come, go or change places, nothing is dropped: the checks refuse it.
    """
    for kind in CONTAINER_LISTS:
        if _names(new, kind) != _names(old, kind):
            return new
    result = deepcopy(old)
    result["metadata"]["resourceVersion"] = new["metadata"].get("resourceVersion")
    for kind in CONTAINER_LISTS:
        for kept, given in zip(_all(result, kind), _all(new, kind), strict=True):
            for field in ("resources", "resizePolicy"):
                kept.pop(field, None)
                if field in given:
                    kept[field] = given[field]
    return result


def check_resize(new: Pod, old: Pod) -> None:
    """Raises where a resize is not allowed.

    Raises:
        ApiError: 422 with the causes.
    """
    if MIRROR_ANNOTATION in old["metadata"].get("annotations", {}):
        _refuse(old, [forbidden("", "static pods cannot be resized")])
    if old["spec"].get("os", {}).get("name") == "windows":
        _refuse(old, [forbidden("", "windows pods cannot be resized")])
    causes = [*_negative(new), *_above_limit(new)]
    if old["status"]["qosClass"] != qos_of(new):
        message = "Pod QOS Class may not change as a result of resizing"
        causes.append(invalid("spec", message))
    if "resources" in old["spec"]:
        causes.append(forbidden("[]", "resize of pods with pod-level resources is forbidden"))
    if not _node_supports_it(old):
        causes.append(forbidden("spec", "Pod running on node without support for resize"))
    misplaced = _misplaced(new, old)
    if not misplaced:
        causes += [*_removed(new, old), *_immutable(new, old)]
    _refuse(old, causes + misplaced)


def check_new(pod: Pod) -> None:
    """Raises where a new pod contradicts itself.

    Raises:
        ApiError: 422 with the causes.
    """
    if pod["spec"]["restartPolicy"] != "Never":
        return
    causes = [
        invalid(f"spec.containers[{index}].resizePolicy", "must be NotRequired")
        for index, container in enumerate(_all(pod, "containers"))
        for policy in container.get("resizePolicy") or []
        if policy["restartPolicy"] == "RestartContainer"
    ]
    _refuse(pod, causes)


def check_status(new: Pod, old: Pod) -> None:
    """Raises where a PATCH of the status changes what stays as it was decided at first.

    Raises:
        ApiError: 422 with the cause.
    """
    if new["status"].get("qosClass") != old["status"].get("qosClass"):
        _refuse(old, [invalid("status.qosClass", "field is immutable")])


def check_plain_update(new: Pod, old: Pod) -> None:
    """Raises where a PATCH of the pod itself changes more than images or metadata.

    Raises:
        ApiError: 422 with the causes.
    """
    compared = deepcopy(new["spec"])
    for kind in CONTAINER_LISTS:
        if _names(new, kind) == _names(old, kind):
            for changed, before in zip(compared.get(kind, []), _all(old, kind), strict=True):
                changed["image"] = before.get("image")
    if compared != old["spec"]:
        _refuse(old, [forbidden("spec", "pod updates may not change fields other than the image")])


def _refuse(pod: Pod, causes: list[Cause]) -> None:
    if causes:
        sentences = ", ".join(f"{cause.field}: {cause.message}" for cause in causes)
        message = f'Pod "{pod["metadata"]["name"]}" is invalid: {sentences}'
        raise ApiError(422, message, causes=tuple(causes))


def _all(pod: Pod, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pod["spec"].get(kind, [])
    return found


def _names(pod: Pod, kind: str) -> list[str]:
    return [container["name"] for container in _all(pod, kind)]


def _node_supports_it(pod: Pod) -> bool:
    running = [
        status
        for status in pod["status"].get("containerStatuses", [])
        if "running" in status["state"]
    ]
    return not running or "resources" in running[0]


def _negative(pod: Pod) -> list[Cause]:
    return [
        invalid(f"spec.{kind}[{index}].resources.{leaf}[{name}]", "must not be negative")
        for kind in CONTAINER_LISTS
        for index, container in enumerate(_all(pod, kind))
        for leaf in ("limits", "requests")
        for name, value in (container.get("resources") or {}).get(leaf, {}).items()
        if number_of(value) < 0
    ]


def _above_limit(pod: Pod) -> list[Cause]:
    causes = []
    for kind in CONTAINER_LISTS:
        for index, container in enumerate(_all(pod, kind)):
            resources = container.get("resources") or {}
            limits = resources.get("limits", {})
            for name, request in resources.get("requests", {}).items():
                if name in limits and number_of(request) > number_of(limits[name]):
                    field = f"spec.{kind}[{index}].resources.requests"
                    message = f"must be less than or equal to {name} limit of {limits[name]}"
                    causes.append(invalid(field, message))
    return causes


def _misplaced(new: Pod, old: Pod) -> list[Cause]:
    causes = []
    for kind in CONTAINER_LISTS:
        after, before = _names(new, kind), _names(old, kind)
        if len(after) != len(before):
            message = f"{kind} may not be added or removed on resize"
            causes.append(forbidden(f"spec.{kind}", message))
            continue
        causes += [
            forbidden(
                f"spec.{kind}[{index}].name", f"{kind} may not be renamed or reordered on resize"
            )
            for index, (name, was) in enumerate(zip(after, before, strict=True))
            if name != was
        ]
    return causes


def _removed(new: Pod, old: Pod) -> list[Cause]:
    causes = []
    for kind in CONTAINER_LISTS:
        pairs = zip(_all(new, kind), _all(old, kind), strict=True)
        for index, (after, before) in enumerate(pairs):
            if kind == "initContainers" and before.get("restartPolicy") != "Always":
                continue
            for leaf in ("requests", "limits"):
                was = before.get("resources", {}).get(leaf, {})
                if was.keys() - (after.get("resources") or {}).get(leaf, {}).keys():
                    field = f"spec.{kind}[{index}].resources.{leaf}"
                    causes.append(forbidden(field, f"resource {leaf} cannot be removed"))
    return causes


def _immutable(new: Pod, old: Pod) -> list[Cause]:
    causes = []
    for kind in CONTAINER_LISTS:
        for after, before in zip(_all(new, kind), _all(old, kind), strict=True):
            if kind == "initContainers" and before.get("restartPolicy") != "Always":
                if after != before:
                    message = "resources for non-sidecar init containers are immutable"
                    causes.append(forbidden("spec", message))
            elif _without_mutable(after) != _without_mutable(before):
                causes.append(forbidden("spec", "only cpu and memory resources are mutable"))
    return causes


def _without_mutable(container: dict[str, Any]) -> dict[str, Any]:
    resources = container.get("resources") or {}
    rest = {
        leaf: {
            name: value for name, value in resources.get(leaf, {}).items() if name not in MUTABLE
        }
        for leaf in ("limits", "requests")
    }
    return container | {"resources": rest}
