"""What is remembered of the API server's answers about tokens and rights, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mbcas_server.auth import ReviewsUnavailableError, Right, User
from mbcas_server.kube import reviews
from mbcas_server.kube.client import ApiError, connect
from mbcas_server.kube.reviews import KubeReviews
from mbcas_server.metrics import Metrics
from tests.kube import reviews as fake
from tests.kube.fake_cluster import FakeCluster
from tests.mbcas_server.fakes import VirtualClock
from tests.mbcas_server.kube.rig import write_kubeconfig

GET_PODS = Right(verb="get", group="", resource="pods", namespace="shop")
DEVELOPER = User(name="developer")


class World:
    def __init__(self, cluster: FakeCluster, reviews: KubeReviews, clock: VirtualClock) -> None:
        self.cluster = cluster
        self.reviews = reviews
        self.clock = clock

    def know(self, token: str, **fields: Any) -> None:  # noqa: ANN401 - of a user.
        given: dict[str, Any] = {"name": "developer", "audiences": ("mbcas",)}
        with self.cluster.store.changed:
            self.cluster.api.users[token] = fake.User(**(given | fields))

    def asked(self) -> int:
        with self.cluster.store.changed:
            return len(self.cluster.api.requests)


@pytest.fixture
async def world(cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[World]:
    client = await connect(write_kubeconfig(cluster, tmp_path))
    clock = VirtualClock()
    try:
        known = KubeReviews(client=client, clock=clock, metrics=Metrics(), at_once=16)
        yield World(cluster, known, clock)
    finally:
        await client.close()


async def test_a_token_is_asked_for_once_a_minute(world: World) -> None:
    world.know("t", node="node-a")

    first = await world.reviews.user_of("t")
    world.clock.now += 59
    await world.reviews.user_of("t")
    assert world.asked() == 1
    assert first is not None
    assert (first.name, first.nodes) == ("developer", ("node-a",))

    world.clock.now += 2
    with world.cluster.store.changed:
        del world.cluster.api.users["t"]
    assert await world.reviews.user_of("t") is None


async def test_a_bad_token_is_asked_for_again_sooner(world: World) -> None:
    assert await world.reviews.user_of("t") is None
    assert await world.reviews.user_of("t") is None
    assert world.asked() == 1

    world.know("t")
    world.clock.now += 11
    assert await world.reviews.user_of("t") is not None


async def test_a_right_is_asked_for_once_in_thirty_seconds(world: World) -> None:
    world.know("t", rights=frozenset({"get pods in shop"}))

    assert await world.reviews.allows(DEVELOPER, GET_PODS)
    world.know("t", rights=frozenset())
    world.clock.now += 29
    assert await world.reviews.allows(DEVELOPER, GET_PODS)
    world.clock.now += 2
    assert not await world.reviews.allows(DEVELOPER, GET_PODS)


async def test_of_many_who_ask_the_same_one_is_passed_on(world: World) -> None:
    world.know("t")

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(world.reviews.user_of("t"))

    assert world.asked() == 1
    assert not world.reviews._users._asked


async def test_the_oldest_answers_are_forgotten_and_none_names_its_token(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.reviews._users, "_answers_max", 3)

    for number in range(5):
        await world.reviews.user_of(f"secret-{number}")

    kept = world.reviews._users._answers
    assert len(kept) == 3
    assert "secret" not in repr(kept)
    await world.reviews.user_of("secret-4")
    assert world.asked() == 5


async def test_a_failure_is_not_remembered_and_says_nothing_of_the_token(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.know("secret")

    async def fail(*_: object, **given: Any) -> dict[str, Any]:  # noqa: ANN401 - as the client's.
        raise ApiError(500, f"cannot store {given['body']}")

    with monkeypatch.context() as patched:
        patched.setattr(type(world.reviews.client), "call", fail)
        with pytest.raises(ReviewsUnavailableError) as caught:
            await world.reviews.user_of("secret")

    assert "secret" not in f"{caught.value!r} {caplog.text}"
    assert "HTTP 500" in caplog.text
    assert await world.reviews.user_of("secret") is not None


async def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews, "ANSWER_SECONDS", 0.05)
    world.reviews._slots = asyncio.Semaphore(0)

    with pytest.raises(ReviewsUnavailableError, match="no answer within"):
        await world.reviews.user_of("t")


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"authenticated": "yes", "audiences": ["mbcas"], "user": {"username": "a"}},
        {"authenticated": True, "audiences": ["other"], "user": {"username": "a"}},
        {"authenticated": True, "user": {"username": "a"}},
        {"authenticated": True, "audiences": ["mbcas"], "user": {}},
        {"authenticated": True, "audiences": ["mbcas"], "user": {"username": "a" * 2000}},
        {"authenticated": True, "audiences": ["mbcas"], "user": "a"},
        {"authenticated": True, "audiences": "mbcas", "user": {"username": "a"}},
    ],
)
def test_what_an_answer_does_not_say_is_not_believed(status: dict[str, Any]) -> None:
    assert reviews._user(status) is None


def test_an_answer_with_odd_claims_keeps_what_is_text() -> None:
    user = {"username": "a", "groups": "all", "extra": {"k": ["v"], "n": 5}}
    found = reviews._user({"authenticated": True, "audiences": ["mbcas"], "user": user})

    assert found == User(name="a", extra={"k": ("v",), "n": ()})
