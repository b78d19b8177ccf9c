"""The three kinds of PATCH that the API server takes, as far as pods need them."""

from collections import deque
from copy import deepcopy
from typing import Any

from tests.kube.wire import Json

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
KINDS = frozenset({STRATEGIC, MERGE, JSON_PATCH})

NAMED_LISTS = frozenset({"containers", "initContainers"})
"""Lists that a strategic merge patch merges by the entries' names; it replaces any other."""


class PatchTestError(Exception):
    """A test operation of a JSON patch found another value."""


def patched(old: dict[str, Any], patch: Json, content_type: str) -> dict[str, Any]:
    """Returns the object after the patch; the old one stays as it is.

    Raises:
        PatchTestError: it tests for another value.
        ValueError, TypeError, KeyError, IndexError: the patch is none of its kind, or does not fit.
    """
    result: Any
    if content_type == JSON_PATCH:
        result = deepcopy(old)
        for operation in patch:
            _apply(result, operation)
    elif isinstance(patch, dict):
        result = _merged(old, patch, by_name=content_type == STRATEGIC)
    else:
        raise TypeError("a merge patch is an object")
    if not isinstance(result, dict):
        raise TypeError("the result is no object")
    return result


def merged_by_keys(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Merges as a strategic patch does; the old object may be changed."""
    result: dict[str, Any] = _merged(old, patch, by_name=True)
    return result


def _merged(old: Json, patch: Json, *, by_name: bool) -> Json:
    """Merges as RFC 7396 says, lists of containers by name where that is wanted."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = deepcopy(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif by_name and key in NAMED_LISTS:
            result[key] = _merged_by_name(result.get(key, []), value)
        else:
            result[key] = _merged(result.get(key), value, by_name=by_name)
    return result


def _merged_by_name(old: list[dict[str, Any]], patch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Orders the entries that the patch names as the patch does, and the rest as they were.

    So a patch that names a pod's containers in another order than the pod wants to reorder them.
    """
    by_name = {entry["name"]: entry for entry in old}
    places = {name: place for place, name in enumerate(by_name)}
    named = [_merged(by_name.get(entry["name"]), entry, by_name=True) for entry in patch]
    names = {entry["name"] for entry in patch}
    rest = deque(deepcopy(entry) for entry in old if entry["name"] not in names)
    result = []
    for entry in named:
        while rest and places[rest[0]["name"]] < places.get(entry["name"], -1):
            result.append(rest.popleft())
        result.append(entry)
    return [*result, *rest]


def _apply(document: Json, operation: dict[str, Any]) -> None:
    """Applies one operation of RFC 6902: add, replace, remove or test."""
    *parents, last = [
        part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
    ]
    for part in parents:
        document = document[int(part)] if isinstance(document, list) else document[part]
    key: Any = last
    if isinstance(document, list):
        key = len(document) if last == "-" else int(last)
    match operation["op"]:
        case "test":
            if document[key] != operation["value"]:
                raise PatchTestError(operation["path"])
        case "remove":
            del document[key]
        case "add" if isinstance(document, list):
            document.insert(key, operation["value"])
        case "add" | "replace":
            document[key] = operation["value"]
        case unknown:
            raise ValueError(f"op {unknown} is not known")
