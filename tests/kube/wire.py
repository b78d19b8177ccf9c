"""What goes over the wire."""

from typing import Any, TypeAlias

Json: TypeAlias = Any
"""What json.loads returns."""
