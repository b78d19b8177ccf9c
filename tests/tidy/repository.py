"""What the tidy tests read: the files of this repository and the names its commands may use."""

import functools
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
BINARY_SUFFIXES = frozenset({".png", ".jpg", ".gz", ".pickle", ".npz"})


@functools.cache
def files(suffix: str = "") -> tuple[Path, ...]:
    """Lists what is under version control or about to be, relative to the root, sorted."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    # Dubious ownership of the folder, as in some containers, is no reason to fail.
    safe = ["git", "-c", f"safe.directory={ROOT}", *command[1:]]
    listed = subprocess.run(safe, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = {Path(name) for name in listed.split("\0") if name}
    return tuple(sorted(p for p in paths if p.suffix.endswith(suffix) and (ROOT / p).is_file()))


def sources() -> tuple[Path, ...]:
    """Lists the Python modules that people write."""
    return tuple(path for path in files(".py") if not GENERATED.search(path.name))


def texts() -> tuple[Path, ...]:
    """Lists the text files that people write."""
    return tuple(
        path
        for path in files()
        if path.suffix not in BINARY_SUFFIXES and not GENERATED.search(path.name)
    )


def read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    """Parses pyproject.toml."""
    return tomllib.loads(read(Path("pyproject.toml")))


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):", read(Path("Makefile")), re.MULTILINE))


def lines_matching(pattern: re.Pattern[str], paths: tuple[Path, ...]) -> list[str]:
    """Lists the lines in which the pattern occurs as ``path:line: text``."""
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path in paths
        for number, line in enumerate(read(path).splitlines(), start=1)
        if pattern.search(line)
    ]
