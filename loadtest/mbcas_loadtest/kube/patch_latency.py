"""How long a PATCH takes to the kernel as MBCAS sends it, beside a bare client in the same run.

Both resize the same pods by turns, far enough apart that no change waits for the one before. The
time runs from just before the order is handed over, or the PATCH sent, until the quota is in the
container's cgroup, which is looked at every half millisecond.
"""

import asyncio
import http.client
import json
import ssl
import statistics
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from mbcas.v1 import node_link_pb2 as pb
from mbcas_loadtest.clock import monotonic_seconds, sleep_seconds
from mbcas_loadtest.errors import DemoError
from mbcas_shim.clock import MonotonicClock
from mbcas_shim.counters import Counters
from mbcas_shim.inventory import Cpu
from mbcas_shim.kube.api import STRATEGIC_MERGE, KubeApi, KubeApiAddress
from mbcas_shim.kube.enforce_resize import ResizeEnforcer
from mbcas_shim.kube.pods import Pod, parse_pod
from mbcas_shim.kube.resize_patch import patch_body
from mbcas_shim.kube.resizer import Resizer
from mbcas_shim.kube.start_check import StartCheck
from mbcas_shim.orders import Order

LIMITS_MILLICORES = (250, 1000)
PERIOD_USEC = 100_000
LOOK_SECONDS = 0.0005
APPLIED_SECONDS_MAX = 30.0
SPACING_SECONDS = (3.0, 3.8)
"""Between two changes of one pod, drawn anew each time: no beat with the kubelet's own."""

