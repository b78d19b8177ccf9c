"""A pod's `mbcas.io/` annotations, parsed.

An annotation that cannot be used is left out and said; the pod's others still count.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from mbcas_core.events import Mode, Policy, PriorityClass
from mbcas_core.units import MAX_MILLICORES, MILLICORES_PER_CORE

MODES = {"off": Mode.OFF, "recommend": Mode.RECOMMEND, "auto": Mode.AUTO}
POLICIES = {policy.name.lower().replace("_", "-"): policy for policy in Policy}
PRIORITY_CLASSES = {item.name.lower(): item for item in PriorityClass}
ISOLATIONS = {"strict": True, "shared": False}
MEANT_FOR_OTHERS = frozenset({"workload-type", "max-priority"})

_CPU = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,9})?)(m?)")
_SHOWN_MAX = 60
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """What a pod declares; None where it does not say, or not usably."""

    mode: Mode | None = None
    policy: Policy | None = None
    priority_class: PriorityClass | None = None
    strict: bool | None = None
    min_millicores: int | None = None
    max_millicores: int | None = None
    min_acceptable_millicores: int | None = None
    excluded: frozenset[str] = frozenset()
    """Names of containers that are to be left alone."""
    refusals: tuple[str, ...] = ()
    """One sentence for each annotation that was left out."""


NOTHING = Annotations()


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

    least, most = cpu("min-cpu"), cpu("max-cpu")
    if most == 0:
        refusals.append("max-cpu is 0, must be above")
        most = None
    if least is not None and most is not None and least > most:
        refusals.append(f"min-cpu {least}m is above max-cpu {most}m; neither counts")
        least = most = None
    known = {"mode", "policy", "priority-class", "isolation", "exclude-containers"}
    known |= {"min-cpu", "max-cpu", "min-acceptable-cpu"} | MEANT_FOR_OTHERS
    refusals += [f"{_shown(key)} is no annotation of MBCAS" for key in sorted(given.keys() - known)]
    return Annotations(
        mode=choice("mode", MODES),
        policy=choice("policy", POLICIES),
        priority_class=choice("priority-class", PRIORITY_CLASSES),
        strict=choice("isolation", ISOLATIONS),
        min_millicores=least,
        max_millicores=most,
        min_acceptable_millicores=cpu("min-acceptable-cpu"),
        excluded=frozenset(
            name.strip() for name in given.get("exclude-containers", "").split(",") if name.strip()
        ),
        refusals=tuple(refusals),
    )


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
