r"""Who was the last to set a container's request or limit, as a pod's managedFields tell.

The API server keeps, per writer and subresource, the set of fields that it was the last to change.
An entry of manager "mbcas" and subresource "resize" with

    {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:resources": {
        "f:limits": {"f:cpu": {}}}}}}}

says that MBCAS set the limit of c. Whoever changes the value takes the field over; writing the same
value takes nothing.
"""

from collections.abc import Iterable

from mbcas_shim.kube.untrusted import Fields

MANAGER = "mbcas"
"""The name under which MBCAS patches."""
_SUBRESOURCE = "resize"


class SetByMbcas:
    """Which values of a pod's spec MBCAS was the last to set."""

    def __init__(self, managed_fields: Iterable[Fields]) -> None:
        self._specs = [
            entry.object("fieldsV1", "f:spec")
            for entry in managed_fields
            if entry.text("manager") == MANAGER and entry.text("subresource") == _SUBRESOURCE
        ]

    def has(self, list_name: str, container: str, kind: str) -> bool:
        """Says whether it set the CPU of one kind, "requests" or "limits", of a container."""
        steps = (f"f:{list_name}", f'k:{{"name":"{container}"}}', "f:resources", f"f:{kind}")
        return any("f:cpu" in spec.object(*steps) for spec in self._specs)
