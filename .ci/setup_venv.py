"""Makes .venv hold one extra of mbcas at the versions of constraints.txt: setup_venv.py EXTRA.

Runs under any Python from 3.11 on, with the standard library only. Does nothing where .venv already
has what is asked for: a stamp in it holds a hash of pyproject.toml and constraints.txt.
"""

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".mbcas-installed"
INCLUDED = {"loadtest": ("loadtest", "dev"), "dev": ("dev",)}
"""For each extra that may be asked for: the extras that have all of it."""
SHOWN_LINES = 25  # Of pip's output, when it fails.


def main() -> int:
    """Installs the extra that the first argument names; returns the exit status."""
    (extra,) = sys.argv[1:]
    # One at a time, whatever `make -j` or a second terminal does. The lock goes with the process.
    lock = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if _is_installed(extra):
        return 0
    return _make_venv() or _install(extra)


def _key() -> str:
    """Changes when what is to be installed changes, or when the clone is moved."""
    digest = hashlib.sha256(str(ROOT).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _is_installed(extra: str) -> bool:
    stamps = [f"{_key()} {having}" for having in INCLUDED[extra]]
    return STAMP.is_file() and STAMP.read_text() in stamps and _runs("import sys")


def _runs(code: str) -> bool:
    """Says whether .venv has a Python of a usable version that can run this."""
    check = f"import sys; assert sys.version_info >= (3, 11); assert sys.prefix == {str(VENV)!r}"
    python = VENV / "bin" / "python"
    if not python.exists():
        return False
    command = [str(python), "-c", f"{check}; {code}"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _make_venv() -> int:
    # Scripts name their interpreter: those of a clone that was moved name one that is not there.
    script = VENV / "bin" / "pip"
    if script.is_file() and str(VENV) in script.read_text() and _runs("import pip"):
        return 0
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return _fail(
            f"{sys.executable} cannot make virtual environments: install the package "
            f"python{version}-venv, or name another interpreter with PYTHON=/path/to/python3"
        )
    _say(f"making .venv with Python {sys.version.split()[0]} ...")
    base = getattr(sys, "_base_executable", None) or sys.executable
    command = [base, "-m", "venv", "--clear", str(VENV)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return _fail(f"no .venv:\n{done.stdout}{done.stderr}") if done.returncode else 0


def _install(extra: str) -> int:
    STAMP.unlink(missing_ok=True)
    _say(f"installing mbcas[{extra}] into .venv (a minute or two, the first time) ...")
    # Relative, because pip splits the variable at blanks. The second one is for the build backend
    # (pip from 25.3 on; older ones take the first for it, and do not know the second).
    pins = {"PIP_CONSTRAINT": "constraints.txt", "PIP_BUILD_CONSTRAINT": "constraints.txt"}
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--editable", f".[{extra}]"]
    tail: deque[str] = deque(maxlen=SHOWN_LINES)
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | pins,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as pip:
        assert pip.stdout is not None
        _show(pip.stdout, tail)
    if pip.returncode:
        return _fail("".join(tail) + "pip could not install mbcas (does it reach its index?)")
    STAMP.write_text(f"{_key()} {extra}")
    return 0


def _show(lines: Iterable[str], tail: deque[str]) -> None:
    """Keeps the last lines and, on a terminal, shows how far pip is."""
    count = 0
    for line in lines:
        tail.append(line)
        count += line.startswith("Collecting ")
        if sys.stderr.isatty():
            step = "installing" if line.startswith("Installing") else f"{count} packages found"
            print(f"\r  {step:<30}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(text: str) -> int:
    _say(f"make: {text}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
