"""Compiles inner loops, which numpy would need many passes for."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba

from mbcas_loadtest.versions import code_version

P = ParamSpec("P")
R = TypeVar("R")

_SETTINGS: Any = numba.config  # Its names are made as it is imported.
_VERSIONS_MAX = 4
"""Of a module's machine code are kept."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function of arrays and numbers run as machine code: compiled when it is first called.

    What was compiled is kept beside the source, and made anew when its module changes or one that
    this imports: their constants are part of it.
    """
    _SETTINGS.CACHE_DIR = str(_folder(function.__module__, Path(function.__code__.co_filename)))
    try:
        return cast("Callable[P, R]", numba.njit(cache=True, error_model="numpy")(function))
    finally:
        _SETTINGS.CACHE_DIR = ""


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """The same for what is called so often that the call itself would count: it takes its place."""
    return cast("Callable[P, R]", numba.njit(inline="always", error_model="numpy")(function))


@functools.cache
def _folder(module: str, source: Path) -> Path:
    """Returns where this version's machine code is kept; the oldest others go."""
    own = source.parent / "__pycache__" / f"{source.stem}-{code_version((module,))[:16]}"
    others = (path for path in own.parent.glob(f"{source.stem}-*") if path.is_dir() and path != own)
    oldest_last = sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in oldest_last[_VERSIONS_MAX - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
    return own
