"""The core's notices about pods as events that kubectl shows beside them, never a flood."""

import asyncio
import logging
import socket
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mbcas_core.effects import PodNotice
from mbcas_server.clock import Clock
from mbcas_server.kube.buckets import Bucket
from mbcas_server.kube.client import ApiError, KubeClient, Object, api_path
from mbcas_server.logs import LimitedLog
from mbcas_server.metrics import Metrics

QUEUE_MAX = 1_000
QUIET_SECONDS = 600.0  # The same event of the same container is not told again sooner.
REMEMBERED_MAX = 20_000
PER_SECOND = 5.0  # Over all, of the API server's writes.
BURST = 50.0
NAMESPACE_PER_SECOND = 0.2
NAMESPACE_BURST = 25.0
NAMESPACES_MAX = 5_000
MESSAGE_MAX = 1_000  # The API takes 1,024 bytes.
COMPONENT = "mbcas"

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, kw_only=True)
class PodEvents:
    """Takes notices without waiting, and sends what is worth it."""

    client: KubeClient
    clock: Clock
    metrics: Metrics
    instance: str = field(default_factory=socket.gethostname)
    _queue: asyncio.Queue[PodNotice] = field(init=False)
    _told: OrderedDict[tuple[str, str, str], float] = field(init=False, default_factory=OrderedDict)
    _overall: Bucket = field(init=False)
    _namespaces: OrderedDict[str, Bucket] = field(init=False, default_factory=OrderedDict)
    _log: LimitedLog = field(init=False)

    def __post_init__(self) -> None:
        self._queue = asyncio.Queue(QUEUE_MAX)
        self._overall = Bucket(self.clock, per_second=PER_SECOND, burst=BURST)
        self._log = LimitedLog(logger, self.clock)

    def put(self, notice: PodNotice) -> None:
        """Takes a notice, unless it was told lately or too much is told already."""
        result = ""
        if self._is_repeated(notice):
            result = "repeated"
        elif not (self._namespace(notice.namespace).take() and self._overall.take()):
            result = "over_budget"
        elif self._queue.full():
            result = "dropped"
        if result:
            self.metrics.pod_events.labels(result=result).inc()
            return
        self._told[_kind_of(notice)] = self.clock.now_seconds()
        self._told.move_to_end(_kind_of(notice))
        while len(self._told) > REMEMBERED_MAX:
            self._told.popitem(last=False)
        self._queue.put_nowait(notice)

    async def run(self) -> None:
        """Sends, for as long as it is let; an event that fails is not tried again."""
        while True:
            notice = await self._queue.get()
            path = api_path("v1", "events", namespace=notice.namespace)
            try:
                await self.client.call("POST", path, body=self._event(notice))
            except ApiError as error:
                self.metrics.pod_events.labels(result="failed").inc()
                pod = f"{notice.namespace}/{notice.pod}"
                self._log.log(logging.WARNING, "event not sent", f"pod={pod} error={error}")
            else:
                self.metrics.pod_events.labels(result="sent").inc()

    def _is_repeated(self, notice: PodNotice) -> bool:
        told_seconds = self._told.get(_kind_of(notice))
        return told_seconds is not None and self.clock.now_seconds() - told_seconds < QUIET_SECONDS

    def _namespace(self, name: str) -> Bucket:
        bucket = self._namespaces.get(name)
        if bucket is None:
            bucket = self._namespaces[name] = Bucket(
                self.clock, per_second=NAMESPACE_PER_SECOND, burst=NAMESPACE_BURST
            )
        self._namespaces.move_to_end(name)
        while len(self._namespaces) > NAMESPACES_MAX:
            self._namespaces.popitem(last=False)
        return bucket

    def _event(self, notice: PodNotice) -> Object:
        now = datetime.fromtimestamp(self.clock.unix_seconds(), UTC)
        time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{notice.pod[:200]}.", "namespace": notice.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": notice.namespace,
                "name": notice.pod,
                "uid": notice.pod_uid,
                "fieldPath": f"spec.containers{{{notice.container}}}",
            },
            "reason": notice.event[:128],
            "message": notice.message[:MESSAGE_MAX],
            "type": "Warning" if notice.warning else "Normal",
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self.instance[:128],
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        }


def _kind_of(notice: PodNotice) -> tuple[str, str, str]:
    return notice.pod_uid, notice.container, notice.event
