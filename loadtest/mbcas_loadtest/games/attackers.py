"""The attackers' interface: what a owner can do to a node's market, and what it sees.

An attacker owns the first `pods` pods of each node it plays on. Many games (nodes) are played side
by side, so what it sees and what it says are arrays of shape (g, k): g games, k pods of its own as
they were admitted, replicas counted one by one. A game goes

    admit                once, before anything is measured; it begins a new game
    report | use         each round where the game is played on reported needs, each second where it
                         is played on the real core, whose agents see nothing but use

An attacker may remember what it has seen. It may not look at the other pods, and draws no random
numbers of its own, or a paired comparison with truthful play would not be one. To write a new one,
subclass `Truthful` and change what it lies about.

It knows more than most owners do: its own demand as far ahead as one round, and its true need.
What pays too little here pays less in life.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_core.units import FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Admission:
    """What is declared of the attacker's pods when they are admitted; arrays of shape (g, k)."""

    request_millicores: IntArray
    limit_millicores: IntArray
    """At least the request."""
    room_millicores: IntArray
    """(g,) what the scheduler still has on the node: requests may grow by so much in all."""
    priority_class: PriorityClass = PriorityClass.NORMAL
    """What is claimed; the game bounds it by the namespace's `max-priority`."""
    min_millicores: IntArray | None = None
    """`min-cpu`: lowers the floor. None: not declared, as below."""
    min_acceptable_millicores: IntArray | None = None
    """`min-acceptable-cpu`: less than this counts as a refusal."""
    replicas: int = 1
    """Each pod becomes so many, which share its request, its limit and its demand equally."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What a owner sees when it acts; arrays of shape (g, k) unless they say otherwise."""

    second: int
    """Since the game began."""
    round: int
    demand_millicores: FloatArray
    """Own demand in the round (the second) that begins."""
    coming_millicores: FloatArray
    """The largest own demand of the next 15 s, this second included."""
    need_millicores: FloatArray
    """The CPU that is worth most to it now: the peak of its expected payoff. On the core, where no
    need is asked for, its demand."""
    allocation_millicores: FloatArray
    """What it has: the ceiling in force on the core, the last round's allocation on needs."""
    throttled_ratio: FloatArray
    """Throttled share of the last second's periods; on needs, of the demand that was not met."""
    shortage: FloatArray
    """(g,) the node's public gauge, 0 to 1, after its last clearing."""
    shadow_price_normalized: FloatArray
    """(g,) as the shortage."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Use:
    """What the attacker's pods do with CPU in the second that begins; arrays of shape (g, k)."""

    burn_millicores: FloatArray
    """Worthless work on top of the demand. It runs only when nothing else of the pod is waiting."""
    withheld_ratio: FloatArray
    """Share of the second's demand that is given up unserved, 0 to 1."""


class Attacker(Protocol):
    """Acts for some pods of each node in many games at once."""

    name: str
    pods: int
    """How many of a node's pods it owns; they share its payoff."""

    def admit(self, honest: Admission) -> Admission:
        """Begins a new game; returns what is declared instead of the honest admission."""
        ...

    def report(self, seen: Seen) -> FloatArray:
        """Returns the needs it reports for the round that begins, (g, k), at least 0."""
        ...

    def use(self, seen: Seen) -> Use:
        """Returns what its pods do in the second that begins."""
        ...


class Truthful:
    """Declares what is so, reports its need, uses what it demands."""

    name = "truthful"

    def __init__(self, pods: int = 1) -> None:
        self.pods = pods

    def admit(self, honest: Admission) -> Admission:
        return honest

    def report(self, seen: Seen) -> FloatArray:
        return seen.need_millicores

    def use(self, seen: Seen) -> Use:
        return burn(np.zeros_like(seen.demand_millicores))


def burn(millicores: FloatArray) -> Use:
    """Returns a use that withholds nothing and burns what is above 0 of this."""
    return Use(
        burn_millicores=np.maximum(millicores, 0.0), withheld_ratio=np.zeros_like(millicores)
    )
