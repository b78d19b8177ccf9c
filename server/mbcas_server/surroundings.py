"""What the server adds to a shim's facts about containers: what only the cluster knows."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.events import CpuResources

UNKNOWN_REASON = "changed by MBCAS before, and the server does not remember from what"


class Remembered(NamedTuple):
    """What is known of what a container was admitted with."""

    admitted: CpuResources | None
    """Only the values that MBCAS has set since are of interest; None where they are not known."""
    skip_reason: str = ""
    """Why it is to be left alone, where they are not."""


class SetValues(NamedTuple):
    """Which values of a container's spec MBCAS has set."""

    request: bool
    limit: bool


class Surroundings(Protocol):
    """Answers from caches: nothing here waits."""

    def allocatable_millicores(self, node: str) -> int | None:
        """Returns what pods may have of a node's CPU; None where that is not known."""
        ...

    def annotations(self, given: pb.ContainerFacts) -> Mapping[str, str]:
        """Returns what counts for its pod: its own, and its namespace's where it says nothing."""
        ...

    def is_scaled(self, given: pb.ContainerFacts) -> bool:
        """Returns whether an autoscaler moves its owner by CPU use as a share of its requests."""
        ...

    def set_by_mbcas(self, node: str, given: pb.ContainerFacts, spec: CpuResources) -> SetValues:
        """Returns what MBCAS has set: as its shim says, or as is remembered."""
        ...

    def remember(self, node: str, given: pb.ContainerFacts, ours: SetValues) -> Remembered:
        """Returns what it was admitted with, before MBCAS set these values of its spec."""
        ...


class Alone:
    """Outside of Kubernetes: the shim knows everything."""

    def allocatable_millicores(self, node: str) -> int | None:
        del node
        return None

    def annotations(self, given: pb.ContainerFacts) -> Mapping[str, str]:
        return given.annotations

    def is_scaled(self, given: pb.ContainerFacts) -> bool:
        del given
        return False

    def set_by_mbcas(self, node: str, given: pb.ContainerFacts, spec: CpuResources) -> SetValues:
        del node, spec
        return SetValues(given.request_set_by_mbcas, given.limit_set_by_mbcas)

    def remember(self, node: str, given: pb.ContainerFacts, ours: SetValues) -> Remembered:
        del node, given, ours
        return Remembered(None, UNKNOWN_REASON)
