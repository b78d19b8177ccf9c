"""A pod of the API server as the shim needs it: what it asks for, what it has, what it may not.

The words are the API's: `spec` is what is asked for, `allocated` what the kubelet admitted, and
`actual` what it says is in force. None is "none" or "not said", which is not 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.kube.pod_containers import PodContainer, parse_containers
from mbcas_shim.kube.pod_requests import effective_request_millicores, is_guaranteed_but_for_cpu
from mbcas_shim.kube.untrusted import NAME, Fields, MalformedError

MAX_ANNOTATIONS = 32  # The wire's bound.
_ANNOTATION_PREFIX = "mbcas.io/"
_ONLY_OF_NAMESPACES = "max-priority"
_MAX_ANNOTATION_CHARACTERS = 4096  # The longest is a list of the pod's containers.
_MAX_MESSAGE_CHARACTERS = 500
_MAX_CONDITIONS = 4  # There are two types.
_MAX_CONTROLLER_BYTES = 320  # The wire's bound.
_MIRROR = "kubernetes.io/config.mirror"
_QOS_CLASSES = {
    "Guaranteed": pb.QOS_CLASS_GUARANTEED,
    "Burstable": pb.QOS_CLASS_BURSTABLE,
    "BestEffort": pb.QOS_CLASS_BEST_EFFORT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeCondition:
    """One of a pod's resize conditions that holds."""

    type: str
    reason: str
    message: str
    observed_generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod."""

    uid: str
    namespace: str
    name: str
    node_name: str
    cgroup_uid: str
    """Its uid as the kubelet has it, which for a static pod is not the API server's."""
    is_terminal: bool
    """All of it has ended for good: it holds nothing any more."""
    is_terminating: bool
    """It was told to end."""
    qos_class: pb.QosClass.ValueType
    generation: int
    observed_generation: int
    resize_conditions: tuple[ResizeCondition, ...]
    containers: tuple[PodContainer, ...]
    container_names: tuple[str, ...]
    """Of spec.containers, in the order that a patch must keep."""
    init_container_names: tuple[str, ...]
    """The same of spec.initContainers, sidecars or not."""
    effective_request_millicores: int
    """What the scheduler counts for it."""
    guaranteed_but_for_cpu: bool
    annotations: Mapping[str, str]
    """Its own under `mbcas.io/`, without that prefix, but for what only namespaces may say."""
    priority_class_name: str
    controller: str
    """As "ReplicaSet/web-6d4cf56db6"; empty where there is none."""
    workload: str
    """What made its replicas, as "Deployment/web"; empty where there is no controller."""

    def find(self, container: str) -> PodContainer | None:
        return next((each for each in self.containers if each.name == container), None)

    def owner_of(self, container: str) -> str:
        """What replicas of a container share; empty where there is no controller."""
        return f"{self.workload}/{container}" if self.workload else ""


def parse_pod(value: object) -> Pod:
    """Reads a pod.

    Raises:
        MalformedError: It is none that an API server would send.
    """
    pod = value if isinstance(value, Fields) else Fields(value)
    metadata, spec, status = pod.object("metadata"), pod.object("spec"), pod.object("status")
    conditions = tuple(_resize_conditions(status))
    is_infeasible = any(condition.reason == "Infeasible" for condition in conditions)
    containers = parse_containers(
        pod, pod_skip_reason=_skip_reason(metadata, spec), is_infeasible=is_infeasible
    )
    billed = {each.name: each.billed_request_millicores for each in containers}
    qos_class = _QOS_CLASSES.get(status.text("qosClass"), pb.QOS_CLASS_UNSPECIFIED)
    controller, workload = _controller(metadata)
    return Pod(
        uid=metadata.name("uid"),
        namespace=metadata.name("namespace"),
        name=metadata.name("name"),
        node_name=spec.text("nodeName"),
        cgroup_uid=_mirrored_uid(metadata) or metadata.name("uid"),
        is_terminal=status.text("phase") in ("Succeeded", "Failed"),
        is_terminating="deletionTimestamp" in metadata,
        qos_class=qos_class,
        generation=metadata.count("generation"),
        observed_generation=status.count("observedGeneration")
        or max((condition.observed_generation for condition in conditions), default=0),
        resize_conditions=conditions,
        containers=containers,
        container_names=tuple(each.name("name") for each in spec.objects("containers")),
        init_container_names=tuple(each.name("name") for each in spec.objects("initContainers")),
        effective_request_millicores=effective_request_millicores(
            spec, status, billed, is_infeasible=is_infeasible
        ),
        guaranteed_but_for_cpu=(
            qos_class == pb.QOS_CLASS_BURSTABLE and is_guaranteed_but_for_cpu(spec)
        ),
        annotations=_annotations(metadata),
        priority_class_name=spec.text("priorityClassName"),
        controller=controller,
        workload=workload,
    )


