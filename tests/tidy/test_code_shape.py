"""Sizes and places of modules and functions."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.tidy import repository

MODULE_LINES_MAX = 500  # Aim at 300.
FUNCTION_LINES_MAX = 70  # Aim at 40.
FOLDERS_THAT_ARE_NO_PACKAGES = ("proto", "server", "shim", "loadtest", "deploy")
SILENCED = re.compile(r"#\s*(noqa(: [A-Z0-9, ]+)?|type: ignore(\[[^\]]*\])?)\s*$")
CORE_MAY_IMPORT = sys.stdlib_module_names | {"numpy", "mbcas_core"}


def test_no_module_is_longer_than_500_lines() -> None:
    lengths = {path: len(repository.read(path).splitlines()) for path in repository.sources()}

    too_long = [f"{path} has {n} lines" for path, n in lengths.items() if n > MODULE_LINES_MAX]

    assert not too_long, "\n".join(too_long)


def test_no_function_is_longer_than_70_lines() -> None:
    too_long = [
        f"{path}:{function.lineno}: {function.name} has {_line_count(function)} lines"
        for path in repository.sources()
        for function in _functions(path)
        if _line_count(function) > FUNCTION_LINES_MAX
    ]

    assert not too_long, "\n".join(too_long)


def test_every_init_module_is_a_docstring_and_nothing_else() -> None:
    inits = [path for path in repository.sources() if path.name == "__init__.py"]

    with_code = [
        str(path)
        for path in inits
        if [type(node) for node in ast.parse(repository.read(path)).body] != [ast.Expr]
    ]

    assert inits
    assert not with_code


def test_folders_of_components_are_no_packages() -> None:
    inits = [path for path in repository.files(".py") if path.name == "__init__.py"]

    wrong = [
        str(path)
        for path in inits
        if str(path.parent) in FOLDERS_THAT_ARE_NO_PACKAGES or path.parts[0] == "proto"
    ]

    assert not wrong


def test_the_core_imports_numpy_and_the_standard_library_and_nothing_else() -> None:
    foreign = [
        f"{path}: {name}"
        for path in repository.sources()
        if path.parts[0] == "mbcas_core"
        for name in _imported_packages(path)
        if name not in CORE_MAY_IMPORT
    ]

    assert not foreign


def test_a_silenced_check_has_its_reason_beside_it_or_above_it() -> None:
    without_reason = []
    for path in repository.sources():
        has_reason_above = False
        for number, line in enumerate(repository.read(path).splitlines(), start=1):
            is_silenced = SILENCED.search(line) is not None
            if is_silenced and not has_reason_above:
                without_reason.append(f"{path}:{number}: {line.strip()}")
            # One reason serves a run of lines.
            has_reason_above = line.lstrip().startswith("#") or (is_silenced and has_reason_above)

    assert not without_reason, "\n".join(without_reason)


def test_nothing_is_raised_while_a_group_is_handled() -> None:
    """Python before 3.11.4 makes a group of what is raised in `except*`: no caller expects it."""
    raising = [
        f"{path}:{inner.lineno}"
        for path in repository.sources()
        for node in ast.walk(ast.parse(repository.read(path)))
        if isinstance(node, ast.TryStar)
        for handler in node.handlers
        for inner in ast.walk(handler)
        if isinstance(inner, ast.Raise)
    ]

    assert not raising


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(repository.read(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _line_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None, "parsed from text"
    return function.end_lineno - function.lineno + 1


def _imported_packages(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(repository.read(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names
