"""What the tidy tests read: the files of this repository and the names its commands may use."""

import functools
import os
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
    listed = _listed_by_git() if (ROOT / ".git").exists() else _found_in_folders()
    return tuple(sorted(p for p in listed if p.name.endswith(suffix) and (ROOT / p).is_file()))


def _listed_by_git() -> set[Path]:
    # In some containers the folder belongs to another user, which git takes for an attack.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return {Path(name) for name in done.stdout.split("\0") if name}


def _found_in_folders() -> set[Path]:
    """Finds the files of an unpacked archive."""
    ignored = {line.strip("/ ") for line in read(Path(".gitignore")).splitlines()}
    found: set[Path] = set()
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if name not in ignored]
        found |= {Path(folder, name).relative_to(ROOT) for name in names if name not in ignored}
    return found


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
