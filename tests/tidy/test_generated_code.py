"""The code beside the protos is what they say, and the core's numbers are those of the wire."""

import os
import shlex
import subprocess
import sys
from enum import IntEnum
from pathlib import Path

import pytest
from google.protobuf.descriptor import EnumDescriptor

from mbcas.v1 import market_pb2, node_link_pb2
from mbcas_core import effects, events
from tests.tidy import repository

ENUMS: list[tuple[type[IntEnum], EnumDescriptor]] = [
    (events.Mode, market_pb2.Mode.DESCRIPTOR),
    (events.Policy, market_pb2.Policy.DESCRIPTOR),
    (events.PriorityClass, market_pb2.PriorityClass.DESCRIPTOR),
    (events.Enforcement, node_link_pb2.Enforcement.DESCRIPTOR),
    (events.Outcome, node_link_pb2.Outcome.DESCRIPTOR),
    (effects.Lane, node_link_pb2.Lane.DESCRIPTOR),
    (effects.Reason, market_pb2.Reason.DESCRIPTOR),
]


def test_generated_code_is_what_the_protos_give(tmp_path: Path) -> None:
    committed = {
        path: (repository.ROOT / path).read_bytes()
        for path in repository.files()
        if repository.GENERATED.search(path.name)
    }

    _generate(tmp_path)

    made = {
        Path("proto") / path.relative_to(tmp_path): path.read_bytes()
        for path in tmp_path.rglob("*.py*")
    }
    stale = {str(path) for path in made.keys() | committed if made.get(path) != committed.get(path)}
    assert made
    assert not stale, "run `make proto`"


@pytest.mark.parametrize(("core", "wire"), ENUMS, ids=lambda value: getattr(value, "name", ""))
def test_an_enum_of_the_core_has_the_names_and_numbers_of_the_wire(
    core: type[IntEnum], wire: EnumDescriptor
) -> None:
    in_core = {f"{_screaming(core.__name__)}_{member.name}": int(member) for member in core}

    on_the_wire = {value.name: value.number for value in wire.values}

    assert {f"{_screaming(core.__name__)}_UNSPECIFIED": 0, **in_core} == on_the_wire


def _generate(folder: Path) -> None:
    """Runs the command of `make proto` with another place for what it writes."""
    task = repository.project()["tool"]["poe"]["tasks"]["proto"]["shell"]
    command = [
        word.replace("_out=proto", f"_out={folder}").replace(":proto", f":{folder}")
        for word in shlex.split(task.replace("\\\n", ""))
        if not word.endswith("*.proto")
    ]
    protos = [str(path) for path in repository.files(".proto")]
    # The plugins of mypy-protobuf are programs beside the interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    subprocess.run(
        [sys.executable, *command[1:], *protos],
        cwd=repository.ROOT,
        env=os.environ | {"PATH": path},
        check=True,
    )


def _screaming(name: str) -> str:
    """Turns CamelCase into CAMEL_CASE."""
    return "".join(f"_{c}" if c.isupper() else c.upper() for c in name).lstrip("_")
