"""The messages of kube-scheduler's extender API, v1.

Go writes the fields of `k8s.io/kube-scheduler/extender/v1` by their Go names (`Pod`, `Nodes`,
`NodeNames`), because its types carry no JSON tags, and reads them in any case. Some copies of these
types write `nodenames`: this module, too, reads any case. The objects inside are the API's own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbcas_extender.pod import Json, MalformedError

NODE_NAME_MAX = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What kube-scheduler asks: which of these nodes for this pod."""

    pod: Json
    names: tuple[str, ...]
    """The candidates, in the order given."""
    nodes: tuple[Json, ...] | None
    """The whole nodes, beside their names; None where it sent names only (nodeCacheCapable)."""


def read_question(body: bytes) -> Question:
    """Reads ExtenderArgs.

    Raises:
        MalformedError: It is none; the message names the field.
    """
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise MalformedError("the body must be an object with Pod and NodeNames or Nodes")
    fields = {key.lower(): value for key, value in content.items()}
    pod = fields.get("pod")
    if not isinstance(pod, dict):
        raise MalformedError("Pod: must be an object")
    names, nodes = fields.get("nodenames"), fields.get("nodes")
    if names is not None:
        return Question(pod=pod, names=_names(names), nodes=None)
    if nodes is None:
        raise MalformedError("NodeNames or Nodes: one must be there")
    items = _items(nodes)
    given = [_name_of(node, f"Nodes.items[{index}]") for index, node in enumerate(items)]
    return Question(pod=pod, names=tuple(given), nodes=tuple(items))


def write_scores(scores: Mapping[str, int], names: Sequence[str]) -> bytes:
    """Writes a HostPriorityList."""
    return _dump([{"Host": name, "Score": scores[name]} for name in names])


def write_kept(question: Question, failed: Mapping[str, str]) -> bytes:
    """Writes an ExtenderFilterResult: who is left, and why the others are not.

    They fail as unresolvable: kube-scheduler then evicts nobody to make room there.
    """
    result: dict[str, Any] = {
        "Nodes": None,
        "NodeNames": None,
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": dict(failed),
        "Error": "",
    }
    if question.nodes is None:
        result["NodeNames"] = [name for name in question.names if name not in failed]
    else:
        pairs = zip(question.names, question.nodes, strict=True)
        result["Nodes"] = {"items": [node for name, node in pairs if name not in failed]}
    return _dump(result)


def _names(given: object) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise MalformedError("NodeNames: must be a list")
    return tuple(_name(name, f"NodeNames[{index}]") for index, name in enumerate(given))


def _items(given: object) -> list[Json]:
    items = given.get("items") if isinstance(given, dict) else given
    if not isinstance(given, dict) or not isinstance(items, list | None):
        raise MalformedError("Nodes: must be an object with a list of items")
    return items or []


def _name_of(node: object, where: str) -> str:
    metadata = node.get("metadata") if isinstance(node, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return _name(name, f"{where}.metadata.name")


def _name(given: object, where: str) -> str:
    if isinstance(given, str) and given.isascii() and 0 < len(given) <= NODE_NAME_MAX:
        return given
    raise MalformedError(f"{where}: must be a name of 1 to {NODE_NAME_MAX} ASCII characters")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _dump(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
