"""What the kernel was told of each pod and container: in memory, and as files where wanted."""

from tests.kube.cgroup_folder import CgroupFolder
from tests.kube.pod_status import Run
from tests.kube.resources import (
    Cgroup,
    Pod,
    cgroup_of_container,
    cgroup_of_pod,
    running_containers,
)


class PodCgroups:
    """The cgroups of one node."""

    def __init__(self, folder: CgroupFolder | None) -> None:
        self._folder = folder
        self._values: dict[tuple[str, str], Cgroup] = {}
        self.bursts_us: dict[tuple[str, str], int] = {}
        """What somebody wrote to a container's burst; below it the kernel takes no quota."""

    def of(self, uid: str, container: str) -> Cgroup:
        """Returns what is in a container's cgroup; without a name, in the pod's."""
        return self._values[uid, container]

    def set(self, uid: str, container: str, cgroup: Cgroup) -> None:
        """Puts other values into one cgroup, in memory alone."""
        self._values[uid, container] = cgroup

    def write(self, pod: Pod, runs: dict[str, Run]) -> None:
        """Writes a pod's cgroups, of those containers that run."""
        uid = pod["metadata"]["uid"]
        values = {
            each["name"]: cgroup_of_container(each)
            for each in running_containers(pod)
            if each["name"] in runs and runs[each["name"]].ended is None
        }
        self._values |= {(uid, name): value for name, value in values.items()}
        self._values[uid, ""] = cgroup_of_pod(pod)
        if self._folder is not None:
            folder = self._folder.pod(pod["status"]["qosClass"], uid)
            self._folder.write(folder, self._values[uid, ""])
            for name, value in values.items():
                self._folder.write(folder / runs[name].id, value)

    def refusal(self, pod: Pod) -> str | None:
        """Returns why the kernel would not take a pod's quotas."""
        uid = pod["metadata"]["uid"]
        for container in running_containers(pod):
            quota_us = cgroup_of_container(container).quota_us
            if 0 <= quota_us < self.bursts_us.get((uid, container["name"]), 0):
                return f"write cpu.cfs_quota_us: {quota_us}: invalid argument"
        return None

    def end(self, pod: Pod, run: Run) -> None:
        """Removes the cgroup of a container that has ended."""
        uid = pod["metadata"]["uid"]
        self._values.pop((uid, run.name), None)
        if self._folder is not None:
            self._folder.remove(self._folder.pod(pod["status"]["qosClass"], uid) / run.id)

    def remove(self, pod: Pod) -> None:
        """Removes all cgroups of a pod."""
        uid = pod["metadata"]["uid"]
        for key in [key for key in self._values if key[0] == uid]:
            del self._values[key]
        if self._folder is not None:
            self._folder.remove(self._folder.pod(pod["status"]["qosClass"], uid))
