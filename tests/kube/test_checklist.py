"""Holds checklist.yaml to the tests that there are."""

import ast
from functools import cache
from typing import Any

import pytest
import yaml

from tests.kube.contract import CASES
from tests.tidy import repository

Row = dict[str, Any]
Tests = dict[str, list[str]]
CHECKLIST = repository.ROOT / "tests" / "kube" / "checklist.yaml"
ROWS: list[Row] = yaml.safe_load(CHECKLIST.read_text(encoding="utf-8"))
CONTRACT = "contract"


@cache
def names_in(place: str) -> frozenset[str]:
    """Returns the names of a file's tests, or of the contract's cases."""
    if place == CONTRACT:
        return frozenset(case.__name__ for case in CASES)
    path = repository.ROOT / place
    if not path.is_file():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, functions))


def missing(tests: Tests) -> list[str]:
    return [
        f"{place}::{name}"
        for place, names in tests.items()
        for name in names
        if name not in names_in(place)
    ]


def test_the_rows_are_those_of_the_design() -> None:
    assert [row["row"] for row in ROWS] == list(range(1, 69))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"row-{row['row']}")
def test_a_row_is_shown_by_tests_that_there_are(row: Row) -> None:
    assert row["seen"], row["says"]
    assert missing(row["seen"]) == []
    assert missing(row.get("done", {})) == []


def test_what_mbcas_must_do_is_shown_row_by_row() -> None:
    assert [row["row"] for row in ROWS if row.get("must") and not row.get("done")] == []
