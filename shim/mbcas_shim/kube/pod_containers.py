"""The containers of a pod that run beside each other, as its spec and its status tell of them."""

import re
from dataclasses import dataclass
from datetime import datetime

from mbcas_shim.inventory import Cpu
from mbcas_shim.kube.managed_fields import SetByMbcas
from mbcas_shim.kube.pod_requests import billed_request_millicores, is_sidecar
from mbcas_shim.kube.untrusted import NAME, Fields, MalformedError
from mbcas_shim.quantity import MAX_MILLICORES

_MAX_IMAGE_BYTES = 1024  # The wire's bound.
_RUNTIME_ID = re.compile(r"(?P<runtime>[a-z0-9.+-]{1,32})://(?P<id>.*)", re.ASCII)
_BEYOND = f"its limit is above {MAX_MILLICORES // 1000} cores"
_WITHOUT_RESOURCES = "the kubelet does not say what it has: too old to resize"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRun:
    """The latest run of a container, as its status tells; its values before the first."""

    runtime: str = ""
    """As in its id: "containerd", "cri-o", "docker"."""
    container_id: str = ""
    image_id: str = ""
    start_unix_seconds: float | None = None
    """None while it does not run."""
    restart_count: int = 0
    is_ready: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PodContainer:
    """A container that runs beside the others: an ordinary one or a sidecar."""

    name: str
    is_sidecar: bool
    run: ContainerRun
    spec: Cpu
    allocated: Cpu | None
    actual: Cpu | None
    request_set_by_mbcas: bool
    limit_set_by_mbcas: bool
    restarts_on_resize: bool
    billed_request_millicores: int
    """Its request as the scheduler counts it."""
    skip_reason: str
    """Why it cannot be resized; empty where it can."""


def parse_containers(
    pod: Fields, *, pod_skip_reason: str, is_infeasible: bool
) -> tuple[PodContainer, ...]:
    """Reads the containers and sidecars of a pod.

    Raises:
        MalformedError: They are none that an API server would send.
    """
    spec, status = pod.object("spec"), pod.object("status")
    set_by_mbcas = SetByMbcas(pod.object("metadata").objects("managedFields"))
    found: dict[str, PodContainer] = {}
    for list_name, status_name in (
        ("initContainers", "initContainerStatuses"),
        ("containers", "containerStatuses"),
    ):
        statuses = {each.name("name"): each for each in status.objects(status_name)}
        for container in spec.objects(list_name):
            if list_name == "initContainers" and not is_sidecar(container):
                continue
            name = container.name("name")
            if name in found:
                raise MalformedError(container.path, f"there are two containers {name}")
            said = statuses.get(name, Fields(None))
            found[name] = PodContainer(
                name=name,
                is_sidecar=list_name == "initContainers",
                run=_run(said),
                spec=_cpu(container),
                allocated=_allocated(said),
                actual=_cpu(said) if "resources" in said else None,
                request_set_by_mbcas=set_by_mbcas.has(list_name, name, "requests"),
                limit_set_by_mbcas=set_by_mbcas.has(list_name, name, "limits"),
                restarts_on_resize=_restarts_on_resize(container),
                billed_request_millicores=billed_request_millicores(
                    container, said, is_infeasible=is_infeasible
                ),
                skip_reason=pod_skip_reason or _skip_reason(container, said),
            )
    return tuple(found.values())


def _run(said: Fields) -> ContainerRun:
    runtime, container_id = _parse_id(said)
    return ContainerRun(
        runtime=runtime,
        container_id=container_id,
        image_id=said.text("imageID", at_most=_MAX_IMAGE_BYTES),
        start_unix_seconds=_unix_seconds(said.object("state", "running").text("startedAt")),
        restart_count=said.count("restartCount"),
        is_ready=said.flag("ready", default=True),
    )


def _parse_id(said: Fields) -> tuple[str, str]:
    text = said.text("containerID")
    if not text:
        return "", ""
    match = _RUNTIME_ID.fullmatch(text)
    if match is None or not NAME.fullmatch(match["id"]):
        raise MalformedError(f"{said.path}.containerID", f"{text!r} is no runtime://id")
    return match["runtime"], match["id"]


def _cpu(holder: Fields) -> Cpu:
    limits = _limits(holder)
    return Cpu(
        holder.object("resources", "requests").cpu_millicores(),
        # A limit of 0 is none: the kubelet sets no quota for it. A request must fit a node, but the
        # API server takes any limit, and one beyond all nodes is as good as none.
        None if limits.is_cpu_beyond_telling() else limits.cpu_millicores() or None,
    )


def _limits(holder: Fields) -> Fields:
    return holder.object("resources", "limits")


def _allocated(said: Fields) -> Cpu | None:
    request_millicores = said.object("allocatedResources").cpu_millicores()
    return None if request_millicores is None else Cpu(request_millicores)


def _restarts_on_resize(container: Fields) -> bool:
    return any(
        policy.text("resourceName") == "cpu" and policy.text("restartPolicy") == "RestartContainer"
        for policy in container.objects("resizePolicy")
    )


def _skip_reason(container: Fields, said: Fields) -> str:
    if _limits(container).is_cpu_beyond_telling():
        return _BEYOND
    is_running = "running" in said.object("state")
    return _WITHOUT_RESOURCES if is_running and "resources" not in said else ""


def _unix_seconds(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
