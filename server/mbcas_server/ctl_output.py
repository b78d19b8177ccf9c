"""How `mbcasctl` prints: for people, or for programs."""

import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

PIPE_COLUMNS = 160


class Output(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[
    Output, typer.Option("-o", "--output", help="A table for people, JSON or YAML for programs.")
]


def print_plain(content: dict[str, Any], output: Output) -> None:
    """Prints for programs."""
    if output is Output.YAML:
        sys.stdout.write(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    else:
        sys.stdout.write(json.dumps(content, indent=2) + "\n")


def print_stream(content: dict[str, Any], output: Output) -> None:
    """Prints one of many: a line of JSON, a document of YAML."""
    if output is Output.YAML:
        sys.stdout.write("---\n")
        print_plain(content, output)
    else:
        sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def console() -> Console:
    """Returns where tables go."""
    # Into a pipe, a line is as long as it needs to be.
    return Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False)


def note(words: str) -> None:
    """Tells people what is going on, apart from the answer."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()
