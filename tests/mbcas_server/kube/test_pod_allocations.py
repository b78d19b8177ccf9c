"""What pods were admitted with outlives whatever happens to the server and to the objects."""

import asyncio
from pathlib import Path

import pytest

from mbcas_core.events import CpuResources, Outcome
from mbcas_server.kube.allocation import PodKey, UnusableError, from_object, to_object
from tests.kube.fake_cluster import FakeCluster
from tests.kube.requests import Fault
from tests.mbcas_server.kube.rig import (
    ADMITTED,
    NODE,
    PATH,
    Rig,
    key_of,
    order_for,
    part,
    results,
    rigged,
    sent,
)


async def write_first(rig: Rig) -> PodKey:
    """Lets a pod have its first order."""
    pod, link = key_of(await rig.pod()), rig.attach()
    rig.objects.send(link, (order_for(pod),))
    await rig.eventually(lambda: sent(rig, link))
    return pod


def admitted(rig: Rig, pod: PodKey) -> CpuResources | None:
    known = rig.objects.allocations.part(pod, "main", NODE)
    return None if known is None else known.admitted


async def test_a_server_that_starts_anew_knows_what_was_admitted(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as before:
        pod = await write_first(before)

    async with rigged(cluster, tmp_path) as after:
        link = after.attach()
        after.objects.send(link, (order_for(pod, 2),))

        assert admitted(after, pod) == ADMITTED
        assert sent(after, link) == [2]


async def test_what_was_admitted_is_listed_over_many_pages(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mbcas_server.kube.client.PAGE_SIZE", 2)
    pods = [PodKey("contract", f"web-{number}", f"uid-{number}") for number in range(5)]
    for pod in pods:
        cluster.put("podallocations", to_object(pod, {"main": part()}))

    async with rigged(cluster, tmp_path) as rig:
        assert [admitted(rig, pod) for pod in pods] == [ADMITTED] * 5


async def test_an_object_deleted_by_hand_is_written_again_before_the_next_order(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await write_first(rig)
        link = rig.links.connected()[0]
        await rig.in_thread(rig.kube.call, "DELETE", f"{PATH}/{pod.object_name}")
        await rig.eventually(lambda: not rig.is_written(pod))

        rig.objects.send(link, (order_for(pod, 2),))
        at_once = sent(rig, link)
        await rig.eventually(lambda: link.outbox._orders)

        assert at_once == []
        assert len(rig.objects_there()) == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"podName": "web", "podUID": "another", "containers": [{"name": "main"}]},
        {"podName": "web", "containers": "none"},
        {"containers": [{"name": "main", "admitted": {"limit": "much"}, "desired": {}}]},
    ],
)
async def test_an_object_that_somebody_spoiled_counts_as_missing_and_what_it_said_goes_on_to_count(
    cluster: FakeCluster,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spec: dict[str, object],
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await write_first(rig)
        (there,) = rig.objects_there()

        cluster.put("podallocations", there | {"spec": spec})
        await rig.eventually(rig.metrics.pod_allocations_ignored._value.get)

        assert not rig.is_written(pod)
        assert admitted(rig, pod) == ADMITTED
        assert "PodAllocation ignored" in caplog.text


async def test_a_spoiled_object_is_of_no_use_to_a_server_that_starts(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    pod = PodKey("contract", "web", "uid-1")
    given = to_object(pod, {"main": part()})
    given["spec"]["containers"][0]["admitted"]["limit"] = "-4m"
    cluster.put("podallocations", given)

    async with rigged(cluster, tmp_path) as rig:
        assert admitted(rig, pod) is None
        assert rig.metrics.pod_allocations_ignored._value.get() == 1


async def test_admitted_values_changed_by_hand_are_put_right_with_the_next_order(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await write_first(rig)
        link = rig.links.connected()[0]
        (there,) = rig.objects_there()
        there["spec"]["containers"][0]["admitted"]["limit"] = "9999m"
        cluster.put("podallocations", there)
        await rig.eventually(lambda: not rig.objects.allocations.is_written(pod, "main", ADMITTED))

        remembered = admitted(rig, pod)
        rig.objects.send(link, (order_for(pod, 2),))
        await rig.eventually(lambda: link.outbox._orders)

        assert remembered == ADMITTED
        assert rig.objects_there()[0]["spec"]["containers"][0]["admitted"]["limit"] == "500m"
        assert admitted(rig, pod) == ADMITTED


async def test_without_the_definition_orders_are_refused_and_the_log_says_what_to_do(
    cluster: FakeCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await write_first(rig)
        link = rig.links.connected()[0]
        with cluster.store.changed:
            cluster.api.kinds.forget("podallocations")
        raised = CpuResources(request_millicores=20, limit_millicores=700)

        rig.objects.send(link, (order_for(pod, 2, admitted=raised),))
        await rig.eventually(lambda: link.inbox._results)

        assert "is its CustomResourceDefinition installed?" in caplog.text
        assert admitted(rig, pod) == ADMITTED


async def test_a_server_that_starts_while_the_api_is_down_waits_for_it(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.put("podallocations", to_object(PodKey("contract", "web", "uid-1"), {"main": part()}))
    cluster.set_down(is_down=True)
    async with rigged(cluster, tmp_path, start=False) as rig, asyncio.TaskGroup() as group:
        starting = group.create_task(rig.objects.start())
        await rig.eventually(rig.metrics.kube_watch_failures._value.get)
        waited = not starting.done()

        cluster.set_down(is_down=False)
        await rig.eventually(starting.done, step_seconds=0.1)

        assert waited
        assert admitted(rig, PodKey("contract", "web", "uid-1")) == ADMITTED


async def test_what_was_missed_while_a_watch_was_gone_is_listed(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await write_first(rig)
        with cluster.store.changed:
            cluster.store.compact()
            cluster.store.remove("podallocations", "contract", pod.object_name)
        cluster.forget_history()
        cluster.close_watches()

        await rig.eventually(lambda: not rig.is_written(pod), step_seconds=0.1)


async def test_a_pod_that_comes_back_under_its_name_starts_with_an_object_of_its_own(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        old = await write_first(rig)
        await rig.in_thread(rig.kube.delete, "web")
        await rig.in_thread(cluster.advance, 60.0)
        new = key_of(await rig.pod())
        link = rig.links.connected()[0]

        before = admitted(rig, new)
        rig.objects.send(link, (order_for(new, 2),))
        await rig.eventually(lambda: link.outbox._orders)

        assert before is None
        assert new.object_name != old.object_name
        assert [each["spec"]["podUID"] for each in rig.objects_there()] == [new.uid]


async def test_a_pod_that_has_gone_meanwhile_leaves_no_object_behind(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        await rig.in_thread(rig.kube.delete, "web")

        rig.objects.send(link, (order_for(pod),))
        await rig.eventually(lambda: link.inbox._results)

        (result,) = results(link)
        assert result.outcome is Outcome.REFUSED
        assert rig.objects_there() == []


async def test_an_object_that_is_there_already_is_taken_over(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        spoiled = to_object(pod, {"other": part()})
        spoiled["metadata"]["generation"] = 1
        spoiled["spec"]["containers"][0]["admitted"]["limit"] = "much"
        cluster.put("podallocations", spoiled)
        await rig.eventually(rig.metrics.pod_allocations_ignored._value.get)

        rig.objects.send(link, (order_for(pod),))
        await rig.eventually(lambda: link.outbox._orders)

        (there,) = rig.objects_there()
        assert [each["name"] for each in there["spec"]["containers"]] == ["main"]


async def test_pods_beyond_the_bound_get_no_orders(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mbcas_server.kube.pod_allocations.ENTRIES_MAX", 1)
    async with rigged(cluster, tmp_path) as rig:
        pod = await write_first(rig)
        link = rig.links.connected()[0]

        rig.objects.send(link, (order_for(pod._replace(name="next"), 2),))
        await rig.eventually(lambda: link.inbox._results)

        assert len(rig.objects.allocations) == 1


async def test_a_lost_answer_to_a_write_does_no_harm(cluster: FakeCluster, tmp_path: Path) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        cluster.fail(Fault(code=0, method="POST", path_part="podallocations"))
        rig.objects.send(link, (order_for(pod),))
        await rig.eventually(lambda: link.inbox._results)

        rig.objects.send(link, (order_for(pod, 2),))
        await rig.eventually(lambda: link.outbox._orders)

        assert len(rig.objects_there()) == 1


async def test_writes_at_one_time_leave_the_containers_of_all(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await write_first(rig)
        names = {f"side-{number}" for number in range(5)}

        async with asyncio.TaskGroup() as group:
            for name in names:
                writing = rig.objects.allocations.write(pod, {name: part()}, node=NODE)
                group.create_task(writing)

        (there,) = rig.objects_there()
        assert {each["name"] for each in there["spec"]["containers"]} == {"main"} | names
        assert rig.objects.allocations.part(pod, "side-1", NODE) == part()


def test_the_name_of_the_longest_pod_fits() -> None:
    pod = PodKey("contract", "w" * 253, "12345678-9abc-def0-1234-56789abcdef0")

    assert pod.object_name == "w" * 244 + "-12345678"
    assert len(pod.object_name) == 253


@pytest.mark.parametrize(
    "broken",
    [
        {"metadata": None},
        {"metadata": {"namespace": "n", "name": "another"}},
        {"spec": []},
        {"spec": {"podName": "web", "podUID": "u", "containers": []}},
        {"spec": {"podName": "web", "podUID": "u", "containers": [7]}},
        {"spec": {"podName": "web", "podUID": "u", "containers": [{"name": "a"}]}},
        {
            "spec": {
                "podName": "web",
                "podUID": "u",
                "containers": [{"name": "a", "admitted": {"limit": "0m"}, "desired": {}}],
            }
        },
        {
            "spec": {
                "podName": "web",
                "podUID": "u",
                "containers": [{"name": "a", "admitted": {"request": 5}, "desired": {}}],
            }
        },
        {
            "spec": {
                "podName": "web",
                "podUID": "u",
                "containers": [{"name": "a", "admitted": {}, "desired": {}}] * 2,
            }
        },
    ],
)
def test_an_object_that_no_server_wrote_is_not_believed(broken: dict[str, object]) -> None:
    good = to_object(PodKey("n", "web", "u"), {"main": part()})

    with pytest.raises(UnusableError):
        from_object(good | broken)


def test_what_is_written_can_be_read() -> None:
    pod = PodKey("n", "web", "u")
    parts = {"main": part(), "side": part(CpuResources(request_millicores=0))}

    assert from_object(to_object(pod, parts)) == (pod, parts)
