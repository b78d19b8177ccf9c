"""constraints.txt pins what pyproject.toml asks for."""

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.tidy import repository


def test_every_requirement_is_pinned_to_a_version_that_it_allows() -> None:
    pins = _pins()

    broken = [
        str(requirement)
        for requirement in _requirements()
        if not requirement.specifier.contains(
            pins.get(canonicalize_name(requirement.name), Version("0.dev0"))
        )
    ]

    assert not broken, "run `make lock`"


def test_pins_are_sorted_exact_versions_and_nothing_else() -> None:
    lines = [line for line in _constraint_lines() if not line.startswith("#")]

    odd = [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)]

    assert not odd
    assert lines == sorted(lines, key=lambda line: line.split("==")[0])


def test_the_generated_code_runs_on_the_least_versions_that_are_allowed() -> None:
    floors = {requirement.name: requirement.specifier for requirement in _requirements()}
    grpc_stub = repository.read(Path("proto/mbcas/v1/market_pb2_grpc.py"))
    generated_by = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", grpc_stub)

    assert generated_by is not None
    assert str(floors["grpcio"]) == f">={generated_by.group(1)}"


def _requirements() -> list[Requirement]:
    project = repository.project()["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(text for extra in extras for text in extra)]
    return [r for r in map(Requirement, asked) if r.name != project["name"]]


def _pins() -> dict[str, Version]:
    pairs = [line.split("==") for line in _constraint_lines() if not line.startswith("#")]
    return {name: Version(version) for name, version in pairs}


def _constraint_lines() -> list[str]:
    return repository.read(Path("constraints.txt")).splitlines()
