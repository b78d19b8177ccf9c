"""What of the cluster decides how a node's containers are seen, beyond what its shim can know."""

from collections.abc import Mapping
from typing import Protocol


class ClusterFacts(Protocol):
    """Namespaces, nodes and autoscalers, from caches: nothing here waits."""

    def namespace_annotations(self, namespace: str) -> Mapping[str, str]:
        """Returns what a namespace says under `mbcas.io/`, keys without that prefix."""
        ...

    def allocatable_millicores(self, node: str) -> int | None:
        """Returns what pods may have of a node's CPU; None where the node is not known."""
        ...

    def is_scaled(self, namespace: str, owner: str) -> bool:
        """Returns whether an autoscaler moves an owner by CPU use as a share of its requests.

        Args:
            namespace: Where both are.
            owner: As a container's facts have it: "Deployment/web/app".
        """
        ...
