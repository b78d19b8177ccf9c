"""Writes constraints.txt: the newest versions that fit pyproject.toml, direct and transitive.

One set of pins serves every supported Python: pip resolves under this interpreter, then each pin
must have a wheel for every supported version.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
SUPPORTED_PYTHONS = ("3.11", "3.12", "3.13", "3.14")
BUILD_REQUIREMENTS = ("hatchling", "editables")
"""What pip installs into the temporary environment where it builds mbcas."""
HEADER = """\
# Exact versions of everything mbcas uses, builds and is tested with. Written by `make lock`.
# After a new version of grpcio-tools or protobuf: `make proto`, and raise the floors of grpcio and
# protobuf in pyproject.toml, because the generated code asks for at least the generator's versions.
"""


def main() -> int:
    """Writes the file; leaves the old one where pip fails."""
    pins = _resolve()
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "pins.txt"
        draft.write_text("\n".join(pins) + "\n")
        for version in SUPPORTED_PYTHONS:
            _pip(
                *("--no-deps", "--target", folder, "--requirement", str(draft)),
                *("--python-version", version),
            )
            print(f"Python {version}: every pin has a wheel", file=sys.stderr)
    CONSTRAINTS.write_text(HEADER + "\n".join(pins) + "\n")
    return 0


def _resolve() -> list[str]:
    report = json.loads(_pip("--report", "-", ".[dev]", *BUILD_REQUIREMENTS))
    found = {
        re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item["metadata"]["version"]
        for item in report["install"]
        if not item["is_direct"]
    }
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--quiet", *arguments]
    return subprocess.run(
        command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
