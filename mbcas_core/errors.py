"""Errors of the core. Each carries what was found and what was allowed."""


class MbcasError(Exception):
    """Root of all errors that the core raises for bad input."""


class FieldError(MbcasError):
    """One field of an input is unusable.

    Attributes:
        field: The field's path, such as ``bids[3].weight``.
        reason: What was found and what is allowed.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class InvalidInputError(MbcasError):
    """An input has one or more unusable fields.

    Attributes:
        errors: One FieldError for each.
    """

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = errors


class FloorsExceedCapacityError(MbcasError):
    """The floors, each counted up to its need, do not fit the capacity."""

    def __init__(self, *, floor_millicores: int, capacity_millicores: int) -> None:
        super().__init__(f"floors need {floor_millicores}m, the capacity is {capacity_millicores}m")
        self.floor_millicores = floor_millicores
        self.capacity_millicores = capacity_millicores


class UnknownNodeError(MbcasError):
    """No shim of a node of this name has reported."""

    def __init__(self, node: str) -> None:
        super().__init__(f"no shim of a node named {node!r} has reported")
        self.node = node


class UnknownPodError(MbcasError):
    """No shim reported a pod of this name."""

    def __init__(self, namespace: str, pod: str) -> None:
        super().__init__(f"no shim has reported a pod named {namespace}/{pod}")
        self.namespace = namespace
        self.pod = pod
