"""The contract's view of the fake."""

from collections.abc import Callable

from tests.kube.fake_cluster import FakeCluster
from tests.kube.kube import Kube
from tests.kube.requests import ADMIN_TOKEN
from tests.kube.resources import Cgroup, Pod
from tests.kube.reviews import User

STEP_SECONDS = 0.1
STEPS = 600


class FakeKube(Kube):
    """The fake, whose clock moves while a case waits."""

    def __init__(self, cluster: FakeCluster, token: str = ADMIN_TOKEN) -> None:
        super().__init__(cluster.server, token, "contract")
        self.cluster = cluster

    def wait(self, done: Callable[[], bool]) -> None:
        for _ in range(STEPS):
            if done():
                return
            self.cluster.advance(STEP_SECONDS)
        raise AssertionError("waited a minute of the fake's time")

    def let_pass(self, seconds: float) -> None:
        self.cluster.advance(seconds)

    def cgroup_of(self, pod: Pod, container: str = "") -> Cgroup:
        return self.cluster.kubelet.cgroup_of(pod["metadata"]["uid"], container)

    def with_rights(self, *rights: str) -> "FakeKube":
        token = " ".join(rights)
        name = f"system:serviceaccount:{self.namespace}:{len(self.cluster.api.users)}"
        self.cluster.api.users[token] = User(name=name, rights=frozenset(rights))
        return FakeKube(self.cluster, token)

    def write_burst(self, pod: Pod, container: str, burst_us: int) -> None:
        self.cluster.kubelet.write_burst(pod["metadata"]["uid"], container, burst_us)

    def end_container(self, name: str, container: str, *, exit_code: int = 0) -> None:
        uid = self.get(name)["metadata"]["uid"]
        self.cluster.kubelet.end_container(uid, container, exit_code=exit_code)

    def stop_kubelet(self) -> None:
        self.cluster.kubelet.stop()

    def start_kubelet(self) -> None:
        self.cluster.kubelet.start()
