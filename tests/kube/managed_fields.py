"""Who set which field, as the API server keeps it in metadata.managedFields.

A field belongs to whoever changed its value last; who writes the value that is there already does
not get it. A path is a tuple of the parts that a FieldsV1 nests: `f:NAME`, `k:{"name":"main"}`,
and `.` for a map, list or entry itself. Only Apply shares fields.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.kube.wire import Json

Path = tuple[str, ...]
Paths = dict[Path, Json]
"""Each path with its value; None where only its being there counts."""

UPDATE, APPLY = "Update", "Apply"
KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "conditions": "type",
    "ownerReferences": "uid",
}
"""The lists whose entries have owners of their own, and what tells them apart."""
WITHOUT_OWN_ENTRY = frozenset({"containers", "conditions"})
OWNED_METADATA = ("labels", "annotations", "finalizers", "ownerReferences", "generateName")
OWNED_TOPS = frozenset({"apiVersion", "kind", "metadata"})


@dataclass(slots=True)
class Owner:
    """One entry of managedFields."""

    manager: str
    operation: str
    subresource: str
    api_version: str
    time: str
    paths: set[Path] = field(default_factory=set)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.manager, self.operation, self.subresource

    def to_wire(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": _nested(self.paths),
        }
        if self.subresource:
            entry["subresource"] = self.subresource
        return entry


def owners_of(item: dict[str, Any]) -> list[Owner]:
    """Reads an object's managedFields."""
    return [
        Owner(
            entry["manager"],
            entry["operation"],
            entry.get("subresource", ""),
            entry["apiVersion"],
            entry["time"],
            set(_flat(entry["fieldsV1"])),
        )
        for entry in item["metadata"].get("managedFields", [])
    ]


def record_update(new: dict[str, Any], old: dict[str, Any] | None, writer: Owner) -> None:
    """Writes the managedFields of an object that somebody created or changed."""
    before = paths_of(old) if old else {}
    after = paths_of(new)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    owners = owners_of(old) if old else []
    for owner in owners:
        owner.paths &= after.keys()
        owner.paths -= {path for path in changed if path in before}
    write_owners(new, owners, writer, changed)


def write_owners(
    item: dict[str, Any], owners: list[Owner], writer: Owner, gained: set[Path]
) -> None:
    """Writes managedFields: Apply before Update, then by time, manager and subresource."""
    own = next((owner for owner in owners if owner.key == writer.key), None)
    if own is None and gained:
        own = writer
        owners.append(own)
    if own is not None and gained:
        own.paths |= gained
        own.time = writer.time
    kept = [owner for owner in owners if owner.paths]
    kept.sort(key=lambda owner: (owner.operation, owner.time, owner.manager, owner.subresource))
    item["metadata"]["managedFields"] = [owner.to_wire() for owner in kept]


def paths_of(item: dict[str, Any]) -> Paths:
    """Returns every path that has an owner."""
    found: Paths = {}
    metadata = item.get("metadata", {})
    for name in OWNED_METADATA:
        if name in metadata:
            _walk(name, metadata[name], ("f:metadata", f"f:{name}"), found)
    for name, value in item.items():
        if name not in OWNED_TOPS:
            _walk(name, value, (f"f:{name}",), found)
    return found


def _walk(name: str, value: Json, path: Path, found: Paths) -> None:
    key = KEYS.get(name)
    if isinstance(value, dict) and value:
        if len(path) > 1:
            found[*path, "."] = None
        for inner, each in value.items():
            _walk(inner, each, (*path, f"f:{inner}"), found)
    elif isinstance(value, list) and value and key and all(_has(each, key) for each in value):
        if name not in WITHOUT_OWN_ENTRY:
            found[*path, "."] = None
        for each in value:
            named = json.dumps({key: each[key]}, separators=(",", ":"))
            _walk("", each, (*path, f"k:{named}"), found)
    else:
        found[path] = value


def _has(entry: Json, key: str) -> bool:
    return isinstance(entry, dict) and key in entry


def _nested(paths: Iterable[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for part in path:
            node = node.setdefault(part, {})
    return tree


def _flat(tree: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    if not tree and path:
        yield path
    for part, inner in tree.items():
        yield from _flat(inner, (*path, part))
