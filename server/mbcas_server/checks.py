"""Collects what is wrong with a message from outside, field by field."""

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.errors import FieldError, InvalidInputError
from mbcas_core.events import CpuResources
from mbcas_core.units import MAX_MILLICORES

ENTRIES_MAX = 10_000  # Containers, removals, results, samples of one report.
ERRORS_MAX = 20  # Named in one refusal; the rest would only repeat them.
HANDLE_MAX = 1_000_000
COUNT_MAX = 1 << 62


class Check:
    """Collects what is wrong with a message."""

    __slots__ = ("_errors",)

    def __init__(self) -> None:
        self._errors: list[FieldError] = []

    def refuse(self, field: str, reason: str) -> None:
        if len(self._errors) < ERRORS_MAX:
            self._errors.append(FieldError(field, reason))

    def text(self, field: str, value: str, low: int, high: int) -> None:
        size = len(value) if value.isascii() else len(value.encode())
        if not low <= size <= high:
            self.refuse(field, f"has {size} bytes, must have {low} to {high}")
        elif not value.isprintable():
            self.refuse(field, "has characters that cannot be printed")

    def number(self, field: str, value: int, low: int, high: int) -> None:
        if not low <= value <= high:
            self.refuse(field, f"is {value}, must be from {low} to {high}")

    def entries(self, field: str, count: int) -> None:
        if count > ENTRIES_MAX:
            self.refuse(field, f"has {count} entries, must have at most {ENTRIES_MAX}")

    def done(self) -> None:
        if self._errors:
            raise InvalidInputError(self._errors)


def parse_resources(given: pb.CpuResources, field: str, check: Check) -> CpuResources:
    """Reads one pair of numbers."""
    request = given.request_millicores if given.HasField("request_millicores") else None
    limit = given.limit_millicores if given.HasField("limit_millicores") else None
    if request is not None:
        check.number(f"{field}.request_millicores", request, 0, MAX_MILLICORES)
    if limit is not None:
        check.number(f"{field}.limit_millicores", limit, 1, MAX_MILLICORES)
    return CpuResources(request_millicores=request, limit_millicores=limit)
