"""The file of bids that `mbcasctl allocate -f` reads.

    capacity: 2000m         # Or `node: NAME`, to bid beside the pods that run there.
    bids:
      - id: api             # Any name, each once.
        need: 900m          # The most it has use for; CPU as 500m or as 0.5.
        floor: 300m         # What it was promised; 0 where it is left out.
        cap: 1500m          # The most it may get; left out: three quarters of the capacity.
        weight: 300         # Its share of what floors leave: admitted millicores x priority factor.

The file is read as YAML's nodes, not as its values: so an error has a line, 0.5 stays what was
written, and an alias is never unfolded.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import yaml

from mbcas.v1 import market_pb2 as pb
from mbcas_server.annotations import parse_cpu
from mbcas_server.ctl_client import UsageError

EXAMPLE = "bids: [{id: api, need: 800m, floor: 300m, weight: 300}]"
FILE_MAX_BYTES = 8 << 20  # 10,000 bids, as many as the server takes, are 1 MB.
SHOWN_MAX = 60
_NULL = "tag:yaml.org,2002:null"
_T = TypeVar("_T")


def read_bids(path: Path) -> pb.AllocateRequest:
    """Reads a file of bids.

    Raises:
        UsageError: It cannot be used; the message names file, line and field.
    """
    try:
        with path.open("rb") as file:
            text = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if len(text) > FILE_MAX_BYTES:
        raise UsageError(f"{path} has more than {FILE_MAX_BYTES} bytes, which no file of bids has")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not YAML: {error}") from error
    return _Reader(path).request(root)


class _Reader:
    """Turns nodes into a request, and says where what it cannot use stands."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def request(self, root: yaml.Node | None) -> pb.AllocateRequest:
        if not isinstance(root, yaml.MappingNode):
            raise UsageError(f"{self._path}: must hold a list named bids, such as {EXAMPLE}")
        fields = self._fields(root, ("capacity", "node", "bids"), "")
        bids = fields.get("bids")
        if not isinstance(bids, yaml.SequenceNode):
            raise self._error(bids or root, f"must hold a list named bids, such as {EXAMPLE}")
        if "capacity" in fields and "node" in fields:
            raise self._error(fields["node"], "node: a node has its own capacity, give one of both")
        return pb.AllocateRequest(
            node=self._value(fields, "node", "", str, ""),
            capacity_millicores=self._value(fields, "capacity", "", _millicores, 0),
            bids=[self._bid(node, f"bids[{index}]") for index, node in enumerate(bids.value)],
        )

    def _bid(self, node: yaml.Node, where: str) -> pb.Bid:
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{where}: must be a mapping with id, need and weight")
        fields = self._fields(node, ("id", "need", "floor", "cap", "weight"), where)
        missing = sorted({"id", "need", "weight"} - fields.keys())
        if missing:
            raise self._error(node, f"{where}: has no {', '.join(missing)}")
        return pb.Bid(
            id=self._value(fields, "id", where, str, ""),
            need_millicores=self._value(fields, "need", where, _millicores, 0),
            floor_millicores=self._value(fields, "floor", where, _millicores, 0),
            cap_millicores=self._value(fields, "cap", where, _millicores, 0),
            weight=self._value(fields, "weight", where, _number, 0.0),
        )

    def _fields(
        self, node: yaml.MappingNode, known: tuple[str, ...], where: str
    ) -> dict[str, yaml.Node]:
        """Returns the fields of a mapping by name; each must be known, and there once."""
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            prefix = f"{where}: " if where else ""
            if name not in known:
                raise self._error(
                    key, f"{prefix}knows no {_shown(name)}; there is {', '.join(known)}"
                )
            if name in fields:
                raise self._error(key, f"{prefix}has {name} twice")
            fields[name] = value
        return fields

    def _value(
        self,
        fields: Mapping[str, yaml.Node],
        name: str,
        where: str,
        parse: Callable[[str], _T],
        default: _T,
    ) -> _T:
        node = fields.get(name)
        if node is None:
            return default
        path = f"{where}.{name}" if where else name
        if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL:
            raise self._error(node, f"{path}: must be one value")
        try:
            return parse(node.value)
        except ValueError as error:
            raise self._error(node, f"{path}: is {_shown(node.value)}, {error}") from error

    def _error(self, node: yaml.Node, text: str) -> UsageError:
        return UsageError(f"{self._path}:{node.start_mark.line + 1}: {text}")


def millicores(option: str, given: str) -> int:
    """Reads CPU of an option.

    Raises:
        UsageError: It is none.
    """
    try:
        return _millicores(given)
    except ValueError as error:
        raise UsageError(f"{option}: is {_shown(given)}, {error}") from error


def _millicores(text: str) -> int:
    """Reads CPU as Kubernetes writes it: 500m is half a core, so is 0.5."""
    found = parse_cpu(text)
    if found is None:
        raise ValueError("must be CPU such as 500m or 0.5")
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("must be a number") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…")
