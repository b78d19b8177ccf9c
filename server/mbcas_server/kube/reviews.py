"""What the API server says about tokens and rights, remembered for a short while.

A token is known here by its hash alone. What is asked at one time is bounded, so that all shims of
a large cluster may come at once; who asks for what is being asked already waits for that answer.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mbcas_server.auth import AUDIENCE, Reviews, ReviewsUnavailableError, Right, User
from mbcas_server.clock import Clock
from mbcas_server.kube.client import ApiError, KubeClient, Object, api_path
from mbcas_server.logs import LimitedLog
from mbcas_server.metrics import Metrics

TOKEN_SECONDS = 60.0  # A token that is withdrawn, or expires, counts for as long.
UNKNOWN_TOKEN_SECONDS = 10.0  # Who tries a bad token again and again is not passed on.
RIGHT_SECONDS = 30.0
TOKENS_MAX = 10_000  # Twice the nodes of the largest cluster.
RIGHTS_MAX = 50_000
SHIM_REVIEWS_AT_ONCE = 10
OTHER_REVIEWS_AT_ONCE = 6
ANSWER_SECONDS = 10.0
NAME_MAX = 1_000
EXTRA_MAX = 50

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class _Remembered(Generic[Answer]):
    """Answers by what was asked, the oldest forgotten first."""

    def __init__(self, clock: Clock, *, answers_max: int) -> None:
        self._clock = clock
        self._answers_max = answers_max
        self._answers: dict[Hashable, tuple[float, Answer]] = {}
        self._asked: dict[Hashable, asyncio.Lock] = {}

    async def find(
        self,
        key: Hashable,
        ask: Callable[[], Awaitable[Answer]],
        seconds: Callable[[Answer], float],
    ) -> Answer:
        """Returns what is remembered, else asks; an error is not remembered."""
        if (known := self._known(key)) is not None:
            return known[1]
        lock = self._asked.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                if (known := self._known(key)) is not None:
                    return known[1]
                answer = await ask()
                until_seconds = self._clock.now_seconds() + seconds(answer)
                self._answers[key] = until_seconds, answer
                while len(self._answers) > self._answers_max:
                    del self._answers[next(iter(self._answers))]
                return answer
        finally:
            if not lock.locked():
                self._asked.pop(key, None)

    def _known(self, key: Hashable) -> tuple[float, Answer] | None:
        known = self._answers.get(key)
        if known is not None and known[0] <= self._clock.now_seconds():
            del self._answers[key]
            return None
        return known


@dataclass(eq=False, slots=True, kw_only=True)
class KubeReviews(Reviews):
    """Asks with TokenReview and SubjectAccessReview."""

    client: KubeClient
    clock: Clock
    metrics: Metrics
    at_once: int
    """Questions; the others wait for their turn."""
    _users: _Remembered[User | None] = field(init=False)
    _rights: _Remembered[bool] = field(init=False)
    _slots: asyncio.Semaphore = field(init=False)
    _log: LimitedLog = field(init=False)

    def __post_init__(self) -> None:
        self._users = _Remembered(self.clock, answers_max=TOKENS_MAX)
        self._rights = _Remembered(self.clock, answers_max=RIGHTS_MAX)
        self._slots = asyncio.Semaphore(self.at_once)
        self._log = LimitedLog(logger, self.clock)

    async def user_of(self, token: str) -> User | None:
        async def ask() -> User | None:
            return _user(await self._review("authentication.k8s.io/v1", "TokenReview", spec))

        spec = {"token": token, "audiences": [AUDIENCE]}
        key = hashlib.sha256(token.encode()).digest()
        return await _in_time(
            self._users.find(
                key, ask, lambda user: TOKEN_SECONDS if user else UNKNOWN_TOKEN_SECONDS
            )
        )

    async def allows(self, user: User, right: Right) -> bool:
        async def ask() -> bool:
            status = await self._review("authorization.k8s.io/v1", "SubjectAccessReview", spec)
            return status.get("allowed") is True

        spec = {
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values) for key, values in user.extra.items()},
            "resourceAttributes": {
                "verb": right.verb,
                "group": right.group,
                "resource": right.resource,
                "namespace": right.namespace,
            },
        }
        who = (user.name, user.uid, user.groups, tuple(sorted(user.extra.items())))
        return await _in_time(self._rights.find((who, right), ask, lambda _: RIGHT_SECONDS))

    async def _review(self, group: str, kind: str, spec: Object) -> Object:
        """Returns the status of a review.

        Raises:
            ReviewsUnavailableError: There is none.
        """
        body = {"apiVersion": group, "kind": kind, "spec": spec}
        try:
            async with self._slots:
                answer = await self.client.call(
                    "POST", api_path(group, f"{kind.lower()}s"), body=body
                )
        except ApiError as error:
            self.metrics.reviews.labels(kind=kind, result="failed").inc()
            # The message of a refusal may repeat what was sent, the token among it.
            found = f"HTTP {error.code}" if error.code else "no answer"
            self._log.log(logging.WARNING, "review failed", f"kind={kind} found={found!r}")
            raise ReviewsUnavailableError(f"{kind}: {found}") from None
        self.metrics.reviews.labels(kind=kind, result="answered").inc()
        status = answer.get("status")
        return status if isinstance(status, dict) else {}


async def _in_time(answer: Awaitable[Answer]) -> Answer:
    """Awaits an answer, and with it its turn."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await answer
    except TimeoutError:
        raise ReviewsUnavailableError(f"no answer within {ANSWER_SECONDS:g} s") from None


def _user(status: Object) -> User | None:
    """Reads a TokenReview's answer; what is not said is not believed."""
    audiences, user = status.get("audiences"), status.get("user")
    if status.get("authenticated") is not True or not isinstance(user, dict):
        return None
    if not isinstance(audiences, list) or AUDIENCE not in audiences:
        # An API server that knows nothing of audiences leaves them out.
        return None
    name = user.get("username")
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
        return None
    extra = user.get("extra")
    pairs = extra.items() if isinstance(extra, dict) else ()
    return User(
        name=name,
        uid=str(user.get("uid") or ""),
        groups=_texts(user.get("groups")),
        extra={str(key): _texts(values) for key, values in list(pairs)[:EXTRA_MAX]},
    )


def _texts(given: object) -> tuple[str, ...]:
    return tuple(str(each) for each in given) if isinstance(given, list) else ()
