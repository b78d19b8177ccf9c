"""The containers of local mode: a YAML file, checked whole before any of it counts.

On Kubernetes an owner claims a priority for a pod, and the pod's namespace bounds the claim. Here
the node's operator writes both: `priority` of each container and, once for the file, what may be
claimed at most. That is critical unless the file says otherwise, because whoever may write the file
may claim what it likes; the server's own bound is for pods of which nobody said anything.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)
from pydantic import model_validator as _model_validator

from mbcas_shim.counters import Counters
from mbcas_shim.errors import ConfigurationError
from mbcas_shim.inventory import MAX_CONTAINERS, Cpu
from mbcas_shim.quantity import parse_millicores
from mbcas_shim.yaml_file import load_mapping

MAX_PRIORITY: Literal["critical"] = "critical"

_log = logging.getLogger(__name__)


def _check_cgroup(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in text:
        raise ValueError(
            f"{text!r} must be a path below the cpu controller's mount, such as mbcas-demo/api: "
            "not absolute, without '..', not the mount itself"
        )
    return str(path)


Millicores = Annotated[int, BeforeValidator(parse_millicores)]
Priority = Literal["critical", "normal", "low"]
_Limit = Annotated[Millicores, Field(ge=1)]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=63)]
_Cgroup = Annotated[str, Field(max_length=4096), AfterValidator(_check_cgroup)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeclaredNode(_Strict):
    """What the node has; by default all of its CPUs and nothing beside MBCAS's containers."""

    allocatable_millicores: Annotated[_Limit | None, Field(alias="allocatable")] = None
    unmanaged_millicores: Annotated[Millicores, Field(alias="unmanaged")] = 0


