"""The programs a cluster consists of: which versions, where they come from, where they are kept.

Kubernetes and etcd are built from their Go modules at the versions that `programs/*/go.mod` pin;
the tools by `go install` at a version. What was built is kept outside the checkout, in a folder
named for what it was built from, so that the next run finds it there. The container runtime and
what builds images are packages of the distribution.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent.parent / "programs"
KUBERNETES_VERSION = "v1.35.4"
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
_KUBERNETES_FLAGS = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in (
        ("gitVersion", KUBERNETES_VERSION),
        ("gitMajor", _MAJOR),
        ("gitMinor", _MINOR),
    )
)
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "busybox": "busybox-static",
    "/usr/lib/cni/loopback": "containernetworking-plugins",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
"""Program: the package of the distribution that has it."""


class MissingProgramError(Exception):
    """Something that the cluster needs is not there and cannot be installed from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoPrograms:
    """Programs that are built together, from one module of ours."""

    module: str
    """Folder below `programs/` with go.mod and go.sum."""
    packages: dict[str, str]
    """Program name: Go package."""
    flags: str = ""
    minutes: float
    """How long a build takes on two cores when nothing is cached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoTool:
    """One program, by `go install package@version`."""

    name: str
    package: str
    version: str
    minutes: float


BUILT = (
    GoPrograms(
        module="kubernetes",
        packages={
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kubectl",
            )
        },
        flags=_KUBERNETES_FLAGS,
        minutes=10,
    ),
    GoPrograms(module="etcd", packages={"etcd": "go.etcd.io/etcd/server/v3"}, minutes=1),
)
TOOLS = (
    GoTool(name="helm", package="helm.sh/helm/v4/cmd/helm", version="v4.3.0", minutes=3),
    GoTool(name="kwok", package="sigs.k8s.io/kwok/cmd/kwok", version="v0.8.0", minutes=2),
    GoTool(
        name="kubeconform",
        package="github.com/yannh/kubeconform/cmd/kubeconform",
        version="v0.8.0",
        minutes=0.2,
    ),
    GoTool(
        name="grpcurl",
        package="github.com/fullstorydev/grpcurl/cmd/grpcurl",
        version="v1.9.4",
        minutes=1.5,
    ),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is missing and how it is got."""

    what: str
    minutes: float
    commands: tuple[tuple[str, ...], ...]
    folder: Path | None = None
    environment: tuple[tuple[str, str], ...] = ()


def cache_folder() -> Path:
    """Where built programs are kept between runs."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "mbcas" / "e2e"


def tool_path(name: str) -> Path:
    """Returns where a tool is, or would be, once `missing` has no step for it."""
    (tool,) = (tool for tool in TOOLS if tool.name == name)
    return _tool_folder(tool) / name


def find(name: str) -> Path:
    """Returns a program that `missing` has no step for any more."""
    for built in BUILT:
        if name in built.packages:
            return _built_folder(built) / name
    for tool in TOOLS:
        if name == tool.name:
            return _tool_folder(tool) / name
    found = shutil.which(name)
    if found is None:
        raise MissingProgramError(f"{name} is not on the PATH")
    return Path(found)


def missing() -> Iterator[Step]:
    """Yields what must be done before a cluster can start, in order."""
    packages = sorted(
        package
        for program, package in PACKAGES.items()
        if not (Path(program).exists() if "/" in program else shutil.which(program))
    )
    if packages:
        install = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages)
        yield Step(
            f"packages {' '.join(packages)}",
            1.0,
            (("apt-get", "update", "--quiet"), install),
            environment=(("DEBIAN_FRONTEND", "noninteractive"),),
        )
    for built in BUILT:
        folder = _built_folder(built)
        if not all((folder / name).is_file() for name in built.packages):
            yield _build_step(built, folder)
    yield from missing_tools(*(tool.name for tool in TOOLS))


def missing_tools(*names: str) -> Iterator[Step]:
    """Yields what must be done to have these tools, which are of use without a cluster too."""
    for tool in (tool for tool in TOOLS if tool.name in names):
        folder = _tool_folder(tool)
        if not (folder / tool.name).is_file():
            yield Step(
                f"{tool.name} {tool.version}",
                tool.minutes,
                ((go(), "install", "-trimpath", f"{tool.package}@{tool.version}"),),
                environment=(("CGO_ENABLED", "0"), ("GOBIN", str(folder))),
            )


def take(step: Step, log: Path) -> None:
    """Carries out one step; its output goes to the log.

    Raises:
        MissingProgramError: a command failed; the message has the end of its output.
    """
    environment = os.environ | dict(step.environment)
    for command in step.commands:
        with log.open("ab") as output:
            done = subprocess.run(
                command,
                cwd=step.folder,
                env=environment,
                stdout=output,
                stderr=output,
                check=False,
            )
        if done.returncode:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise MissingProgramError(f"{step.what}: {' '.join(command)} failed:\n{tail}")


def _build_step(built: GoPrograms, folder: Path) -> Step:
    draft = folder.with_name(folder.name + ".part")
    flags = f"-s -w {built.flags}".strip()
    build: tuple[str, ...] = (go(), "build", "-trimpath", "-ldflags", flags, "-o")
    if len(built.packages) == 1:
        ((name, package),) = built.packages.items()
        build += (str(draft / name), package)
    else:
        build += (f"{draft}/", *built.packages.values())
    return Step(
        f"{built.module} ({', '.join(built.packages)})",
        built.minutes,
        (
            ("rm", "-rf", str(draft)),
            ("mkdir", "-p", str(draft)),
            build,
            ("mv", "-T", str(draft), str(folder)),
        ),
        folder=SOURCES / built.module,
        environment=(("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=readonly -buildvcs=false")),
    )


def _built_folder(built: GoPrograms) -> Path:
    digest = hashlib.sha256(f"{built.packages} {built.flags}".encode())
    for name in ("go.mod", "go.sum"):
        digest.update((SOURCES / built.module / name).read_bytes())
    return cache_folder() / f"{built.module}-{digest.hexdigest()[:12]}"


def _tool_folder(tool: GoTool) -> Path:
    return cache_folder() / f"{tool.name}-{tool.version}"


def go() -> str:
    """Returns the compiler, which also fetches modules."""
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if found is None:
        raise MissingProgramError("go is not on the PATH: install Go 1.25 or later")
    return found
