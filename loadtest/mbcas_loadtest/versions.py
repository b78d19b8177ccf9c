"""Which code a run depends on: a hash of its modules and of all of ours that these import.

So a change of one system makes only that system's runs anew, a change of the plant all of them.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import mbcas_core
import mbcas_loadtest

_ROOTS = {package.__name__: Path(package.__path__[0]) for package in (mbcas_core, mbcas_loadtest)}


def code_version(modules: Iterable[str]) -> str:
    """Returns the hash of the sources of these modules and of what they import, however far."""
    digest = hashlib.sha256()
    for name in sorted(_reachable(frozenset(modules))):
        path = _source(name)
        assert path is not None, "only modules with a source are reached"
        digest.update(f"{name}\0".encode() + _content(path) + b"\0")
    return digest.hexdigest()


@functools.cache
def _reachable(modules: frozenset[str]) -> frozenset[str]:
    found: set[str] = set()
    waiting = set(modules)
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in found or path is None:
            continue
        found.add(name)
        waiting |= set(_imported(path))
    return frozenset(found)


@functools.cache
def _content(path: Path) -> bytes:
    return path.read_bytes()


@functools.cache
def _imported(path: Path) -> tuple[str, ...]:
    return tuple(_imports(ast.parse(_content(path))))


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yields what is imported; of `from a import b` both a and a.b, for b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def _source(name: str) -> Path | None:
    """Returns the file of one of our modules; None for others', and for what is no module."""
    root, *inner = name.split(".")
    if root not in _ROOTS:
        return None
    place = _ROOTS[root].joinpath(*inner)
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if inner and path.is_file():
            return path
    return None
