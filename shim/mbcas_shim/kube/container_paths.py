"""Where the cgroups of pods and containers are, below the cpu controller's mount.

The kubelet makes a group for each pod, within one for the pod's QoS class unless it is Guaranteed;
the runtime makes one for each container in it. The kubelet's cgroup driver decides the names
(kubernetes/pkg/kubelet/cm/cgroup_manager_linux.go):

    cgroupfs  kubepods/burstable/pod0e1c-47/CONTAINER
    systemd   kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0e1c_47.slice/CONTAINER

systemd nests a slice in those whose names its own name begins with, and has "-" in a uid written
"_". Where the kubelet has a cgroup root of its own (--cgroup-root=/a/b), cgroupfs has a/b/kubepods
and systemd a.slice/a-b.slice/a-b-kubepods.slice.

The mount may also be that of the kubepods group itself: a pod of the shim then sees nothing else.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.cgroup import CgroupTree
from mbcas_shim.errors import CgroupError

_KUBEPODS = "kubepods"
_QOS_NAMES = {
    pb.QOS_CLASS_GUARANTEED: (),
    pb.QOS_CLASS_BURSTABLE: ("burstable",),
    pb.QOS_CLASS_BEST_EFFORT: ("besteffort",),
}
_PROBE = "burstable"  # The kubelet makes it before any pod.


class Driver(enum.Enum):
    """Who makes the groups for the kubelet."""

    CGROUPFS = "cgroupfs"
    SYSTEMD = "systemd"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the groups of a node are named."""

    driver: Driver
    root: tuple[str, ...]
    """The kubelet's own cgroup root, in parts."""
    is_mounted_at_kubepods: bool

    def path(self, *names: str) -> str:
        """The path of a group within the kubepods group; of that itself where none is named."""
        parts = [*self.root, _KUBEPODS, *names]
        steps = [_slice(parts[: n + 1]) for n in range(len(parts))]
        if self.driver == Driver.CGROUPFS:
            steps = parts
        hidden = len(self.root) + 1 if self.is_mounted_at_kubepods else 0
        return "/".join(steps[hidden:])


class ContainerPaths:
    """Names the groups of containers, once the kubelet has made its own."""

    def __init__(self, tree: CgroupTree, *, kubelet_cgroup_root: str = "") -> None:
        self._tree = tree
        self._root = tuple(part for part in kubelet_cgroup_root.split("/") if part)
        self._layout: Layout | None = None

    @property
    def layout(self) -> Layout | None:
        """How groups are named here; None until the kubelet has made its own."""
        if self._layout is None:
            self._layout = next(filter(self._is_there, self._layouts()), None)
        return self._layout

    def looked_for(self) -> str:
        """The groups of which one must be there, for people."""
        return ", ".join(layout.path(_PROBE) for layout in self._layouts())

    def pod(self, cgroup_uid: str, qos_class: pb.QosClass.ValueType) -> str:
        """The path of a pod's group; empty where that cannot be said."""
        layout, qos_names = self.layout, _QOS_NAMES.get(qos_class)
        if layout is None or qos_names is None:
            return ""
        return layout.path(*qos_names, f"pod{cgroup_uid}")

    def container(self, pod_path: str, runtime: str, container_id: str) -> str:
        """The path of a container's group; empty where that cannot be said."""
        if self.layout is None or not pod_path or not container_id:
            return ""
        return f"{pod_path}/{_container_name(self.layout.driver, runtime, container_id)}"

    def _layouts(self) -> Iterator[Layout]:
        for is_mounted_at_kubepods in (False, True):
            for driver in Driver:
                yield Layout(driver, self._root, is_mounted_at_kubepods)

    def _is_there(self, layout: Layout) -> bool:
        try:
            return self._tree.identity(layout.path(_PROBE)) is not None
        except CgroupError:
            return False  # It cannot be read; whoever asks for the layout says where it was sought.


def _slice(parts: list[str]) -> str:
    return "-".join(part.replace("-", "_") for part in parts) + ".slice"


def _container_name(driver: Driver, runtime: str, container_id: str) -> str:
    """The group's name within its pod's, as the runtimes write it."""
    match runtime, driver:
        case "cri-o", Driver.CGROUPFS:
            return f"crio-{container_id}"
        case "cri-o", Driver.SYSTEMD:
            return f"crio-{container_id}.scope"
        case "docker", Driver.SYSTEMD:
            return f"docker-{container_id}.scope"
        case _, Driver.SYSTEMD:
            return f"cri-containerd-{container_id}.scope"
        case _, Driver.CGROUPFS:
            return container_id
