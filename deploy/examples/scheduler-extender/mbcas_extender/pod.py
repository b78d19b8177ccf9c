"""From a pod as kube-scheduler sends it to the bid that the pod would make on a node.

The bid is that of the pod once all its containers run: requests of its containers and sidecars,
plus its overhead, or what it declares for the pod as a whole. Init containers that end do not
count: they are over before the market has its first round, and kube-scheduler itself has checked
that they fit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mbcas.v1 import market_pb2 as pb

PREFIX = "mbcas.io/"
EXPECTED_CPU = "scheduling.mbcas.io/expected-cpu"
"""What the pod will want when it works, where that is not its request. The prefix is one of its
own, because MBCAS takes a key of `mbcas.io/` that it does not know for a slip of the pen."""
PRIORITY_FACTORS = {"critical": 1.5, "normal": 1.0, "low": 0.7}
LEAST_WEIGHT = 10  # As the server has it: a pod without a request weighs as one of 10m.
MAX_MILLICORES = 10**9  # More is refused by the API, and no node has it.
SHOWN_MAX = 60

_QUANTITY = re.compile(
    r"([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})([numkMGTPE]?|[eE][+-]?\d{1,2})"
)
_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}

Json = Mapping[str, Any]


class MalformedError(Exception):
    """The body is not what kube-scheduler sends; the message names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodBid:
    """What a pod asks of each node's market."""

    bid: pb.Bid
    min_acceptable_millicores: int
    """With less than this and less than its need, the pod refuses; 0 where it does not say."""
    refusals: tuple[str, ...]
    """One sentence for each annotation that could not be used."""


def read_bid(pod: Json) -> PodBid:
    """Returns a pod's bid; its id is the same for every pod, because it stands alone.

    Raises:
        MalformedError: A field that the API server would have refused.
    """
    spec = _mapping(pod.get("spec"), "Pod.spec")
    said, refusals = _read_annotations(_mapping(pod.get("metadata"), "Pod.metadata"))
    request, limit = _request(spec), _limit(spec)
    most = said.cpu.get("max-cpu", MAX_MILLICORES)
    floor = min(request, said.cpu.get("min-cpu", request), most)
    cap = min(most, MAX_MILLICORES if limit is None else max(limit, floor))
    bid = pb.Bid(
        id="pod",
        need_millicores=max(said.cpu.get("expected", request), floor),
        floor_millicores=floor,
        cap_millicores=0 if cap == MAX_MILLICORES else cap,
        weight=max(LEAST_WEIGHT, request) * PRIORITY_FACTORS[said.priority],
    )
    return PodBid(
        bid=bid,
        min_acceptable_millicores=said.cpu.get("min-acceptable-cpu", 0),
        refusals=tuple(refusals),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    cpu: dict[str, int]
    priority: str


def _read_annotations(metadata: Json) -> tuple[_Said, list[str]]:
    """Reads those that shape a bid; an owner's slip must not keep a pod from being placed."""
    given = _mapping(metadata.get("annotations"), "Pod.metadata.annotations")
    cpu: dict[str, int] = {}
    refusals = []
    keys = {f"{PREFIX}{name}": name for name in ("min-cpu", "max-cpu", "min-acceptable-cpu")}
    for key, name in {EXPECTED_CPU: "expected", **keys}.items():
        if key not in given:
            continue
        try:
            cpu[name] = read_cpu(given[key], key)
        except MalformedError as error:
            refusals.append(str(error))
    if cpu.get("max-cpu") == 0:
        refusals.append(f"{PREFIX}max-cpu: is 0, must be above")
        del cpu["max-cpu"]
    priority = given.get(f"{PREFIX}priority-class", "normal")
    if not isinstance(priority, str) or priority not in PRIORITY_FACTORS:
        known = ", ".join(PRIORITY_FACTORS)
        refusals.append(f"{PREFIX}priority-class: is {shown(priority)}, must be one of {known}")
        priority = "normal"
    return _Said(cpu=cpu, priority=priority), refusals


def _request(spec: Json) -> int:
    """What a pod asks for: for the whole of it, or the sum of its containers, and its overhead."""
    whole = _cpu_of(spec, "requests", "Pod.spec")
    if whole is None:
        whole = sum(_cpu_of(item, "requests", where) or 0 for item, where in _containers(spec))
    return whole + _overhead(spec)


def _limit(spec: Json) -> int | None:
    """The same of limits; None where a container has none."""
    whole = _cpu_of(spec, "limits", "Pod.spec")
    if whole is None:
        limits = [_cpu_of(item, "limits", where) for item, where in _containers(spec)]
        known = [limit for limit in limits if limit is not None]
        if not known or len(known) < len(limits):
            return None
        whole = sum(known)
    return whole + _overhead(spec)


def _overhead(spec: Json) -> int:
    overhead = _mapping(spec.get("overhead"), "Pod.spec.overhead")
    return read_cpu(overhead["cpu"], "Pod.spec.overhead.cpu") if "cpu" in overhead else 0


def _containers(spec: Json) -> list[tuple[Json, str]]:
    """Lists the containers that run side by side, each with where it stands."""
    found = []
    for field in ("containers", "initContainers"):
        listed = spec.get(field)
        listed = [] if listed is None else listed
        if not isinstance(listed, list):
            raise MalformedError(f"Pod.spec.{field}: must be a list")
        for index, item in enumerate(listed):
            where = f"Pod.spec.{field}[{index}]"
            container = _mapping(item, where)
            if field == "containers" or container.get("restartPolicy") == "Always":
                found.append((container, where))
    return found


def _cpu_of(holder: Json, kind: str, where: str) -> int | None:
    resources = _mapping(holder.get("resources"), f"{where}.resources")
    amounts = _mapping(resources.get(kind), f"{where}.resources.{kind}")
    if "cpu" not in amounts:
        return None
    return read_cpu(amounts["cpu"], f"{where}.resources.{kind}.cpu")


def read_cpu(given: object, where: str) -> int:
    """Reads CPU as Kubernetes writes quantities, rounded up to whole millicores.

    Raises:
        MalformedError: It is none, or more than any node has.
    """
    text = str(given) if isinstance(given, int | float) and not isinstance(given, bool) else given
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise MalformedError(f"{where}: is {shown(given)}, must be CPU such as 500m or 0.5")
    exponent = int(match[2][1:]) if match[2][:1] in {"e", "E"} and match[2][1:] else None
    power = _SUFFIXES[match[2]] if exponent is None else exponent
    millicores = Decimal(match[1]).scaleb(power + 3).to_integral_value(rounding="ROUND_CEILING")
    if millicores > MAX_MILLICORES:
        raise MalformedError(f"{where}: is {shown(given)}, must be at most {MAX_MILLICORES}m")
    return int(millicores)


def _mapping(given: object, where: str) -> Json:
    """Returns an object, empty where the field is absent or null."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise MalformedError(f"{where}: must be an object")
    return given


def shown(given: object) -> str:
    """Returns what was found, short enough for a line."""
    text = repr(given)
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…"
