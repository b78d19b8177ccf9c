"""What kubectl shows of a pod: soon after a resize, seldom enough, and never wrong for long."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mbcas_core.effects import Reason
from mbcas_core.events import CpuResources
from mbcas_core.views import ContainerGoodView, ContainerView, DecisionView
from mbcas_server.kube.allocation import PodKey
from mbcas_server.kube.pod_allocations import Entry
from mbcas_server.kube.status_of import Seen, is_news, status_of
from tests.kube.fake_cluster import FakeCluster
from tests.kube.requests import Fault
from tests.mbcas_server.fakes import FakeCore, container_view, decision_view, market_view
from tests.mbcas_server.kube.rig import NODE, PATH, Rig, key_of, order_for, part, rigged

POD = PodKey("contract", "web", "uid-web")


def good(admitted: int, desired: int, applied: int) -> ContainerGoodView:
    return replace(
        container_view().ceiling,
        admitted_millicores=admitted,
        desired_millicores=desired,
        applied_millicores=applied,
    )


def decision(
    pod: PodKey = POD,
    *,
    container: str = "main",
    desired: int = 700,
    applied: int = 700,
    reason: Reason = Reason.RAISED,
    **fields: Any,  # noqa: ANN401 - of a view.
) -> DecisionView:
    row: ContainerView = replace(
        container_view(container, namespace=pod.namespace, pod=pod.name),
        pod_uid=pod.uid,
        reservation=good(20, 20, 20),
        ceiling=good(500, desired, applied),
        reason=reason,
        **fields,
    )
    return decision_view(row, node="fake-node")


def status(
    *decisions: DecisionView, old: dict[str, object] | None = None, frozen: bool = False
) -> dict[str, Any]:
    market = replace(market_view("fake-node", shadow_price=0.1234), frozen=frozen)
    seen = Seen(POD, list(decisions), market)
    return status_of(seen, old or {}, unix_seconds=1_700_000_000.0)


def conditions(given: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in given["conditions"]}


async def resized(rig: Rig) -> PodKey:
    """Lets a pod have its first order, and the core know it."""
    pod = key_of(await rig.pod())
    rig.core.views["fake-node"] = market_view("fake-node")
    rig.core.pods[pod.namespace, pod.name] = [decision(pod)]
    rig.objects.send(rig.attach(), (order_for(pod),))
    # The watch may tell of a write before it is answered.
    await rig.eventually(lambda: rig.is_written(pod) and not entry_of(rig, pod).writing.locked())
    return pod


def entry_of(rig: Rig, pod: PodKey) -> Entry:
    entry = rig.objects.allocations.find(pod)
    assert entry is not None
    return entry


def status_writes(cluster: FakeCluster) -> int:
    return len([each for each in cluster.api.requests if each.path.endswith("/status")])


async def test_soon_after_an_order_the_status_says_what_is_in_force(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await resized(rig)
        await rig.eventually(lambda: entry_of(rig, pod).status, step_seconds=1.0)

        (there,) = rig.objects_there()
        assert there["status"]["applied"] == "20m/700m"
        assert there["status"]["admitted"] == "20m/500m"
        assert there["spec"]["containers"][0]["desired"] == {"request": "20m", "limit": "700m"}


async def test_a_status_is_written_at_most_once_a_minute(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await resized(rig)
        await rig.eventually(lambda: entry_of(rig, pod).status, step_seconds=1.0)
        rig.core.pods[pod.namespace, pod.name] = [decision(pod, desired=800, applied=800)]
        rig.objects.send(rig.links.connected()[0], (order_for(pod, 2),))
        began_seconds = rig.objects._status._written_seconds[pod]
        await rig.eventually(
            lambda: entry_of(rig, pod).status["ceiling"] == "800m", step_seconds=1.0
        )

        assert rig.clock.now - began_seconds >= 60
        assert status_writes(cluster) == 2


async def test_a_status_that_says_nothing_new_is_not_written(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await resized(rig)
        await rig.eventually(lambda: entry_of(rig, pod).status, step_seconds=1.0)
        began = rig.clock.now

        await rig.eventually(lambda: rig.clock.now > began + 300, step_seconds=5.0)

        assert status_writes(cluster) == 1


async def test_a_deleted_object_of_a_pod_with_other_values_comes_back_by_itself(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await resized(rig)
        await rig.eventually(lambda: entry_of(rig, pod).status, step_seconds=1.0)
        await rig.in_thread(rig.kube.call, "DELETE", f"{PATH}/{pod.object_name}")
        await rig.eventually(lambda: not rig.is_written(pod))

        await rig.eventually(lambda: rig.is_written(pod), step_seconds=5.0)

        (there,) = rig.objects_there()
        assert there["spec"]["containers"][0]["admitted"] == {"request": "20m", "limit": "500m"}


async def test_what_the_core_takes_for_admitted_of_a_skipped_container_is_not_written(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await resized(rig)
        unknown = decision(pod, skip_reason="what it asked for is being looked up")
        lost = replace(unknown.container, ceiling=good(700, 700, 700))
        rig.core.pods[pod.namespace, pod.name] = [replace(unknown, container=lost)]
        await rig.eventually(lambda: entry_of(rig, pod).status, step_seconds=1.0)

        (there,) = rig.objects_there()
        assert there["spec"]["containers"][0]["admitted"]["limit"] == "500m"


async def test_what_the_core_said_before_an_order_was_written_undoes_nothing(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await resized(rig)
        changed = CpuResources(request_millicores=20, limit_millicores=650)
        said = [decision(pod, desired=800)]

        def overtaken(namespace: str, name: str) -> list[DecisionView]:
            rig.core.explain_pod = FakeCore().explain_pod  # type: ignore[method-assign] # No pod.
            entry_of(rig, pod).remembered["main"] = part(changed)  # As a write of the gate does.
            return said

        rig.core.explain_pod = overtaken  # type: ignore[method-assign] # Says it once.
        end_seconds = rig.clock.now + 100.0
        await rig.eventually(lambda: rig.clock.now > end_seconds, step_seconds=1.0)

        known = rig.objects.allocations.part(pod, "main", NODE)
        assert known is not None
        assert known.admitted == changed


async def test_a_pod_that_is_gone_is_forgotten_after_an_hour_and_not_sooner(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = await resized(rig)
        rig.core.pods.clear()
        await rig.in_thread(rig.kube.call, "DELETE", f"{PATH}/{pod.object_name}")
        await rig.eventually(lambda: not rig.is_written(pod))
        begin_seconds = rig.clock.now

        await rig.eventually(lambda: rig.clock.now > begin_seconds + 3000, step_seconds=100.0)
        assert rig.objects.allocations.find(pod) is not None

        await rig.eventually(lambda: rig.objects.allocations.find(pod) is None, step_seconds=100.0)
        assert rig.clock.now >= begin_seconds + 3600


async def test_a_refused_status_holds_nothing_up(cluster: FakeCluster, tmp_path: Path) -> None:
    async with rigged(cluster, tmp_path) as rig:
        cluster.fail(Fault(code=500, method="PATCH", path_part="/status"))
        pod = await resized(rig)

        await rig.eventually(lambda: entry_of(rig, pod).status, step_seconds=2.0)

        failed = rig.metrics.pod_allocation_writes.labels(part="status", result="failed")
        assert failed._value.get() == 1


def test_the_columns_sum_up_the_pod() -> None:
    side = decision(container="side", desired=300, applied=200)

    said = status(decision(), side)

    assert (said["admitted"], said["reservation"]) == ("40m/1000m", "40m")
    assert (said["ceiling"], said["applied"]) == ("1000m", "40m/900m")
    assert said["shadowPrice"] == {"reservation": 0.123, "ceiling": 0.0}
    assert (said["lag"], said["reason"], said["class"]) == ("0.4s", "Raised", "steady")


def test_a_pod_with_a_container_that_has_no_limit_has_none() -> None:
    unlimited = decision()
    nothing = replace(
        unlimited.container.ceiling,
        admitted_millicores=None,
        desired_millicores=None,
        applied_millicores=None,
    )
    row = replace(unlimited.container, ceiling=nothing)

    said = status(replace(unlimited, container=row))

    assert (said["ceiling"], said["applied"]) == ("none", "20m/none")
    assert said["containers"][0]["applied"] == {"request": "20m"}


def test_conditions_say_what_holds_a_pod_up() -> None:
    calm = conditions(status(decision()))
    behind = conditions(status(decision(applied=500, reason=Reason.IN_FLIGHT)))
    scarce = conditions(status(decision(reason=Reason.RATIONED)))
    resting = conditions(status(decision(reason=Reason.NAMESPACE_RESTS)))
    frozen = conditions(status(decision(reason=Reason.MODE), frozen=True))

    assert calm["Applied"] == ("True", "AsDesired")
    assert behind["Applied"] == ("False", "InFlight")
    assert scarce["Rationed"] == ("True", "Rationed")
    assert resting["Resting"] == ("True", "NamespaceRests")
    assert calm["Frozen"] == ("False", "NotFrozen")
    assert frozen["Frozen"] == ("True", "Frozen")


def test_every_condition_has_words_whether_it_holds_or_not() -> None:
    calm = status(decision())
    held = status(decision(applied=500, reason=Reason.IN_FLIGHT), frozen=True)

    assert all(each["message"] for each in calm["conditions"] + held["conditions"])
    assert any("mbcasctl freeze --off" in each["message"] for each in held["conditions"])


def test_a_condition_that_stays_keeps_its_time_and_one_that_turns_gets_a_new_one() -> None:
    before = status(decision())
    for each in before["conditions"]:
        each["lastTransitionTime"] = "2020-01-01T00:00:00Z"

    after = status(decision(reason=Reason.RATIONED), old=before)

    times = {each["type"]: each["lastTransitionTime"][:4] for each in after["conditions"]}
    assert times == {"Applied": "2020", "Rationed": "2023", "Resting": "2020", "Frozen": "2020"}


def test_a_lag_that_becomes_known_is_news() -> None:
    assert is_news(status(decision()), status(decision(lag_seconds=None)))


def test_a_price_alone_is_no_news_and_a_reason_is() -> None:
    before = status(decision())

    assert not is_news(before | {"shadowPrice": {"ceiling": 9.0}, "lag": "9.0s"}, before)
    assert is_news(status(decision(reason=Reason.DECAY)), before)
    assert is_news(before, {})
    assert is_news(before, {"containers": "none", "conditions": [7]})
