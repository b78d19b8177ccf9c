"""A PodAllocation as the API has it and as the server does; what comes from the API is checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mbcas_core.events import CpuResources
from mbcas_core.units import MAX_MILLICORES
from mbcas_server.kube.client import Object

GROUP = "mbcas.io/v1alpha1"
RESOURCE = "podallocations"
KIND = "PodAllocation"
CONTAINERS_MAX = 128  # As its schema says.
_NAME_MAX = 244  # Leaves room for "-" and the uid's digits in 253.
_UID_DIGITS = 8
_QUANTITY = re.compile(r"([0-9]{1,8})m")


class UnusableError(Exception):
    """Something in the object is not as the server writes it; the message names the field."""


class PodKey(NamedTuple):
    """One pod, for as long as it lives."""

    namespace: str
    name: str
    uid: str

    @property
    def object_name(self) -> str:
        """The name of its PodAllocation."""
        return f"{self.name[:_NAME_MAX]}-{self.uid.replace('-', '')[:_UID_DIGITS]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerAllocation:
    """One container's part."""

    admitted: CpuResources
    desired: CpuResources


Containers = Mapping[str, ContainerAllocation]


def to_spec(pod: PodKey, containers: Containers) -> Object:
    """Returns the object's spec."""
    return {
        "podName": pod.name,
        "podUID": pod.uid,
        "containers": [
            {
                "name": name,
                "admitted": to_quantities(part.admitted),
                "desired": to_quantities(part.desired),
            }
            for name, part in sorted(containers.items())
        ],
    }


def to_object(pod: PodKey, containers: Containers) -> Object:
    """Returns a new object, which goes with its pod."""
    return {
        "apiVersion": GROUP,
        "kind": KIND,
        "metadata": {
            "name": pod.object_name,
            "namespace": pod.namespace,
            "labels": {"app.kubernetes.io/managed-by": "mbcas"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
            ],
        },
        "spec": to_spec(pod, containers),
    }


def from_object(given: Object) -> tuple[PodKey, dict[str, ContainerAllocation]]:
    """Reads an object that anybody may have written.

    Raises:
        UnusableError: It is not as the server writes it.
    """
    metadata, spec = _mapping(given, "metadata"), _mapping(given, "spec")
    pod = PodKey(_text(metadata, "namespace"), _text(spec, "podName"), _text(spec, "podUID"))
    if metadata.get("name") != pod.object_name:
        raise UnusableError(f"metadata.name: must be {pod.object_name} for this pod")
    listed = spec.get("containers")
    if not isinstance(listed, list) or not 1 <= len(listed) <= CONTAINERS_MAX:
        raise UnusableError(f"spec.containers: must be a list of 1 to {CONTAINERS_MAX}")
    containers: dict[str, ContainerAllocation] = {}
    for entry in listed:
        if not isinstance(entry, dict):
            raise UnusableError("spec.containers: must hold objects")
        name = _text(entry, "name")
        if name in containers:
            raise UnusableError("spec.containers: name a container twice")
        containers[name] = ContainerAllocation(
            admitted=_from_quantities(entry, "admitted"), desired=_from_quantities(entry, "desired")
        )
    return pod, containers


def to_quantities(resources: CpuResources) -> dict[str, str]:
    """Returns what is set, as 250m."""
    named = {"request": resources.request_millicores, "limit": resources.limit_millicores}
    return {name: f"{value}m" for name, value in named.items() if value is not None}


def _from_quantities(entry: Object, field: str) -> CpuResources:
    given = _mapping(entry, field)
    return CpuResources(
        request_millicores=_millicores(given.get("request"), f"{field}.request", 0),
        limit_millicores=_millicores(given.get("limit"), f"{field}.limit", 1),
    )


def _millicores(given: object, field: str, least: int) -> int | None:
    if given is None:
        return None
    match = _QUANTITY.fullmatch(given) if isinstance(given, str) else None
    if match is None or not least <= int(match[1]) <= MAX_MILLICORES:
        raise UnusableError(f"spec.containers.{field}: must be millicores, as 250m")
    return int(match[1])


def _mapping(given: Object, field: str) -> Object:
    found = given.get(field)
    if not isinstance(found, dict):
        raise UnusableError(f"{field}: must be an object")
    return found


def _text(given: Object, field: str) -> str:
    found = given.get(field)
    if not isinstance(found, str) or not found:
        raise UnusableError(f"{field}: must be there")
    return found
