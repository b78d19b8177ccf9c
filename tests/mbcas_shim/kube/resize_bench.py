"""An enforcer over the fake cluster, whose watch is asked for whenever a test wants it."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.counters import Counters
from mbcas_shim.inventory import Cpu
from mbcas_shim.kube.api import Answer, KubeApi, find_api
from mbcas_shim.kube.enforce_resize import ResizeEnforcer
from mbcas_shim.kube.pods import Pod, parse_pod
from mbcas_shim.kube.resizer import Resizer
from mbcas_shim.kube.start_check import StartCheck
from mbcas_shim.orders import Order
from tests.kube.fake_cluster import FakeCluster
from tests.kube.fake_kube import FakeKube
from tests.kube.kube import Kube
from tests.kube.requests import Request

HANG_SECONDS = 20.0  # Only a bound for a test that would never end.


class JumpingClock:
    """Time that passes only while somebody waits for it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def now_seconds(self) -> float:
        return self.now

    async def sleep_until(self, deadline_seconds: float) -> None:
        self.now = max(self.now, deadline_seconds)
        await asyncio.sleep(0)


class SeenPods:
    """Pods as they were when the test last looked."""

    def __init__(self) -> None:
        self.by_uid: dict[str, Pod] = {}

    @property
    def pods(self) -> Iterable[Pod]:
        return self.by_uid.values()

    def find(self, uid: str) -> Pod | None:
        return self.by_uid.get(uid)


@dataclass(frozen=True, slots=True)
class Container:
    """What an inventory wants to know of one."""

    name: str
    pod_uid: str
    cgroup: str
    run_id: str = ""
    admitted: Cpu | None = None
    is_restored_exactly: bool = False
    is_managed: bool = False
    outlives_cgroup: bool = True


class Held:
    """A call that waits."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()


class Enforcing:
    """An enforcer over any cluster, and what a test wants to know of that."""

    def __init__(self, kube: Kube, api: KubeApi) -> None:
        self.kube = kube
        self.api = api
        self.clock = JumpingClock()
        self.counters = Counters(self.clock)
        self.seen = SeenPods()
        self.room_millicores = 2000
        self.check = StartCheck(api, clock=self.clock, counters=self.counters)
        self.resizer = Resizer(api, self.seen, self.counters, check=self.check)
        self.enforcer = ResizeEnforcer(
            self.resizer, clock=self.clock, room_millicores=lambda: self.room_millicores
        )

    def close(self) -> None:
        self.resizer.close()
        self.api.close()

    def look(self) -> None:
        """Takes over what the cluster's pods are now."""
        items = self.kube.call("GET", self.kube.pods).body["items"]
        pods = [parse_pod(item) for item in items]
        self.seen.by_uid = {pod.uid: pod for pod in pods}

    def make(self, pod: dict[str, Any]) -> Pod:
        """Makes a pod, waits until it runs, and looks."""
        made = self.kube.create_pod(pod)
        self.look()
        return self.seen.by_uid[made["metadata"]["uid"]]

    def cpu_of(self, name: str, container: str = "main") -> Cpu:
        """What the spec says now."""
        pod = parse_pod(self.kube.get(name))
        return next(each.spec for each in pod.containers if each.name == container)


class ResizeBench(Enforcing):
    """A fake cluster, and an enforcer with the rights that a shim has."""

    def __init__(self, folder: Path, *rights: str) -> None:
        self.cluster = FakeCluster()
        self.token_file = folder / "token"
        kube = FakeKube(self.cluster)
        user = kube.with_rights(*(rights or ("patch pods/resize", "get podallocations")))
        self.token_file.write_text(user.token)
        address = find_api({}, url=self.cluster.server, token_file=self.token_file)
        super().__init__(kube, KubeApi(address))

    def __enter__(self) -> Self:
        self.cluster.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self.cluster.__exit__(kind, error, trace)

    def hold(self, name: str) -> Held:
        """Lets the next calls about a pod wait in their thread."""
        held, request = Held(), self.api.request

        def waiting(method: str, path: str, **fields: Any) -> Answer:  # noqa: ANN401  # As given.
            if f"/{name}/" in path:
                held.begun.set()
                held.go_on.wait(HANG_SECONDS)
            return request(method, path, **fields)

        self.api.request = waiting  # type: ignore[method-assign]  # That is the trick.
        return held

    @property
    def patches(self) -> list[Request]:
        """The resizes that the enforcer has sent."""
        return [
            request
            for request in self.cluster.api.requests
            if request.method == "PATCH" and request.query.get("fieldManager") == "mbcas"
        ]


def order_for(
    pod: Pod,
    *,
    request: int | None = None,
    limit: int | None = None,
    container: str = "main",
    order_id: int = 1,
    generation: int | None = None,
    admitted: Cpu | None = None,
    exactly: bool = False,
) -> Order:
    return Order(
        order_id=order_id,
        pod_uid=pod.uid,
        container=container,
        desired=Cpu(request, limit),
        burst_usec=None,
        admitted=admitted,
        restores_exactly=exactly,
        expected_generation=pod.generation if generation is None else generation,
        expires_seconds=1e9,
        lane=pb.LANE_NORMAL,
    )
