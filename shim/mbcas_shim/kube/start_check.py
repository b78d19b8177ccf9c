"""Whether pods of this cluster can be resized, and whether this shim may do so.

A shim that may not still starts, measures and reports: its rows carry the reason, which reaches
whoever looks at them, and nothing restarts in a loop. It asks again until it may.
"""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus

from mbcas_shim.clock import Clock
from mbcas_shim.counters import Counters
from mbcas_shim.kube.api import KubeApi, KubeApiError
from mbcas_shim.kube.untrusted import Fields, MalformedError

SUBRESOURCE = "pods/resize"
UNSUPPORTED_REASON = (
    f"the API server has no {SUBRESOURCE}: it needs Kubernetes 1.33, or the feature gate "
    "InPlacePodVerticalScaling"
)
DENIED_REASON = (
    f"may not patch {SUBRESOURCE}: the shim's service account needs this right in all namespaces"
)
AGAIN_SECONDS = 60.0  # While something is missing, or nothing could be learned.
ALL_WELL_SECONDS = 600.0  # A right may be taken away; a refused PATCH makes it ask at once.
_MAX_NAMESPACES = 1000
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

_log = logging.getLogger(__name__)


class StartCheck:
    """Knows why no pod of this node can be resized; asks at the start and from time to time."""

    def __init__(
        self,
        api: KubeApi,
        *,
        clock: Clock,
        counters: Counters,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.skip_reason = ""
        """For every row; empty while nothing speaks against it."""
        self.on_change = on_change
        """Called when the reason has changed."""
        self._api = api
        self._clock = clock
        self._counters = counters
        self._asked_seconds = -AGAIN_SECONDS
        self._denied: dict[str, tuple[float, bool]] = {}
        """By namespace: when it was asked, and whether the right was lacking."""

    async def run(self) -> None:
        """Asks for ever."""
        while True:
            is_known = await self.check()
            is_well = is_known and not self.skip_reason
            wait_seconds = ALL_WELL_SECONDS if is_well else AGAIN_SECONDS
            await self._clock.sleep_until(self._clock.now_seconds() + wait_seconds)

    async def check_again(self) -> None:
        """Asks because something was refused, unless that was done a moment ago."""
        if self._clock.now_seconds() >= self._asked_seconds + AGAIN_SECONDS:
            await self.check()

    async def is_denied(self, namespace: str) -> bool:
        """True where this shim lacks the right in a namespace, and a refusal comes from that."""
        now = self._clock.now_seconds()
        if namespace not in self._denied or now >= self._denied[namespace][0] + AGAIN_SECONDS:
            try:
                is_allowed = await asyncio.to_thread(self._may_patch, namespace)
            except (KubeApiError, MalformedError) as error:
                self._counters.count("start_check_failed", error)
                return False
            if len(self._denied) >= _MAX_NAMESPACES:
                self._denied.clear()
            self._denied[namespace] = now, not is_allowed
        return self._denied[namespace][1]

    async def check(self) -> bool:
        """Asks now; false where nothing was learned, and then the last answer stays."""
        self._asked_seconds = self._clock.now_seconds()
        try:
            reason = await asyncio.to_thread(self._ask)
        except (KubeApiError, MalformedError) as error:
            self._counters.count("start_check_failed", error)
            return False
        if reason != self.skip_reason:
            self.skip_reason = reason
            if reason:
                _log.error("no pod of this node can be resized: %s", reason)
            else:
                _log.info("pods of this node can be resized now")
            self.on_change()
        return True

    def _ask(self) -> str:
        resources = self._api.request("GET", "/api/v1")
        if resources.status == HTTPStatus.OK:
            names = {entry.text("name") for entry in Fields(resources.body).objects("resources")}
            if SUBRESOURCE not in names:
                return UNSUPPORTED_REASON
        return "" if self._may_patch("") else DENIED_REASON

    def _may_patch(self, namespace: str) -> bool:
        """Asks for one namespace, or with an empty one for all of them."""
        attributes = {"verb": "patch", "resource": "pods", "subresource": "resize"}
        if namespace:
            attributes["namespace"] = namespace
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._api.request("POST", _REVIEWS, body=review)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise KubeApiError("the API server does not accept the shim's token")
        if answer.status != HTTPStatus.CREATED:
            raise KubeApiError(f"{_REVIEWS}: {answer.status} {answer.message}")
        return Fields(answer.body).object("status").flag("allowed", default=False)
