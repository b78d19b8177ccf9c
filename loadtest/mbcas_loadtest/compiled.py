"""Compiles inner loops, which numpy would need many passes for."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function of arrays and numbers run as machine code: compiled when it is first called.

    What was compiled is kept beside the source, and made anew when that file changes; so whatever
    such a function calls must be in its own file.
    """
    return cast("Callable[P, R]", numba.njit(cache=True, error_model="numpy")(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """The same for what is called so often that the call itself would count: it takes its place."""
    return cast("Callable[P, R]", numba.njit(inline="always", error_model="numpy")(function))
