"""What every system that sets CPU looks like to the simulation: MBCAS, rivals, oracles.

A system is made for the declared pods of m nodes and is then asked, each `interval_periods`, what
it wants set. How and when that reaches the kernel is not its business: `Actuation` says which way
it goes, and the simulation takes the delays, refusals and budgets of that way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mbcas_core.units import BoolArray, FloatArray
from mbcas_loadtest.simulation.world import Declared, World


class Actuation(Enum):
    """The way from a system's wish to the kernel."""

    DIRECT = "direct"
    """Written to the cgroup in the next period, by an agent on the node."""
    API = "api"
    """A PATCH of pods/resize: spacing, delay, deferral, refusal and the resize budget."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Settings:
    """CPU settings of every container, (m, n) each."""

    request_millicores: FloatArray
    limit_millicores: FloatArray
    """inf where there is none."""
    burst_millicores: FloatArray
    """Unused quota that may be carried over, as millicores of one period; at most the limit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Seen:
    """What an agent on each node could have measured since the last step, oldest period first."""

    period: int
    """Periods since the start of the world, those of this step included."""
    usage_usec: FloatArray
    """(k, m, n) of each of the last k = `interval_periods` periods."""
    throttled: BoolArray
    """(k, m, n)."""
    throttled_usec: FloatArray
    """(k, m, n)."""
    timer_ran: BoolArray
    """(k, m, n): the periods that the kernel counts in nr_periods."""
    bursts: BoolArray
    """(k, m, n): the periods that the kernel counts in nr_bursts."""
    applied: Settings
    """In force at the end of the last period."""
    exists: BoolArray
    """(m, n)."""
    admitted_usec: FloatArray | None = None
    """(k, m, n) work that came in. This and the next are what applications export that measure
    themselves, nothing that an agent can see from outside; None: they do not. Only for systems that
    are built on such metrics (Tower)."""
    backlog_usec: FloatArray | None = None
    """(k, m, n) work that waits at the end of each period."""


class System(Protocol):
    """One system on m nodes of n containers."""

    interval_periods: int
    actuation: Actuation

    def step(self, seen: Seen) -> Settings | None:
        """Returns what it wants set now, or None for no change. An equal value is never sent."""
        ...


Make = Callable[[Declared, float], System]
"""Makes a system for these pods with this value of its one knob."""
MakeWithTruth = Callable[[World, float], System]
"""The same for one that knows the future: an oracle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """An entry of the catalog."""

    name: str
    """As in `--system`, lower case with hyphens."""
    make: Make | None = None
    make_with_truth: MakeWithTruth | None = None
    """Exactly one of the two."""
    knob: str = ""
    """What is swept, in the words of its source; empty: it has none."""
    default: float = 0.0
    sweep: tuple[float, ...] = ()
    """Values of the knob from cautious to tight, the default among them."""
    source: str = ""
    """Where its rule comes from: repository, file and version, or paper and section."""
    goods: int = 1
    """1: request = limit = its one number; 2: it sets them apart."""
