"""Reads a YAML file and remembers on which line everything stands.

Numbers are read as JSON writes them, and words stay words: YAML's 1:30 (ninety), 010 (eight) and
`no` (false) would be units and names that nobody meant. Aliases are refused, so a small file
cannot unfold into a large one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

FILE_BYTES_MAX = 1 << 20
DEPTH_MAX = 20
NUMBER_CHARACTERS_MAX = 40
"""More than any number that is allowed anywhere; Python turns down thousands of digits."""
_NUMBER = re.compile(r"[-+]?\d+(?P<float>(\.\d+)?([eE][-+]?\d+)?)", re.ASCII)
_WORDS = {
    "true": True,
    "false": False,
    "null": None,
    "~": None,
    ".nan": float("nan"),
    ".inf": float("inf"),
    "-.inf": float("-inf"),
}

Place = tuple[str | int, ...]
Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


class ScenarioFileError(Exception):
    """A scenario file cannot be used; each line names file, line and field, and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a file holds."""

    path: Path
    content: Plain
    lines: dict[Place, int]
    """Of every value by its path; that of a field is the line of its name."""

    def locate(self, where: Sequence[str | int]) -> tuple[int, str]:
        """Returns line and written path of the innermost value on the way to `where`.

        Steps that are not in the file, such as names of variants, are left out.
        """
        found: Place = ()
        for step in where:
            if (*found, step) in self.lines:
                found = (*found, step)
        text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in found)
        return self.lines.get(found, 1), text.removeprefix(".")


def read_document(path: Path) -> Document:
    """Reads one document.

    Raises:
        ScenarioFileError: The file cannot be read, or is no YAML as described above.
    """
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ScenarioFileError(f"{path}: cannot be read: {error.strerror}") from error
    if len(text) > FILE_BYTES_MAX:
        raise ScenarioFileError(f"{path}: has more than {FILE_BYTES_MAX} bytes")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ScenarioFileError(f"{path}:{line}: is not YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = _line_of(error, text)
        raise ScenarioFileError(f"{path}:{line}: is not YAML: {error.reason}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ScenarioFileError(f"{path}:1: is not YAML: {error}") from error
    if root is None:
        raise ScenarioFileError(f"{path}:1: is empty")
    reading = _Reading(path)
    return Document(path=path, content=reading.read(root, ()), lines=reading.lines)


def _line_of(error: yaml.reader.ReaderError, text: bytes) -> int:
    """Returns where it is: positions count characters where there are any, otherwise bytes."""
    if error.encoding == "unicode":
        return text.decode(errors="replace")[: error.position].count("\n") + 1
    return text[: error.position].count(b"\n") + 1


class _Reading:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: set[int] = set()
        self.lines: dict[Place, int] = {}

    def read(self, node: yaml.Node, where: Place) -> Plain:
        self.lines.setdefault(where, node.start_mark.line + 1)
        if id(node) in self._seen:
            raise self._error(node, where, "is an alias: write it out")
        self._seen.add(id(node))
        if len(where) > DEPTH_MAX:
            raise self._error(node, where, f"is nested deeper than {DEPTH_MAX} levels")
        match node:
            case yaml.MappingNode():
                return self._mapping(node, where)
            case yaml.SequenceNode():
                return [self.read(one, (*where, i)) for i, one in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node, where)
            case _:
                raise self._error(node, where, "is of an unknown kind")

    def _mapping(self, node: yaml.MappingNode, where: Place) -> dict[str, Plain]:
        content: dict[str, Plain] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, where, "has a name that is a list or a mapping")
            if key.value in content:
                raise self._error(key, (*where, key.value), "is there twice")
            self.lines[(*where, key.value)] = key.start_mark.line + 1
            content[key.value] = self.read(value, (*where, key.value))
        return content

    def _error(self, node: yaml.Node, where: Place, what: str) -> ScenarioFileError:
        field = ".".join(map(str, where)) or "the file"
        return ScenarioFileError(f"{self._path}:{node.start_mark.line + 1}: {field}: {what}")

    def _scalar(self, node: yaml.ScalarNode, where: Place) -> Plain:
        text: str = node.value
        if node.style in {"'", '"', "|", ">"}:
            return text
        if text in _WORDS or not text:
            return _WORDS.get(text)
        number = _NUMBER.fullmatch(text)
        if number is None:
            return text
        if len(text) > NUMBER_CHARACTERS_MAX:
            what = f"has {len(text)} digits, {NUMBER_CHARACTERS_MAX} at most"
            raise self._error(node, where, what)
        return float(text) if number["float"] else int(text)