def _resize_conditions(status: Fields) -> Iterator[ResizeCondition]:
    found = 0
    for condition in status.objects("conditions"):
        is_of_resize = condition.text("type") in ("PodResizePending", "PodResizeInProgress")
        if not is_of_resize or condition.text("status") != "True" or found == _MAX_CONDITIONS:
            continue
        found += 1
        yield ResizeCondition(
            type=condition.text("type"),
            reason=condition.text("reason"),
            message=condition.words("message", at_most=_MAX_MESSAGE_CHARACTERS),
            observed_generation=condition.count("observedGeneration"),
        )


def _skip_reason(metadata: Fields, spec: Fields) -> str:
    """Why no container of a pod can be resized; empty where nothing speaks against it."""
    if _mirrored_uid(metadata):
        return "a static pod"
    selected = dict(spec.object("nodeSelector").texts())
    if "windows" in (spec.object("os").text("name"), selected.get("kubernetes.io/os")):
        return "a Windows pod"
    resources = spec.object("resources")
    if "requests" in resources or "limits" in resources:
        return "its resources are set for the whole pod (spec.resources)"
    return _unusable(_own_annotations(metadata))


def _mirrored_uid(metadata: Fields) -> str:
    """The uid that the kubelet gave to a static pod; empty for a pod that says of itself none."""
    annotations = dict(metadata.object("annotations").texts())
    if _MIRROR not in annotations:
        return ""
    # Whoever makes a pod may write anything here; only the kubelet's own is a part of a path.
    uid = annotations[_MIRROR]
    return uid if NAME.fullmatch(uid) else metadata.name("uid")


def _annotations(metadata: Fields) -> dict[str, str]:
    own = _own_annotations(metadata)
    return {} if _unusable(own) else own


def _own_annotations(metadata: Fields) -> dict[str, str]:
    return {
        key.removeprefix(_ANNOTATION_PREFIX): value
        for key, value in metadata.object("annotations").texts()
        if key.startswith(_ANNOTATION_PREFIX)
        and key != f"{_ANNOTATION_PREFIX}{_ONLY_OF_NAMESPACES}"
    }


def _unusable(own: Mapping[str, str]) -> str:
    """Why annotations cannot be sent on; what its owner meant is then not known: it is left alone.

    The API server takes any text here, so it must not cost the pod its place in the node's sums.
    """
    if len(own) > MAX_ANNOTATIONS:
        return f"it has more than {MAX_ANNOTATIONS} annotations under {_ANNOTATION_PREFIX}"
    if max(map(len, own.values()), default=0) > _MAX_ANNOTATION_CHARACTERS:
        return f"an annotation under {_ANNOTATION_PREFIX} is too long"
    if not all(map(str.isprintable, own.values())):
        return f"an annotation under {_ANNOTATION_PREFIX} has characters that cannot be printed"
    return ""


def _controller(metadata: Fields) -> tuple[str, str]:
    """The object that made a pod, and what that object was made by where its name tells.

    Whoever makes a pod may write any kind and name; what is none leaves a pod without a controller.
    """
    for owner in metadata.objects("ownerReferences"):
        if not owner.flag("controller", default=False):
            continue
        try:
            kind, name = owner.name("kind"), owner.name("name")
        except MalformedError:
            break
        controller = f"{kind}/{name}"
        if kind == "Node" or len(controller) > _MAX_CONTROLLER_BYTES:
            break  # A static pod is owned by its node, with which it shares nothing.
        template_hash = metadata.object("labels").text("pod-template-hash")
        if kind == "ReplicaSet" and template_hash and name.endswith(f"-{template_hash}"):
            return controller, f"Deployment/{name.removesuffix(f'-{template_hash}')}"
        return controller, controller
    return "", ""
