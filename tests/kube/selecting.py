"""Which objects a list or watch is about, and how a long list comes in pages."""

import base64
import binascii
import json
import re
from typing import Any

from tests.kube.errors import ApiError
from tests.kube.store import Object

TERM = re.compile(r"(?P<key>!?[^=!]+?)(?P<operator>==|!=|=)(?P<value>.*)|(?P<alone>!?[^=!]+)")
POD_FIELDS = frozenset(
    {
        "metadata.name",
        "metadata.namespace",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    }
)


def selected(item: Object, query: dict[str, str]) -> bool:
    """Says whether an object is one of those that the selectors of a call ask for."""
    labels = item["metadata"].get("labels", {})
    for key, operator, wanted in _terms(query.get("labelSelector", "")):
        if not _holds(labels.get(key), operator, wanted):
            return False
    for path, operator, wanted in _terms(query.get("fieldSelector", "")):
        value: Any = item
        for part in path.split("."):
            value = value.get(part, {})
        if not _holds(value or "", operator, wanted):
            return False
    return True


def check_selectors(plural: str, query: dict[str, str]) -> None:
    """Raises where a call selects pods by a field that can't be.

    Raises:
        ApiError: 400.
    """
    for path, _, _ in _terms(query.get("fieldSelector", "")):
        if plural == "pods" and path not in POD_FIELDS:
            raise ApiError(400, f"field label not supported: {path}")


def page_of(items: list[Object], query: dict[str, str], version: int) -> tuple[list[Object], Any]:
    """Returns one page of a list in the order of names, and the list's metadata.

    Raises:
        ApiError: 400, the place to continue at is none.
    """
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    start = 0
    if "continue" in query:
        metadata["resourceVersion"], after = _continued(query["continue"])
        start = sum(place_of(item) <= after for item in items)
    limit = int(query.get("limit") or 0)
    if query.get("resourceVersion") == "0" or not limit or len(items) - start <= limit:
        return items[start:], metadata
    page = items[start : start + limit]
    place = json.dumps({"rv": metadata["resourceVersion"], "start": place_of(page[-1])})
    metadata["continue"] = base64.b64encode(place.encode()).decode()
    if not query.get("labelSelector") and not query.get("fieldSelector"):
        metadata["remainingItemCount"] = len(items) - start - limit
    return page, metadata


def version_of_page(token: str) -> int:
    """Returns the version of the list that a page goes on with.

    Raises:
        ApiError: 400.
    """
    return int(_continued(token)[0])


def place_of(item: Object) -> list[str]:
    """Returns where an object is in a list."""
    return [item["metadata"].get("namespace", ""), item["metadata"]["name"]]


def _continued(token: str) -> tuple[str, list[str]]:
    try:
        place = json.loads(base64.b64decode(token))
        return place["rv"], place["start"]
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise ApiError(400, "invalid continue token") from error


def _terms(selector: str) -> list[tuple[str, str, str]]:
    """Returns key, operator and value of each term: =, !=, there (+) or not there (-)."""
    terms = []
    for matched in map(TERM.fullmatch, filter(None, selector.split(","))):
        if matched is None:
            raise ApiError(400, f"unable to parse requirement: {selector}")
        alone = matched["alone"]
        if alone:
            terms.append((alone.removeprefix("!"), "-" if alone.startswith("!") else "+", ""))
        else:
            terms.append((matched["key"], matched["operator"], matched["value"]))
    return terms


def _holds(value: str | None, operator: str, wanted: str) -> bool:
    match operator:
        case "!=":
            return value != wanted
        case "+":
            return value is not None
        case "-":
            return value is None
        case _:
            return value == wanted
