"""A Kubernetes of one node that isn't there, over HTTP on loopback, on a clock that a test moves.

    with FakeCluster() as cluster:
        call(cluster.server, ...)      # Any HTTP client; token "admin".
        cluster.advance(1.0)           # Scheduler, kubelet and watch time-outs happen in here.

What it must answer is in contract.py, and is checked on a real Kubernetes by the same cases.
"""

import threading
import uuid
from pathlib import Path
from typing import Self

from tests.kube.cgroup_folder import CgroupFolder
from tests.kube.fake_api import FakeApi
from tests.kube.fake_http import Http, Until
from tests.kube.fake_kubelet import FakeKubelet
from tests.kube.pod_on_node import Delays
from tests.kube.requests import Fault
from tests.kube.resources import Pod, counted_millicores, request_millicores
from tests.kube.store import Object, Store
from tests.kube.timers import Timers

NODE = "fake-node"
SCHEDULE_SECONDS = 0.01
RETRY_SECONDS = 1.0
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}


class FakeCluster:
    """API server, scheduler and kubelet; a context manager that serves while it is open."""

    def __init__(
        self,
        *,
        millicores: int = 2000,
        delays: Delays | None = None,
        cgroups: Path | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        """Makes the cluster.

        Args:
            millicores: allocatable CPU of its node.
            delays: how long the kubelet takes.
            cgroups: folder to write the pods' cgroups to (version 1), for whoever reads them.
            tls: certificate and key, to serve HTTPS.
        """
        self.store = Store()
        self.timers = Timers()
        self.api = FakeApi(self.store, self.timers)
        self.kubelet = FakeKubelet(
            self.store,
            self.timers,
            node=NODE,
            millicores=millicores,
            delays=delays or Delays(),
            folder=CgroupFolder(cgroups) if cgroups else None,
        )
        self.api.pod_made = self._pod_made
        self.api.pod_changed = self.kubelet.pod_changed
        self.api.pod_removed = self._pod_removed
        self.kubelet.pod_gone = lambda pod: self.api.remove("pods", pod)
        self.bookmarks_asked = 0
        self.watches_closed = 0
        self.closing = False
        self.is_down = False
        self._looks = False
        self._http = Http(self, tls)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.store.changed:
            self.closing = True
            self.store.changed.notify_all()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def server(self) -> str:
        return f"{self._http.scheme}://127.0.0.1:{self._http.server_address[1]}"

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        with self.store.changed:
            self.timers.advance(seconds)
            self.store.changed.notify_all()

    def fail(self, fault: Fault) -> None:
        """Gives the next calls that it fits another answer."""
        with self.store.changed:
            self.api.faults.append(fault)

    def send_bookmarks(self) -> None:
        """Tells all watches that want it how far they are, as a server does once a minute."""
        with self.store.changed:
            self.bookmarks_asked += 1
            self.store.changed.notify_all()

    def close_watches(self) -> None:
        """Ends all watches, as a server does when it restarts or a proxy's patience ends."""
        with self.store.changed:
            self.watches_closed += 1
            self.store.changed.notify_all()

    def set_down(self, *, is_down: bool) -> None:
        """Ends every call and watch without an answer, as a server that is gone; or no more."""
        with self.store.changed:
            self.is_down = is_down
        if is_down:
            self.close_watches()

    def put(self, resource: str, item: Object) -> Object:
        """Puts an object there as it is: with a status, with times, of another node's pod."""
        metadata = {"uid": str(uuid.uuid4()), "creationTimestamp": self.timers.text()}
        with self.store.changed:
            return self.store.put(resource, item | {"metadata": metadata | item["metadata"]})

    def forget_history(self) -> None:
        """Ends what watches could resume from: the next one from a known version gets 410."""
        with self.store.changed:
            self.store.compact()

    def until_now(self, timeout_seconds: float) -> Until:
        """Returns where a watch of so many seconds starts."""
        end_seconds = self.timers.now_seconds + timeout_seconds
        return Until(end_seconds, self.bookmarks_asked, self.watches_closed)

    def _pod_made(self, pod: Pod) -> None:
        self.timers.after(SCHEDULE_SECONDS, self._schedule)
        self.kubelet.pod_changed(pod)

    def _pod_removed(self, pod: Pod) -> None:
        self.kubelet.pod_removed(pod)
        self.timers.after(SCHEDULE_SECONDS, self._schedule)

    def _schedule(self) -> None:
        """Binds what waits and fits; what selects a node waits for ever, no node has labels."""
        for pod in self.store.all("pods"):
            if pod["spec"].get("nodeName") or pod["spec"].get("nodeSelector"):
                continue
            bound = [
                each for each in self.store.all("pods") if each["spec"].get("nodeName") == NODE
            ]
            taken = sum(counted_millicores(each) for each in bound)
            if taken + request_millicores(pod) <= self.kubelet.millicores:
                pod["spec"]["nodeName"] = NODE
                self.kubelet.pod_changed(self.store.put("pods", pod))
            else:
                pod["status"]["conditions"] = [UNSCHEDULABLE]
                self.store.put("pods", pod)
        self._looks = False
        self._look_again()

    def _look_again(self) -> None:
        """Tries again later, while somebody waits: room comes without a pod being removed, too."""
        waiting = [each for each in self.store.all("pods") if not each["spec"].get("nodeName")]
        if waiting and not self._looks:
            self._looks = True
            self.timers.after(RETRY_SECONDS, self._schedule)
