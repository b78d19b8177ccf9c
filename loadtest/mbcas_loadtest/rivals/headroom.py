"""kube-headroom: limits follow how much of the node nobody has requested.

**Rule** (karlkfi/kube-headroom, internal/policy/policy.go, commit 0f1dc08; the split over a pod's
containers in internal/controller/podinput.go, commit 271e8c0; who is managed in
internal/eligibility/eligibility.go, commit 43f2397). With the slack S = allocatable - all requests,
R the requests of managed pods and N their number, a managed pod of request r gets

    r + max(S r / R, min(1000m, S / N)),  at most min(allocatable, r x maxMultiplier),  at least r,

in steps of 10m; r itself where S <= 0. A limit grows if by 10 % or more and shrinks if by 5 % or
more. A pod's containers share its limit by request, in whole millicores, the largest remainders
first. Usage plays no part: it changes when pods come and go.

**Ours.** There, a pod whose requests all equal its limits is Guaranteed, and left alone. The worlds
here declare one number for both, and a rival that never acts shows nothing; so every pod is managed
as if its owner had declared the request alone. It looks every two seconds, its debounce period. Its
own bound of 10 patches a second and node is left to the resize budget.

**Example.** 4 CPUs, requests 100m, 300m and 600m: S = 3000, N = 3. The first gets 100 + max(300,
1000) = 1100, cut to its tenfold 1000m; the second 1300m; the third 600 + 1800 = 2400m.
"""

import numpy as np

from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import Declared

BURST_FLOOR_MILLICORES = 1000.0
QUANTUM_MILLICORES = 10
GROW_RATIO = 0.1
SHRINK_RATIO = 0.05


class Headroom:
    """The policy on m nodes of n containers in p pods."""

    interval_periods = 20
    actuation = Actuation.API

    def __init__(self, declared: Declared, max_multiplier: float) -> None:
        assert max_multiplier >= 1.0, "a limit is never below its request"
        self._max_multiplier = max_multiplier
        self._allocatable_millicores = 1000 * declared.cpus
        self._pod = declared.pod
        self._request = declared.request_millicores
        pods = int(declared.pod[-1]) + 1 if declared.pod.size else 0
        self._in_pod: FloatArray = (declared.pod[:, np.newaxis] == np.arange(pods)).astype(float)
        """(n, p)."""
        self._pod_request: FloatArray = self._request @ self._in_pod
        self._declared_limit: FloatArray = np.where(
            declared.limit_millicores > 0, declared.limit_millicores, np.inf
        )

    def step(self, seen: Seen) -> Settings | None:
        pod_exists = seen.exists.astype(np.float64) @ self._in_pod > 0
        target = self._targets(pod_exists)
        now = np.where(seen.exists, seen.applied.limit_millicores, self._declared_limit)
        unset = np.where(np.isfinite(now), 0.0, 1.0) @ self._in_pod > 0
        pod_now = np.where(np.isfinite(now), now, 0.0) @ self._in_pod
        band = np.where(target < pod_now, SHRINK_RATIO, GROW_RATIO)
        apply = unset | (np.abs(target - pod_now) >= band * pod_now)
        apply &= pod_exists & (unset | (target != pod_now))
        if not apply.any():
            return None
        limit = np.where(apply[:, self._pod], self._split(target), now)
        return Settings(
            request_millicores=self._request.astype(np.float64),
            limit_millicores=limit,
            burst_millicores=np.zeros(limit.shape),
        )

    def _targets(self, pod_exists: BoolArray) -> IntArray:
        """Returns the limits of pods, (m, p)."""
        request = self._pod_request
        asked = (request * pod_exists).sum(axis=-1, keepdims=True)
        slack = np.maximum(self._allocatable_millicores - asked, 0.0)
        count = np.maximum(pod_exists.sum(axis=-1, keepdims=True), 1)
        floor = np.minimum(BURST_FLOOR_MILLICORES, slack / count)
        burst = np.maximum(slack * request / np.maximum(asked, 1.0), floor)
        most = np.minimum(self._allocatable_millicores, _half_up(request * self._max_multiplier))
        most = np.maximum(most, request)
        raw = np.minimum(request + _half_up(burst), most)
        target = (raw + QUANTUM_MILLICORES // 2) // QUANTUM_MILLICORES * QUANTUM_MILLICORES
        target = np.where(target > most, target - QUANTUM_MILLICORES, target)
        targets: IntArray = np.maximum(target, request).astype(np.int64)
        return targets

    def _split(self, target: IntArray) -> FloatArray:
        """Shares the pods' limits (m, p) among their containers (m, n)."""
        share = target[:, self._pod] * self._request / self._pod_request[..., self._pod]
        base = np.maximum(np.floor(share), self._request)
        left = target - (base @ self._in_pod).astype(np.int64)
        order = np.lexsort((-(share - np.floor(share)), np.broadcast_to(self._pod, share.shape)))
        # The containers of a pod stay together, so a place counts from the pod's first.
        first = np.searchsorted(self._pod, self._pod)
        place = np.empty_like(order)
        np.put_along_axis(place, order, np.arange(order.shape[-1]) - first, axis=-1)
        split: FloatArray = base + (place < left[:, self._pod])
        return split


def _half_up(value: FloatArray) -> FloatArray:
    rounded: FloatArray = np.floor(value + 0.5)
    return rounded


HEADROOM = Rival(
    name="kube-headroom",
    make=Headroom,
    knob="maxMultiplier",
    default=10.0,
    sweep=(30.0, 10.0, 5.0, 3.0, 2.0, 1.5, 1.2),
    source="karlkfi/kube-headroom, internal/policy/policy.go, commit 0f1dc08",
    goods=2,
)