class DeclaredContainer(_Strict):
    """One container as its owner wants it: its admitted values, and what MBCAS may do with it."""

    name: _Name
    namespace: _Name = "local"
    cgroup: _Cgroup
    request_millicores: Annotated[Millicores | None, Field(alias="request")] = None
    limit_millicores: Annotated[_Limit | None, Field(alias="limit")] = None
    priority: Priority = "normal"
    min_millicores: Annotated[Millicores | None, Field(alias="min")] = None
    max_millicores: Annotated[_Limit | None, Field(alias="max")] = None
    min_acceptable_millicores: Annotated[Millicores | None, Field(alias="min-acceptable")] = None
    mode: Literal["off", "recommend", "auto"] = "auto"
    policy: Literal["limits-only", "requests-and-limits", "requests-only", "hard-quota"] | None = (
        None
    )
    isolation: Literal["strict"] | None = None
    _max_priority: Priority = PrivateAttr(default=MAX_PRIORITY)

    def model_post_init(self, context: dict[str, Priority] | None, /) -> None:
        """Takes over what the file says of all its containers."""
        if context is not None:
            self._max_priority = context["max-priority"]

    @_model_validator(mode="after")
    def _check_order(self) -> Self:
        request_millicores = self.admitted_request_millicores
        given = "request" if self.request_millicores is not None else "request (by default limit)"
        _check_at_most("request", request_millicores, "limit", self.limit_millicores)
        _check_at_most(given, request_millicores, "max", self.max_millicores)
        _check_at_most("min", self.min_millicores, "max", self.max_millicores)
        _check_at_most("min-acceptable", self.min_acceptable_millicores, "max", self.max_millicores)
        return self

    @property
    def pod_uid(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def admitted_request_millicores(self) -> int | None:
        """The request, which is the limit where only that is given (as in Kubernetes)."""
        given = self.request_millicores
        return self.limit_millicores if given is None else given

    @property
    def admitted(self) -> Cpu:
        return Cpu(self.admitted_request_millicores, self.limit_millicores)

    @property
    def run_id(self) -> str:
        return ""  # Nobody counts runs here.

    @property
    def is_restored_exactly(self) -> bool:
        """True where the fail-safe must not leave more than what was admitted."""
        return self.isolation == "strict" or self.policy == "hard-quota"

    @property
    def is_managed(self) -> bool:
        return self.mode == "auto"

    @property
    def outlives_cgroup(self) -> bool:
        return False

    def annotations(self) -> dict[str, str]:
        """What its pod would say under `mbcas.io/` on Kubernetes."""
        quantities = {
            "min-cpu": self.min_millicores,
            "max-cpu": self.max_millicores,
            "min-acceptable-cpu": self.min_acceptable_millicores,
        }
        words = {"policy": self.policy, "isolation": self.isolation}
        return {
            "priority-class": self.priority,
            "max-priority": self._max_priority,
            "mode": self.mode,
            **{key: f"{value}m" for key, value in quantities.items() if value is not None},
            **{key: value for key, value in words.items() if value is not None},
        }


class ContainersFile(_Strict):
    """A whole file."""

    node: DeclaredNode = DeclaredNode()
    max_priority: Annotated[Priority, Field(alias="max-priority")] = MAX_PRIORITY
    containers: Annotated[tuple[DeclaredContainer, ...], Field(max_length=MAX_CONTAINERS)] = ()

    @_model_validator(mode="after")
    def _check_unique(self) -> Self:
        for what, values in (
            ("the name", [container.pod_uid for container in self.containers]),
            ("the cgroup", [container.cgroup for container in self.containers]),
        ):
            first: dict[str, int] = {}
            for index, value in enumerate(values):
                if value in first:
                    raise ValueError(
                        f"containers[{first[value]}] and containers[{index}] both have {what} "
                        f"{value}; give each its own"
                    )
                first[value] = index
        return self

    @_model_validator(mode="after")
    def _check_apart(self) -> Self:
        cgroups = {container.cgroup: index for index, container in enumerate(self.containers)}
        for index, container in enumerate(self.containers):
            for parent in PurePosixPath(container.cgroup).parents:
                if str(parent) in cgroups:
                    raise ValueError(
                        f"containers[{index}]: its cgroup {container.cgroup} lies inside "
                        f"{parent}, the cgroup of containers[{cgroups[str(parent)]}], and would be "
                        "counted twice; declare only one of them"
                    )
        return self


def load_containers(path: Path) -> ContainersFile:
    """Reads and checks a file.

    Raises:
        ConfigurationError: One line for each thing that is wrong, with the path of its field.
    """
    loaded = load_mapping(path)
    try:
        context = {"max-priority": loaded.get("max-priority", MAX_PRIORITY)}
        return ContainersFile.model_validate(loaded, context=context)
    except ValidationError as error:
        lines = [
            f"{path}: {_field(problem['loc'], loaded)}{_message(dict(problem))}"
            for problem in error.errors()
        ]
        raise ConfigurationError("\n".join(lines)) from error


class ContainersWatch:
    """The file as it was when it could last be used."""

    def __init__(self, path: Path, counters: Counters) -> None:
        self._path = path
        self._counters = counters
        self._version = _version_of(path)
        self.content = load_containers(path)

    def refresh(self) -> bool:
        """Looks at the file again; true where a new version was taken over.

        A version that cannot be used is said and counted once, and the old one stays.
        """
        version = _version_of(self._path)
        if version == self._version:
            return False
        self._version = version
        try:
            self.content = load_containers(self._path)
        except ConfigurationError as error:
            self._counters.count("containers_file_unusable", "the version before it stays in use")
            _log.error("containers file not taken over: %s", error)
            return False
        _log.info("containers file taken over containers=%d", len(self.content.containers))
        return True


def _version_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  # Once a second; Path.stat costs twice as much.
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _check_at_most(low: str, low_value: int | None, high: str, high_value: int | None) -> None:
    if low_value is not None and high_value is not None and low_value > high_value:
        raise ValueError(
            f"{low} {low_value}m is above {high} {high_value}m; lower {low} or raise {high}"
        )


def _message(problem: dict[str, Any]) -> str:
    if problem["type"] != "extra_forbidden":
        return str(problem["msg"]).removeprefix("Value error, ")
    models: dict[str | int, type[_Strict]] = {"node": DeclaredNode, "containers": DeclaredContainer}
    location = problem["loc"]
    model = models[location[0]] if len(location) > 1 else ContainersFile
    keys = [field.alias or name for name, field in model.model_fields.items()]
    return f"there is no such key; there are {', '.join(keys)}"


def _field(location: tuple[int | str, ...], loaded: object) -> str:
    path = "".join(_steps(location)).lstrip(".")
    name = ""
    if location[:1] == ("containers",) and len(location) > 1 and isinstance(loaded, dict):
        entry = loaded["containers"][location[1]]
        name = f" ({entry['name']})" if isinstance(entry, dict) and "name" in entry else ""
    return f"{path}{name}: " if path else ""


def _steps(location: tuple[int | str, ...]) -> Iterator[str]:
    for step in location:
        yield f"[{step}]" if isinstance(step, int) else f".{step}"
