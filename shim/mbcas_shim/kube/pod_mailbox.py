"""The node's pods as last heard of: written by the thread that watches, read by the event loop."""

import threading
from collections.abc import Callable, Iterable

from mbcas_shim.kube.pods import Pod

MAX_PODS = 2000  # The largest nodes run about 500; their server takes 10,000 containers.


class PodMailbox:
    """Keeps the newest state of each pod, so that what is not read in time is replaced, not queued.

    A pod that has ended holds nothing any more and is not kept.
    """

    def __init__(self, *, on_first: Callable[[], None]) -> None:
        self._on_first = on_first
        self._lock = threading.Lock()
        self._pods: dict[str, Pod] = {}
        self._is_known = False
        self._is_changed = False

    def replace(self, pods: Iterable[Pod], *, kept_uids: frozenset[str] = frozenset()) -> int:
        """Takes over a whole list; of the pods in `kept_uids` what is known stays.

        Returns how many of the list were too many.
        """
        with self._lock:
            listed = {pod.uid: pod for pod in pods if not pod.is_terminal}
            kept = {uid: self._pods[uid] for uid in kept_uids if uid in self._pods}
            together = kept | listed
            too_many = list(together)[MAX_PODS:]
            for uid in too_many:
                del together[uid]
            self._pods = together
            is_first, self._is_known, self._is_changed = not self._is_known, True, True
        if is_first:
            self._on_first()
        return len(too_many)

    def put(self, pod: Pod) -> bool:
        """Takes over one pod; false where there are too many already."""
        if pod.is_terminal:
            self.remove(pod.uid)
            return True
        with self._lock:
            before = self._pods.get(pod.uid)
            if before is None and len(self._pods) >= MAX_PODS:
                return False
            if before != pod:
                self._pods[pod.uid] = pod
                self._is_changed = True
            return True

    def remove(self, uid: str) -> None:
        with self._lock:
            if self._pods.pop(uid, None) is not None:
                self._is_changed = True

    def find(self, uid: str) -> Pod | None:
        with self._lock:
            return self._pods.get(uid)

    def take(self) -> list[Pod] | None:
        """All pods, where anything changed since the last call."""
        with self._lock:
            if not self._is_changed:
                return None
            self._is_changed = False
            return list(self._pods.values())
