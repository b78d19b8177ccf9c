"""Values are closed, and every setting of both daemons can be given or is set by the chart."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy import chart

FREE = {"global", "affinity"}
"""Objects that are others' to check: Helm's own, and a part of a pod's spec."""


def test_every_object_in_the_values_is_closed() -> None:
    open_ones = [
        path
        for path, schema in _objects(chart.values_schema(), "values")
        if schema.get("additionalProperties") in (None, True) and path.split("/")[-1] not in FREE
    ]

    assert not open_ones


def test_every_block_of_values_has_a_comment() -> None:
    lines = (chart.CHART / "values.yaml").read_text().splitlines()
    tops = [number for number, line in enumerate(lines) if line[:1].isalpha()]

    bare = [
        lines[start]
        for start, end in zip(tops, [*tops[1:], len(lines)], strict=True)
        if not any("#" in line for line in lines[max(start - 1, 0) : end])
    ]

    assert not bare


@pytest.mark.parametrize("component", sorted(chart.SETTINGS))
def test_settings_in_the_schema_are_those_of_the_daemon(component: str) -> None:
    schema = chart.values_schema()
    expected = chart.settings_schema(component)
    if chart.is_to_be_written():
        schema["$defs"][f"{component}Settings"] = expected
        text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        (chart.CHART / "values.schema.json").write_text(text)

    found = schema["$defs"][f"{component}Settings"]
    assert found == expected, "MBCAS_GOLDEN=write writes the schema of settings anew"


@pytest.mark.parametrize("component", sorted(chart.SETTINGS))
def test_what_the_chart_keeps_to_itself_is_a_setting(component: str) -> None:
    assert chart.CHART_SETS[component] <= chart.SETTINGS[component].model_fields.keys()


def test_no_value_that_is_not_in_values_yaml_is_in_the_schema() -> None:
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    schema = chart.values_schema()

    missing = sorted(_named(schema, schema) - _given(values, ""))

    assert [name for name in missing if name != "global"] == []


def _objects(schema: object, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields every schema of an object, at any depth."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, inner in schema.items():
            yield from _objects(inner, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, inner in enumerate(schema):
            yield from _objects(inner, f"{path}/{number}")


def _named(schema: dict[str, Any], root: dict[str, Any], path: str = "") -> set[str]:
    names = set()
    for name, inner in schema.get("properties", {}).items():
        names.add(path + name)
        if "$ref" not in inner:
            names |= _named(inner, root, f"{path}{name}.")
    return names


def _given(values: object, path: str) -> set[str]:
    if not isinstance(values, dict):
        return set()
    return {path + name for name in values}.union(
        *(_given(inner, f"{path}{name}.") for name, inner in values.items())
    )
