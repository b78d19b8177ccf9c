"""The images of MBCAS, built from its own Containerfiles without a container engine or a registry.

The base is made of Debian packages, Python's packages are fetched outside, and the builder sees
neither a registry nor an index. What was built is kept under a hash of what it was built from:
a run in which nothing has changed builds nothing.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.cluster import programs
from tests.e2e.cluster.cluster import Cluster, import_image

ROOT = Path(__file__).resolve().parents[3]
SUITE = "bookworm"
BASE_RECIPE = "1"
"""Raised when what follows makes another base."""
LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt")
IN_EVERY_IMAGE = ("pyproject.toml", "constraints.txt", "LICENSE", "proto/mbcas")
BUILD_BACKEND = "hatchling"
ARCHIVES_MAX = 4
"""Of one image: those of several checkouts that take turns."""
STORED_IMAGES_MAX = 40
"""With more in the builder's store, layers of earlier builds among them, it is emptied."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image, and what of the repository goes into it beside `IN_EVERY_IMAGE`."""

    name: str
    containerfile: str
    sources: tuple[str, ...]


SERVER = Image(
    name="mbcas-server",
    containerfile="deploy/images/server.Containerfile",
    sources=("mbcas_core", "server/mbcas_server", "deploy/images/compile_imported.py"),
)
SHIM = Image(
    name="mbcas-shim",
    containerfile="deploy/images/shim.Containerfile",
    sources=("shim/mbcas_shim", "deploy/images/compile_imported.py"),
)


def load_image(cluster: Cluster, image: Image, say: Say) -> str:
    """Makes an image available to a cluster's pods, and returns its name with the tag."""
    archive = build(image, say)
    name = f"localhost/{image.name}:{_tag(archive)}"
    known = subprocess.run(
        [
            *(str(programs.find("ctr")), "--address", str(cluster.containerd_socket)),
            *("--namespace", "k8s.io", "images", "list", "--quiet", f"name=={name}"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    if name not in known.stdout.split():
        import_image(cluster.folder, archive)
    return name


def build(image: Image, say: Say) -> Path:
    """Returns the archive of an image, which is built where it is not there yet."""
    folder = programs.cache_folder() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        digest = hashlib.sha256(f"{_base_key()} {_wheels_key()}".encode())
        for path in _files((image.containerfile, *IN_EVERY_IMAGE, *image.sources)):
            digest.update(f"{path.relative_to(ROOT)}\0".encode())
            digest.update(path.read_bytes())
        archive = folder / f"{image.name}-{digest.hexdigest()[:12]}.tar"
        if not archive.exists():
            _build(image, archive, folder, say)
        return archive


def _build(image: Image, archive: Path, folder: Path, say: Say) -> None:
    base = _base_image(folder, say)
    wheels = _wheels(folder, say)
    say(f"building the image {image.name}, about half a minute ...")
    # The builder's Python looks there and nowhere else.
    pip = folder / "pip.conf"
    pip.write_text("[global]\nno-index = true\nFind-Links = /wheels\n")
    name = f"localhost/{image.name}:{_tag(archive)}"
    _buildah(
        *("bud", "--isolation", "chroot", "--layers", "--build-arg", f"BASE={base}"),
        *("--volume", f"{wheels}:/wheels:ro", "--volume", f"{pip}:/etc/pip.conf:ro"),
        *("--file", str(ROOT / image.containerfile), "--tag", name, str(ROOT)),
    )
    draft = archive.with_suffix(".part")
    draft.unlink(missing_ok=True)
    _buildah("push", "--disable-compression", name, f"oci-archive:{draft}:{name}")
    draft.rename(archive)
    made = sorted(folder.glob(f"{image.name}-*.tar"), key=lambda path: path.stat().st_mtime)
    for old in made[:-ARCHIVES_MAX]:
        old.unlink()
    if len(_buildah("images", "--all", "--quiet").split()) > STORED_IMAGES_MAX:
        _buildah("rmi", "--all", "--force")


def _base_image(folder: Path, say: Say) -> str:
    """Returns the name of the base in the builder's store."""
    name = f"localhost/mbcas-base:{_base_key()}"
    if not _buildah("images", "--quiet", "--filter", f"reference={name}").strip():
        context = folder / f"base-{_base_key()}"
        if not (context / "base.tar").exists():
            say("making a base image of Debian packages, about a minute ...")
            _make_base(context)
        (context / "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
        _buildah("bud", "--isolation", "chroot", "--tag", name, str(context))
    return name


def _make_base(context: Path) -> None:
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    root, draft = context / "root", context / "base.part"
    include = "--include=python3,python3-venv"
    _run(["debootstrap", "--variant=minbase", include, SUITE, str(root)])
    # As images of Python have it.
    (root / "usr/bin/python").symlink_to("python3")
    with tarfile.open(draft, "w") as archive:
        archive.add(root, arcname=".", filter=_is_kept)
    shutil.rmtree(root)
    draft.rename(context / "base.tar")


def _is_kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    path = entry.name.removeprefix("./")
    if path.startswith(tuple(f"{left}/" for left in (*LEFT_OUT, "dev", "proc", "sys"))):
        return None
    return entry


def _wheels(folder: Path, say: Say) -> Path:
    """Returns a folder with all that the images install."""
    wheels = folder / f"wheels-{_wheels_key()}"
    if not wheels.exists():
        say("fetching Python packages, about a minute ...")
        draft = folder / "wheels.part"
        shutil.rmtree(draft, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
        command += ["--python-version", _python_version(), "--dest", str(draft)]
        command += ["--constraint", str(ROOT / "constraints.txt"), *_requirements()]
        _run(command)
        for old in folder.glob("wheels-*"):
            shutil.rmtree(old)
        draft.rename(wheels)
    return wheels


def _requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["server"], *extras["shim"], BUILD_BACKEND]


def _python_version() -> str:
    """Says which Python the suite has."""
    return {"bookworm": "3.11"}[SUITE]


def _base_key() -> str:
    return f"{SUITE}-{BASE_RECIPE}"


def _wheels_key() -> str:
    digest = hashlib.sha256(f"{_python_version()} {_requirements()}".encode())
    digest.update((ROOT / "constraints.txt").read_bytes())
    return digest.hexdigest()[:12]


def _tag(archive: Path) -> str:
    return archive.stem.rpartition("-")[2]


def _files(names: Iterable[str]) -> Iterator[Path]:
    """Yields files, those below folders included, in one order everywhere."""
    for name in names:
        path = ROOT / name
        if path.is_dir():
            inner = (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
            yield from sorted(inner)
        else:
            yield path


def _buildah(*arguments: str) -> str:
    store = programs.cache_folder() / "buildah"
    places = ["--root", str(store / "root"), "--runroot", str(store / "run")]
    return _run(["buildah", "--storage-driver", "overlay", *places, *arguments])


def _run(command: list[str]) -> str:
    program = str(programs.find(command[0])) if "/" not in command[0] else command[0]
    done = subprocess.run(
        [program, *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise programs.MissingProgramError(f"{' '.join(command[:6])} ... failed:\n{tail}")
    return done.stdout


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps a second run from building the same."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
