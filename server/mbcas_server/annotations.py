"""A pod's `mbcas.io/` annotations, parsed.

An annotation that cannot be used is left out and said; the pod's others still count.

A priority is a claim: it costs its owner nothing, so somebody else must bound it. A pod has the
class it claims (normal, where it claims none), but no more than the larger of what its namespace's
`max-priority` and its Kubernetes PriorityClass allow; where neither says anything, no more than the
server's `max_priority`. Both only bound: a PriorityClass that maps to critical allows a claim of
critical and raises nobody who makes none, because it was given for preemption, not for CPU.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from mbcas_core.events import Mode, Policy, PriorityClass
from mbcas_core.units import MAX_MILLICORES, MILLICORES_PER_CORE

MODES = {"off": Mode.OFF, "recommend": Mode.RECOMMEND, "auto": Mode.AUTO}
POLICIES = {policy.name.lower().replace("_", "-"): policy for policy in Policy}
PRIORITY_CLASSES = {item.name.lower(): item for item in PriorityClass}
ISOLATIONS = {"strict": True, "shared": False}
SYSTEM_CLASSES = ("system-node-critical", "system-cluster-critical")
"""The PriorityClasses that Kubernetes comes with."""
MEANT_FOR_OTHERS = frozenset({"workload-type"})

_CPU = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,9})?)(m?)")
_SHOWN_MAX = 60
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """What a pod declares; None where it does not say, or not usably."""

    mode: Mode | None = None
    policy: Policy | None = None
    priority_class: PriorityClass | None = None
    """As claimed; `PriorityBounds` says what of it counts."""
    max_priority: PriorityClass | None = None
    """What its namespace allows."""
    strict: bool | None = None
    min_millicores: int | None = None
    max_millicores: int | None = None
    min_acceptable_millicores: int | None = None
    excluded: frozenset[str] = frozenset()
    """Names of containers that are to be left alone."""
    refusals: tuple[str, ...] = ()
    """One sentence for each annotation that was left out."""


NOTHING = Annotations()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityBounds:
    """How much priority a pod may claim."""

    max_priority: PriorityClass = PriorityClass.NORMAL
    """Where neither its namespace nor its PriorityClass says anything."""
    of_class: Mapping[str, PriorityClass] = field(
        default_factory=lambda: dict.fromkeys(SYSTEM_CLASSES, PriorityClass.CRITICAL)
    )
    """What each Kubernetes PriorityClass allows; the others say nothing."""

    def find(self, said: Annotations, priority_class_name: str) -> tuple[PriorityClass, str]:
        """Returns the class that counts, and a sentence where a claim is bounded."""
        of_class = self.of_class.get(priority_class_name)
        allowed = [bound for bound in (said.max_priority, of_class) if bound is not None]
        # The API counts downwards: the least number is the highest class.
        bound = min(allowed, default=self.max_priority)
        claimed = said.priority_class
        counts = max(claimed or PriorityClass.NORMAL, bound)
        if claimed is None or claimed >= bound:
            return counts, ""
        return counts, (
            f"priority-class is {_name(claimed)}, but counts as {_name(bound)}: to allow more, "
            "raise max-priority of its namespace, or name its PriorityClass in the server's "
            "priority_classes"
        )


def _name(priority: PriorityClass) -> str:
    return priority.name.lower()


def parse_annotations(given: Mapping[str, str]) -> Annotations:
    """Parses annotations whose keys have lost their prefix."""
    if not given:
        return NOTHING
    refusals: list[str] = []

    def choice(key: str, allowed: Mapping[str, _T]) -> _T | None:
        text = given.get(key)
        if text is not None and text not in allowed:
            refusals.append(f"{key} is {_shown(text)}, must be one of {', '.join(allowed)}")
        return allowed.get(text) if text is not None else None

    def cpu(key: str) -> int | None:
        text = given.get(key)
        millicores = None if text is None else parse_cpu(text)
        if text is not None and millicores is None:
            refusals.append(
                f"{key} is {_shown(text)}, must be cores such as 0.5 or millicores such as 500m, "
                f"at most {MAX_MILLICORES}m"
            )
        return millicores

    least, acceptable, most = _in_order(
        cpu("min-cpu"), cpu("min-acceptable-cpu"), cpu("max-cpu"), refusals
    )
    known = {"mode", "policy", "priority-class", "max-priority", "isolation", "exclude-containers"}
    known |= {"min-cpu", "max-cpu", "min-acceptable-cpu"} | MEANT_FOR_OTHERS
    refusals += [f"{_shown(key)} is no annotation of MBCAS" for key in sorted(given.keys() - known)]
    return Annotations(
        mode=choice("mode", MODES),
        policy=choice("policy", POLICIES),
        priority_class=choice("priority-class", PRIORITY_CLASSES),
        max_priority=choice("max-priority", PRIORITY_CLASSES),
        strict=choice("isolation", ISOLATIONS),
        min_millicores=least,
        max_millicores=most,
        min_acceptable_millicores=acceptable,
        excluded=frozenset(
            name.strip() for name in given.get("exclude-containers", "").split(",") if name.strip()
        ),
        refusals=tuple(refusals),
    )


def _in_order(
    least: int | None, acceptable: int | None, most: int | None, refusals: list[str]
) -> tuple[int | None, int | None, int | None]:
    """Leaves out what contradicts `max-cpu`, and `max-cpu` where it contradicts itself."""
    if most == 0:
        refusals.append("max-cpu is 0, must be above")
        most = None
    if least is not None and most is not None and least > most:
        refusals.append(f"min-cpu {least}m is above max-cpu {most}m; neither counts")
        least = most = None
    if acceptable is not None and most is not None and acceptable > most:
        refusals.append(
            f"min-acceptable-cpu {acceptable}m is above max-cpu {most}m; it is left out"
        )
        acceptable = None
    return least, acceptable, most


def parse_cpu(text: str) -> int | None:
    """Returns millicores, rounded up, as Kubernetes rounds; None where it is no amount of CPU."""
    match = _CPU.fullmatch(text.strip())
    if match is None:
        return None
    amount = Decimal(match[1]) * (1 if match[2] else MILLICORES_PER_CORE)
    millicores = int(amount.to_integral_value(rounding="ROUND_CEILING"))
    return millicores if millicores <= MAX_MILLICORES else None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…")
