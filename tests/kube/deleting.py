"""How objects go: with grace, with finalizers, with their owner, with their namespace."""

from collections.abc import Iterator
from typing import Any

from tests.kube.errors import ApiError
from tests.kube.kinds import Kind
from tests.kube.requests import Request
from tests.kube.store import Object, Store
from tests.kube.timers import Timers

COLLECT_SECONDS = 0.5
DEFAULT_GRACE_SECONDS = 30
ENDED = ("Succeeded", "Failed")


def check_preconditions(request: Request, item: Object) -> None:
    """Raises where a DELETE is about another object of that name, or another state of it.

    Raises:
        ApiError: 409.
    """
    wanted: dict[str, Any] = (request.body or {}).get("preconditions") or {}
    for name in ("uid", "resourceVersion"):
        if wanted.get(name) not in (None, item["metadata"][name]):
            raise ApiError(409, f"the {name} in the precondition does not match")


def grace_seconds(request: Request, resource: str, item: Object) -> int | None:
    """Returns how long a pod may take to end; None for what has no grace."""
    if resource != "pods":
        return None
    metadata, spec = item["metadata"], item["spec"]
    asked = request.query.get("gracePeriodSeconds") or (request.body or {}).get(
        "gracePeriodSeconds"
    )
    grace = int(asked) if asked is not None else spec["terminationGracePeriodSeconds"]
    if not spec.get("nodeName") or item["status"].get("phase") in ENDED:
        grace = 0
    if "deletionGracePeriodSeconds" in metadata:
        return min(grace, int(metadata["deletionGracePeriodSeconds"]))
    return int(grace)


def mark(item: Object, grace: int, timers: Timers) -> None:
    """Writes when an object is to be gone."""
    metadata = item["metadata"]
    if "generation" in metadata and "deletionTimestamp" not in metadata:
        metadata["generation"] += 1
    metadata["deletionTimestamp"] = timers.text(later_seconds=grace)
    metadata["deletionGracePeriodSeconds"] = grace


def is_free(resource: str, item: Object) -> bool:
    """Says whether nothing holds back an object that is to go."""
    return resource != "pods" and not item["metadata"].get("finalizers")


def success(kind: Kind, item: Object) -> Object:
    """Returns the answer to a DELETE of what is gone already."""
    details = {
        "name": item["metadata"]["name"],
        "kind": kind.plural,
        "uid": item["metadata"]["uid"],
    }
    if kind.group:
        details["group"] = kind.group
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return status | {"details": details}


def inside(store: Store, namespace: str) -> list[tuple[str, Object]]:
    """Returns everything in a namespace."""
    found = store.everything()
    return [pair for pair in found if pair[1]["metadata"].get("namespace") == namespace]


def orphans(store: Store) -> Iterator[tuple[str, Object]]:
    """Yields what has had owners and has none any more."""
    everything = store.everything()
    uids = {item["metadata"].get("uid") for _, item in everything}
    for resource, item in everything:
        owners = item["metadata"].get("ownerReferences") or []
        if owners and not any(owner.get("uid") in uids for owner in owners):
            yield resource, item
