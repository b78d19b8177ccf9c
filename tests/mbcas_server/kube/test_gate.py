"""No order leaves before what its container was admitted with is written down."""

from pathlib import Path

import pytest

from mbcas_core.effects import Lane
from mbcas_core.events import CpuResources, Outcome
from mbcas_server.kube.allocation import Containers, PodKey
from mbcas_server.kube.pod_allocations import PodAllocations
from tests.kube.fake_cluster import FakeCluster
from tests.kube.requests import Fault
from tests.mbcas_server.kube.rig import key_of, order_for, results, rigged, sent

OBJECTS = "podallocations"


async def test_the_first_order_waits_until_its_pod_allocation_is_there(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()

        rig.objects.send(link, (order_for(pod),))
        at_once = sent(rig, link)
        await rig.eventually(rig.objects_there)
        await rig.eventually(lambda: link.outbox._orders)

        (made,) = rig.objects_there()
        assert at_once == []
        assert sent(rig, link) == [1]
        assert made["metadata"]["name"] == f"web-{pod.uid.replace('-', '')[:8]}"
        assert made["metadata"]["ownerReferences"][0]["uid"] == pod.uid
        assert made["spec"]["containers"][0]["admitted"] == {"request": "20m", "limit": "500m"}


async def test_a_later_order_passes_without_a_write(cluster: FakeCluster, tmp_path: Path) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        rig.objects.send(link, (order_for(pod),))
        await rig.eventually(lambda: sent(rig, link))
        writes = len([each for each in cluster.api.requests if each.method in ("POST", "PATCH")])

        rig.objects.send(link, (order_for(pod, 2),))

        assert sent(rig, link) == [2]
        assert (
            len([each for each in cluster.api.requests if each.method in ("POST", "PATCH")])
            == writes
        )


async def test_other_admitted_values_are_written_before_the_order_that_rests_on_them(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        rig.objects.send(link, (order_for(pod),))
        await rig.eventually(lambda: sent(rig, link))
        raised = CpuResources(request_millicores=20, limit_millicores=700)

        rig.objects.send(link, (order_for(pod, 2, admitted=raised),))
        at_once = sent(rig, link)
        await rig.eventually(lambda: link.outbox._orders)

        (changed,) = rig.objects_there()
        assert at_once == []
        assert changed["spec"]["containers"][0]["admitted"]["limit"] == "700m"


async def test_orders_of_one_pod_keep_their_order_behind_a_write(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()

        rig.objects.send(link, (order_for(pod, 1), order_for(pod, 2)))
        rig.objects.send(link, (order_for(pod, 3, lane=Lane.EMERGENCY),))
        await rig.eventually(lambda: len(link.outbox._orders) == 3)

        assert sent(rig, link) == [1, 2, 3]


async def test_no_order_overtakes_one_of_its_pod_that_is_held(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        rig.objects.send(link, (order_for(pod),))
        await rig.eventually(lambda: sent(rig, link))
        raised = CpuResources(request_millicores=20, limit_millicores=700)

        rig.objects.send(link, (order_for(pod, 2, admitted=raised), order_for(pod, 3)))
        await rig.eventually(lambda: len(link.outbox._orders) == 2)

        assert sent(rig, link) == [2, 3]


async def test_an_order_whose_write_is_refused_never_leaves_and_the_core_is_told(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        cluster.fail(Fault(code=403, method="POST", path_part=OBJECTS))

        rig.objects.send(link, (order_for(pod, 7),))
        await rig.eventually(lambda: link.inbox._results)

        (result,) = results(link)
        assert (result.order_id, result.outcome, result.cause) == (
            7,
            Outcome.REFUSED,
            "PodAllocation",
        )
        assert sent(rig, link) == []
        assert rig.links.take_due() == [link.node]
        assert rig.metrics.orders_refused._value.get() == 1


async def test_the_next_order_of_a_pod_tries_again(cluster: FakeCluster, tmp_path: Path) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        cluster.fail(Fault(code=500, method="POST", path_part=OBJECTS))
        rig.objects.send(link, (order_for(pod, 1),))
        await rig.eventually(lambda: link.inbox._results)

        rig.objects.send(link, (order_for(pod, 2),))
        await rig.eventually(lambda: link.outbox._orders)

        assert sent(rig, link) == [2]


async def test_an_order_that_waited_too_long_has_expired(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()

        rig.objects.send(link, (order_for(pod, 1),))
        rig.clock.now += 5.0
        await rig.eventually(lambda: link.inbox._results)

        (result,) = results(link)
        assert result.outcome is Outcome.EXPIRED
        assert sent(rig, link) == []


async def test_what_an_order_waited_is_taken_off_its_time(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        rig.objects.send(link, (order_for(pod, 1),))
        rig.clock.now += 1.5
        await rig.eventually(lambda: link.outbox._orders)

        taken = link.outbox.take(now_seconds=rig.clock.now)

        assert taken is not None
        assert taken[1].orders.orders[0].expires_after.ToMilliseconds() == 3500


async def test_an_order_that_was_held_while_its_shim_came_anew_is_void(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, old = key_of(await rig.pod()), rig.attach()
        rig.objects.send(old, (order_for(pod, 1),))

        new = rig.attach()
        await rig.eventually(rig.metrics.orders_dropped._value.get)

        assert sent(rig, old) == sent(rig, new) == []
        assert results(new) == []


async def test_an_order_that_was_held_while_an_operator_froze_stays_here(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        rig.objects.send(link, (order_for(pod, 1),))

        rig.leadership.frozen = True
        await rig.eventually(rig.metrics.orders_dropped._value.get)

        assert sent(rig, link) == []


async def test_an_emergency_does_not_wait_for_other_pods_writes(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PodAllocations.write

    async def write(
        self: PodAllocations, pod: PodKey, containers: Containers, *, node: str
    ) -> None:
        if pod.name != "web":
            await self.clock.sleep_until(self.clock.now_seconds() + 4)
        await real(self, pod, containers, node=node)

    monkeypatch.setattr(PodAllocations, "write", write)
    async with rigged(cluster, tmp_path) as rig:
        urgent, link = key_of(await rig.pod()), rig.attach()
        others = [urgent._replace(name=f"batch-{number}") for number in range(30)]

        rig.objects.send(link, tuple(order_for(pod, n) for n, pod in enumerate(others, 10)))
        rig.objects.send(link, (order_for(urgent, 1, lane=Lane.EMERGENCY),))
        await rig.eventually(lambda: link.outbox._orders)

        assert sent(rig, link) == [1]
