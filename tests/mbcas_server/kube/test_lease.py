"""Which server decides, and when it stops: on the fake, with a clock that the tests move."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mbcas_server.kube.client import KubeClient, connect
from mbcas_server.kube.lease import KEEP_STREAMS_SECONDS, LeaseLeadership
from mbcas_server.leadership import NotRememberedError
from mbcas_server.metrics import Metrics
from mbcas_server.status import RefusedError
from tests.kube.fake_cluster import FakeCluster
from tests.kube.requests import Request
from tests.mbcas_server.fakes import VirtualClock, settings
from tests.mbcas_server.kube.rig import write_kubeconfig

PATH = "/apis/coordination.k8s.io/v1/namespaces/mbcas-system/leases/mbcas"
SETTINGS = settings(lease_seconds=15, lease_renew_seconds=10, lease_retry_seconds=2)


@dataclass
class Server:
    """One of several."""

    leadership: LeaseLeadership
    clock: VirtualClock
    prepared: asyncio.Event
    ended: list[RefusedError] = field(default_factory=list)
    lost: list[bool] = field(default_factory=list)

    # Methods, because a type checker takes what a property said for what it will say.
    def leads(self) -> bool:
        return self.leadership.leads

    def may_order(self) -> bool:
        return self.leadership.may_order

    def frozen(self) -> bool:
        return self.leadership.frozen

    async def look(self, seconds: float = 2.0) -> None:
        """Lets time pass here, and one look at the Lease end."""
        self.clock.now += seconds
        await self.leadership._look()
        if self.leadership._holds and self.prepared.is_set() and not self.leadership._prepared:
            await self.leadership._prepare()
        self.leadership._tell()


def make(client: KubeClient, identity: str) -> Server:
    clock, prepared = VirtualClock(), asyncio.Event()
    prepared.set()
    ended: list[RefusedError] = []
    lost: list[bool] = []
    leadership = LeaseLeadership(
        client=client,
        clock=clock,
        metrics=Metrics(),
        settings=SETTINGS,
        namespace="mbcas-system",
        identity=identity,
        prepare=prepared.wait,  # type: ignore[arg-type] # It returns True, which nobody reads.
        end_streams=ended.append,
        lose=lambda: lost.append(True),
    )
    return Server(leadership, clock, prepared, ended, lost)


@dataclass
class World:
    cluster: FakeCluster
    client: KubeClient

    def server(self, identity: str) -> Server:
        return make(self.client, identity)

    def lease(self) -> dict[str, Any]:
        with self.cluster.store.changed:
            return self.cluster.store.get("leases", "mbcas-system", "mbcas")

    def change(self, **fields: Any) -> None:  # noqa: ANN401 - JSON.
        """Changes the Lease as somebody else does."""
        with self.cluster.store.changed:
            old = self.cluster.store.get("leases", "mbcas-system", "mbcas")
            spec = old["spec"] | fields.pop("spec", {})
            metadata = old["metadata"] | fields
            self.cluster.api.answer(
                Request(method="PUT", path=PATH, body={**old, "metadata": metadata, "spec": spec})
            )

    def delete(self) -> None:
        with self.cluster.store.changed:
            self.cluster.api.answer(Request(method="DELETE", path=PATH))


@pytest.fixture
async def world(cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[World]:
    client = await connect(write_kubeconfig(cluster, tmp_path))
    try:
        yield World(cluster, client)
    finally:
        await client.close()


async def test_the_first_server_makes_the_lease_and_decides(world: World) -> None:
    server = world.server("a")

    await server.look()

    assert server.leads()
    made_seconds = int(server.clock.unix_seconds())
    assert server.leadership.epoch == made_seconds + 1
    spec = world.lease()["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("a", made_seconds)
    server.leadership.check()


async def test_it_does_not_decide_before_all_is_loaded(world: World) -> None:
    server = world.server("a")
    server.prepared.clear()

    await server.look()
    assert server.may_order()
    assert not server.leads()
    with pytest.raises(RefusedError, match="loading what must be known first"):
        server.leadership.check()

    server.prepared.set()
    await server.look()
    assert server.leads()


async def test_a_second_one_stands_by_and_says_who_decides(world: World) -> None:
    first, second = world.server("a"), world.server("b")
    await first.look()

    await second.look()

    assert not second.leads()
    with pytest.raises(RefusedError, match="held by a"):
        second.leadership.check()


async def test_who_renews_no_more_is_replaced_after_the_lease_but_stops_before(
    world: World,
) -> None:
    first, second = world.server("a"), world.server("b")
    await first.look()
    await second.look()

    first.clock.now += 9.9
    assert first.may_order()
    first.clock.now += 0.2
    assert not first.may_order()
    await second.look(14.9)
    assert not second.leads()
    await second.look(0.2)

    assert second.leads()
    assert second.leadership.epoch == first.leadership.epoch + 1


async def test_of_two_at_once_one_wins(world: World) -> None:
    servers = [world.server(name) for name in "abcd"]

    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(server.look())

    assert sum(server.leads() for server in servers) == 1


async def test_an_orderly_end_leaves_the_lease_to_the_next_at_once(world: World) -> None:
    first, second = world.server("a"), world.server("b")
    await first.look()
    await second.look()

    await first.leadership.give_up()
    await second.look()

    assert not first.may_order()
    assert second.leads()
    assert second.leadership.epoch == first.leadership.epoch + 1


async def test_a_holder_that_finds_another_one_is_over(world: World) -> None:
    server = world.server("a")
    await server.look()

    world.change(spec={"holderIdentity": "rival", "leaseTransitions": 1})
    await server.look()

    assert server.lost == [True]
    assert not server.may_order()
    with pytest.raises(RefusedError, match="lost to another server"):
        server.leadership.check()
    await server.leadership.give_up()
    assert world.lease()["spec"]["holderIdentity"] == "rival"


async def test_while_the_api_server_is_down_the_holder_rests_and_then_goes_on(
    world: World,
) -> None:
    server = world.server("a")
    await server.look()
    epoch = server.leadership.epoch
    world.cluster.set_down(is_down=True)

    for _ in range(30):
        await server.look()
    assert not server.may_order()
    assert not server.leads()
    server.leadership.check()  # Its streams stay, and callers may read.
    assert not server.ended

    world.cluster.set_down(is_down=False)
    await server.look()
    assert server.leads()
    assert server.leadership.epoch == epoch
    assert not server.lost


async def test_a_holder_cut_off_for_long_lets_its_shims_go_once(world: World) -> None:
    server = world.server("a")
    await server.look()
    world.cluster.set_down(is_down=True)

    await server.look(KEEP_STREAMS_SECONDS + 11)
    await server.look()

    assert [error.reason for error in server.ended] == ["STANDBY"]
    with pytest.raises(RefusedError, match="not renewed for too long"):
        server.leadership.check()


async def test_a_deleted_lease_comes_back_with_its_epoch_and_freeze(world: World) -> None:
    server = world.server("a")
    await server.look()
    world.change(spec={"holderIdentity": ""})
    server = world.server("b")
    await server.look()
    await server.leadership.set_frozen(frozen=True)
    epoch = server.leadership.epoch

    world.delete()
    await server.look()

    assert server.leads()
    assert server.leadership.epoch == epoch
    assert server.frozen()
    assert world.lease()["metadata"]["annotations"] == {"mbcas.io/frozen": "true"}


async def test_a_standby_leaves_a_deleted_lease_to_its_holder_first(world: World) -> None:
    first, second = world.server("a"), world.server("b")
    await first.look()
    await second.look()
    world.delete()

    await second.look()
    assert not second.leads()
    await second.look(15)

    assert second.leads()
    assert second.leadership.epoch > first.leadership.epoch


async def test_a_lease_that_was_deleted_while_no_server_ran_begins_above_the_last_epoch(
    world: World,
) -> None:
    first, second = world.server("a"), world.server("b")
    await first.look()
    await second.look()
    await first.leadership.give_up()
    await second.look()
    await second.leadership.give_up()
    world.delete()

    third = world.server("c")
    await third.look(20)

    assert third.leads()
    assert third.leadership.epoch > second.leadership.epoch


async def test_a_number_above_the_time_of_day_that_is_remembered_counts(world: World) -> None:
    first, second = world.server("a"), world.server("b")
    await first.look()
    world.change(spec={"leaseTransitions": 2_000_000_000})
    await second.look()
    world.delete()

    await second.look(15)

    assert second.leads()
    assert second.leadership.epoch == 2_000_000_002


@pytest.mark.parametrize(("value", "frozen"), [("true", True), ("false", False), ("yes", True)])
async def test_a_freeze_written_by_hand_is_followed(
    world: World, value: str, *, frozen: bool
) -> None:
    server = world.server("a")
    await server.look()

    world.change(annotations={"mbcas.io/frozen": value, "other": "kept"})
    await server.look()

    assert server.frozen() is frozen
    assert server.leads()
    assert world.lease()["metadata"]["annotations"]["other"] == "kept"


async def test_a_freeze_outlives_the_server_and_a_thaw_ends_it(world: World) -> None:
    first, second = world.server("a"), world.server("b")
    await first.look()
    await first.leadership.set_frozen(frozen=True)
    await first.leadership.give_up()

    await second.look()
    assert second.frozen()
    await second.leadership.set_frozen(frozen=False)

    assert not second.frozen()
    assert "mbcas.io/frozen" not in world.lease()["metadata"].get("annotations", {})


async def test_a_freeze_holds_at_once_and_is_written_when_it_can_be(world: World) -> None:
    server = world.server("a")
    await server.look()
    world.cluster.set_down(is_down=True)

    with pytest.raises(NotRememberedError):
        await server.leadership.set_frozen(frozen=True)
    assert server.frozen()

    world.cluster.set_down(is_down=False)
    await server.look()
    assert world.lease()["metadata"]["annotations"] == {"mbcas.io/frozen": "true"}


async def test_a_thaw_that_is_not_written_down_does_not_thaw(world: World) -> None:
    server = world.server("a")
    await server.look()
    await server.leadership.set_frozen(frozen=True)
    world.cluster.set_down(is_down=True)

    with pytest.raises(NotRememberedError):
        await server.leadership.set_frozen(frozen=False)

    assert server.frozen()


@pytest.mark.parametrize(
    "spec",
    [
        {"leaseTransitions": "many", "renewTime": 5, "leaseDurationSeconds": None},
        {"leaseTransitions": -5, "leaseDurationSeconds": 10**9},
        {"leaseTransitions": True},
    ],
)
async def test_a_lease_with_nonsense_on_it_is_taken_when_its_time_is_over(
    world: World, spec: dict[str, Any]
) -> None:
    first, second = world.server("a"), world.server("b")
    await first.look()
    world.change(spec={"holderIdentity": "ghost", **spec})

    await second.look()
    await second.look(301)

    assert second.leads()
    assert second.leadership.epoch >= 1


async def test_it_runs_until_the_lease_is_lost(world: World) -> None:
    server = world.server("a")

    async with asyncio.timeout(10), running(server) as turn:
        await turn(server.leads)
        world.change(spec={"holderIdentity": "rival"})
        await turn(lambda: server.lost)


@asynccontextmanager
async def running(
    server: Server,
) -> AsyncIterator[Callable[[Callable[[], object]], Any]]:
    async def turn(condition: Callable[[], object]) -> None:
        while not condition():
            await server.clock.advance(2.0 if server.clock.sleepers else 0.0)
            await asyncio.sleep(0.002)

    async with asyncio.TaskGroup() as group:
        group.create_task(server.leadership.run())
        yield turn
