"""What is drawn of a container over time."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSeries:
    """One container over time, an entry in each list for each reading."""

    name: str
    usage_millicores: list[float] = field(default_factory=list)
    reservation_millicores: list[float] = field(default_factory=list)
    ceiling_millicores: list[float] = field(default_factory=list)
    throttled_ratio: list[float] = field(default_factory=list)
    """Throttled periods over periods of wall time, in the second before."""
