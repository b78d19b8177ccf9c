"""Reads JSON objects of the API server, whose every field may be missing or of another type."""

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from mbcas_shim.errors import ShimError
from mbcas_shim.kube.quantities import parse_quantity
from mbcas_shim.quantity import MAX_MILLICORES

MAX_ENTRIES = 1000  # Of one list; a pod's longest lists have a few dozen.
MAX_COUNT = 1 << 62
NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,251}[A-Za-z0-9])?", re.ASCII)
"""A name, a uid or an id: it may become a part of a path."""


class MalformedError(ShimError):
    """A field that is not what the API says."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"{field or 'the object'}: {problem}")


class Fields:
    """The fields of one object; what is absent or null is empty."""

    __slots__ = ("_object", "path")

    def __init__(self, value: object, path: str = "") -> None:
        self.path = path
        self._object: dict[str, Any] = {}
        if isinstance(value, dict):
            self._object = value
        elif value is not None:
            raise MalformedError(path, f"is no object but a {type(value).__name__}")

    def __contains__(self, name: str) -> bool:
        return self._object.get(name) is not None

    def object(self, *names: str) -> "Fields":
        """An object within objects."""
        found = self
        for name in names:
            found = Fields(found._object.get(name), found._path_of(name))
        return found

    def objects(self, name: str) -> Iterator["Fields"]:
        """A list of objects.

        Raises:
            MalformedError: It is no list, or longer than any.
        """
        value = self._object.get(name)
        path = self._path_of(name)
        if value is None:
            return
        if not isinstance(value, list) or len(value) > MAX_ENTRIES:
            raise MalformedError(path, f"is no list of at most {MAX_ENTRIES} objects")
        for index, item in enumerate(value):
            yield Fields(item, f"{path}[{index}]")

    def text(self, name: str, *, at_most: int = 253) -> str:
        """Printable text of so many bytes; empty where there is none."""
        value = self._object.get(name)
        if value is None:
            return ""
        if not isinstance(value, str) or not value.isprintable():
            raise MalformedError(self._path_of(name), "is no printable text")
        if len(value.encode(errors="replace")) > at_most:
            raise MalformedError(self._path_of(name), f"is longer than {at_most} bytes")
        return value

    def name(self, name: str) -> str:
        """Text that may become a part of a path, and must be there."""
        value = self.text(name)
        if not NAME.fullmatch(value):
            raise MalformedError(self._path_of(name), f"{value!r} is no name")
        return value

    def words(self, name: str, *, at_most: int) -> str:
        """Words for people, cut and made printable instead of refused."""
        value = self._object.get(name)
        if not isinstance(value, str):
            return ""
        return "".join(c if c.isprintable() else " " for c in value[:at_most])

    def texts(self) -> Iterator[tuple[str, str]]:
        """The object's own entries, those that are text."""
        for key, value in self._object.items():
            if isinstance(value, str):
                yield key, value

    def count(self, name: str) -> int:
        """A whole number that counts something; 0 where there is none."""
        value = self._object.get(name)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
            raise MalformedError(self._path_of(name), "is no count")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._object.get(name)
        return value if isinstance(value, bool) else default

    def cpu_millicores(self) -> int | None:
        """The entry `cpu` of a list of resources, rounded up; None where there is none."""
        quantity = self.quantity("cpu")
        if quantity is None:
            return None
        # As Kubernetes does it: what is finer than 1m counts as 1m.
        millicores = math.ceil(quantity * 1000)
        if not 0 <= millicores <= MAX_MILLICORES:
            raise MalformedError(self._path_of("cpu"), f"{millicores}m is out of range")
        return millicores

    def is_cpu_beyond_telling(self) -> bool:
        """True where the entry `cpu` is above all that can be told, which no node has."""
        return (self.quantity("cpu") or 0) * 1000 > MAX_MILLICORES

    def quantity(self, name: str) -> Fraction | None:
        """A quantity, exactly; None where there is none."""
        value = self._object.get(name)
        if value is None:
            return None
        try:
            return parse_quantity(value)
        except ValueError as error:
            raise MalformedError(self._path_of(name), str(error)) from error

    def _path_of(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name
