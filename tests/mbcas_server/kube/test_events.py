"""Notices about pods as events: what a person wants to know, never a flood."""

from pathlib import Path

from mbcas_core.effects import PodNotice
from tests.kube.fake_cluster import FakeCluster
from tests.kube.requests import Fault
from tests.mbcas_server.kube.rig import Rig, rigged


def notice(
    number: int = 1, *, namespace: str = "contract", event: str = "FirstResize"
) -> PodNotice:
    return PodNotice(
        namespace=namespace,
        pod=f"web-{number}",
        pod_uid=f"uid-{number}",
        container="main",
        event=event,
        message="MBCAS resizes this pod for the first time: limit 200m to 300m.",
        warning=event != "FirstResize",
    )


def count(rig: Rig, result: str) -> float:
    found: float = rig.metrics.pod_events.labels(result=result)._value.get()
    return found


async def test_a_notice_becomes_an_event_of_its_pod(cluster: FakeCluster, tmp_path: Path) -> None:
    async with rigged(cluster, tmp_path) as rig:
        rig.objects.tell(notice())
        await rig.eventually(rig.events_there)

        (event,) = rig.events_there()
        assert event["involvedObject"]["uid"] == "uid-1"
        assert event["involvedObject"]["fieldPath"] == "spec.containers{main}"
        assert (event["reason"], event["type"]) == ("FirstResize", "Normal")
        assert event["reportingComponent"] == "mbcas"


async def test_what_somebody_should_act_on_is_a_warning(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        rig.objects.tell(notice(event="ResizeRefused"))
        await rig.eventually(rig.events_there)

        assert rig.events_there()[0]["type"] == "Warning"


async def test_the_same_of_one_container_is_told_again_only_after_a_while(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        for _ in range(3):
            rig.objects.tell(notice())
        rig.objects.tell(notice(event="ResizeRefused"))
        await rig.eventually(lambda: len(rig.events_there()) == 2)
        rig.clock.now += 601
        rig.objects.tell(notice())

        await rig.eventually(lambda: len(rig.events_there()) == 3)
        assert count(rig, "repeated") == 2


async def test_a_namespace_in_trouble_does_not_silence_the_others(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        await rig.in_thread(rig.kube.create, "/api/v1/namespaces", "Namespace", "quiet")
        for number in range(40):
            rig.objects.tell(notice(number))
        rig.objects.tell(notice(99, namespace="quiet"))

        await rig.eventually(lambda: count(rig, "sent") == 26)
        assert count(rig, "over_budget") == 15
        assert "quiet" in {each["metadata"]["namespace"] for each in rig.events_there()}


async def test_an_event_that_cannot_be_sent_is_counted_and_the_next_one_goes_out(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.fail(Fault(code=403, method="POST", path_part="events"))
    async with rigged(cluster, tmp_path) as rig:
        rig.objects.tell(notice(1))
        rig.objects.tell(notice(2))

        await rig.eventually(lambda: count(rig, "sent"))
        assert count(rig, "failed") == 1