Send = Callable[[Pod, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A running pod of one container, whose limit may be anything, and that one's quota."""

    pod: Pod
    quota_file: Path


def bench_patches(
    address: KubeApiAddress,
    subjects: Sequence[Subject],
    *,
    patches: int,
    seed: int,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Sends so many patches each way.

    Raises:
        DemoError: One was refused, or never came to the kernel.
    """
    return asyncio.run(_bench(address, subjects, patches=patches, seed=seed, tell=tell))


async def _bench(
    address: KubeApiAddress,
    subjects: Sequence[Subject],
    *,
    patches: int,
    seed: int,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    seconds: dict[str, list[float]] = {"bare": [], "mbcas": []}
    next_seconds = [monotonic_seconds()] * len(subjects)
    pods = [subject.pod for subject in subjects]
    with closing(_BareClient(address)) as bare, closing(_Shim(address, pods)) as shim:
        senders: dict[str, Send] = {"bare": bare.send, "mbcas": shim.send}
        for number in range(2 * patches):
            # Of four changes of a pod, down and up by turns, each sends one down and one up.
            turn, index = divmod(number, len(subjects))
            name = ("bare", "mbcas", "mbcas", "bare")[(turn + 2 * index) % 4]
            await asyncio.sleep(next_seconds[index] - monotonic_seconds())
            shim.look(subjects[index].pod)
            seconds[name].append(await _applied_seconds(subjects[index], senders[name]))
            next_seconds[index] = monotonic_seconds() + generator.uniform(*SPACING_SECONDS)
            if number % 20 == 0:
                tell(f"{number} of {2 * patches} patches")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "schema": "mbcas.bench.kubernetes-patches/1",
        "ratio_of_medians": round(medians["mbcas"] / medians["bare"], 3),
        **{f"{name}_seconds": _summary(values) for name, values in seconds.items()},
    }


async def _applied_seconds(subject: Subject, send: Send) -> float:
    """Sends one change, and returns how long it took to the cgroup."""
    low, high = LIMITS_MILLICORES
    limit_millicores = high if _quota_usec(subject) == _usec(low) else low
    with ThreadPoolExecutor(1) as looker:
        begin_seconds = monotonic_seconds()
        seen = looker.submit(_seen_seconds, subject, _usec(limit_millicores), begin_seconds)
        await send(subject.pod, limit_millicores)
        return await asyncio.wrap_future(seen) - begin_seconds


def _seen_seconds(subject: Subject, wanted_usec: int, begin_seconds: float) -> float:
    while _quota_usec(subject) != wanted_usec:
        if monotonic_seconds() > begin_seconds + APPLIED_SECONDS_MAX:
            raise DemoError(f"{subject.pod.name}: no quota of {wanted_usec} us came")
        sleep_seconds(LOOK_SECONDS)
    return monotonic_seconds()


def _usec(limit_millicores: int) -> int:
    return limit_millicores * PERIOD_USEC // 1000


def _quota_usec(subject: Subject) -> int:
    """Reads cpu.cfs_quota_us, or the first word of cpu.max."""
    word = subject.quota_file.read_text().split()[0]
    return -1 if word == "max" else int(word)


def _summary(values: Iterable[float]) -> dict[str, float]:
    array = np.array(list(values))
    p50, p90 = np.percentile(array, (50, 90))
    return {
        "count": array.size,
        "min": round(float(array.min()), 4),
        "p50": round(float(p50), 4),
        "p90": round(float(p90), 4),
        "max": round(float(array.max()), 4),
    }


class _BareClient:
    """One kept-alive connection and nothing else."""

    def __init__(self, address: KubeApiAddress) -> None:
        parts = urlsplit(address.url)
        host, port = parts.hostname or "", parts.port or 443
        self._token = "" if address.token_file is None else address.token_file.read_text().strip()
        context = ssl.create_default_context(cafile=str(address.ca_file))
        self._connection = http.client.HTTPSConnection(host, port, context=context)

    def close(self) -> None:
        self._connection.close()

    async def send(self, pod: Pod, limit_millicores: int) -> None:
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/resize"
        body = json.dumps(patch_body(pod, {pod.containers[0].name: Cpu(None, limit_millicores)}))
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": STRATEGIC_MERGE}
        self._connection.request("PATCH", path, body, headers)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise DemoError(f"{pod.name}: {answer.status} {said[:200]!r}")


class _Pods:
    """The pods as the API server has them."""

    def __init__(self, api: KubeApi, pods: Iterable[Pod]) -> None:
        self._api = api
        self._by_uid = {pod.uid: pod for pod in pods}

    @property
    def pods(self) -> Iterable[Pod]:
        return self._by_uid.values()

    def find(self, uid: str) -> Pod | None:
        return self._by_uid.get(uid)

    def look(self, uid: str) -> None:
        """Takes over what a watch would have told by now."""
        pod = self._by_uid[uid]
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        self._by_uid[uid] = parse_pod(self._api.request("GET", path).body)


class _Shim:
    """The part of a shim that carries out orders."""

    def __init__(self, address: KubeApiAddress, pods: Iterable[Pod]) -> None:
        self._api, clock = KubeApi(address), MonotonicClock()
        counters = Counters(clock)
        self._pods = _Pods(self._api, pods)
        check = StartCheck(self._api, clock=clock, counters=counters)
        self._resizer = Resizer(self._api, self._pods, counters, check=check)
        self._enforcer = ResizeEnforcer(self._resizer, clock=clock, room_millicores=lambda: 0)

    def close(self) -> None:
        self._resizer.close()
        self._api.close()

    def look(self, pod: Pod) -> None:
        """Lets it know what the bare client has done."""
        self._pods.look(pod.uid)

    async def send(self, pod: Pod, limit_millicores: int) -> None:
        order = Order(
            order_id=1,
            pod_uid=pod.uid,
            container=pod.containers[0].name,
            desired=Cpu(None, limit_millicores),
            burst_usec=None,
            admitted=None,
            restores_exactly=False,
            expected_generation=0,
            expires_seconds=0.0,
            lane=pb.LANE_NORMAL,
        )
        (answer,) = await self._enforcer.apply([order])
        if answer.outcome != pb.OUTCOME_APPLIED:
            raise DemoError(f"{pod.name}: {answer.status} {answer.cause} {answer.field}")
