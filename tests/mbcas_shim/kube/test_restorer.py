import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.inventory import Cpu
from mbcas_shim.kube.pod_allocations import allocation_name
from mbcas_shim.kube.pods import Pod
from mbcas_shim.kube.restorer import SPACING_SECONDS
from tests.kube.kube import conditions_of
from tests.kube.requests import Fault
from tests.kube.shapes import BURSTABLE, GUARANTEED, single
from tests.mbcas_shim.fakes import settle
from tests.mbcas_shim.kube.resize_bench import HANG_SECONDS, ResizeBench, order_for

ADMITTED = Cpu(20, 500)


def always() -> bool:
    return True


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[ResizeBench]:
    with ResizeBench(tmp_path) as built:
        yield built


async def changed(
    bench: ResizeBench, name: str, *, request: int | None = None, limit: int | None = None
) -> Pod:
    """A pod that MBCAS has changed and whose orders told what it was admitted with."""
    running = bench.make(single(name, BURSTABLE))
    order = order_for(running, request=request, limit=limit, admitted=ADMITTED)
    (answer,) = await bench.enforcer.apply([order])
    assert answer.outcome == pb.OUTCOME_APPLIED
    bench.look()
    return bench.seen.by_uid[running.uid]


def write_down(bench: ResizeBench, running: Pod, admitted: dict[str, str], uid: str = "") -> None:
    path = f"/apis/mbcas.io/v1alpha1/namespaces/{bench.kube.namespace}/podallocations"
    entry = {"name": "main", "admitted": admitted, "desired": admitted}
    spec = {"podName": running.name, "podUID": uid or running.uid, "containers": [entry]}
    name = allocation_name(running.name, running.uid)
    bench.kube.create(path, "PodAllocation", name, spec=spec)


def forget(bench: ResizeBench) -> None:
    """What a shim that starts anew does not know."""
    bench.resizer._memories.clear()


async def test_what_was_cut_is_raised_again_and_what_was_raised_stays(bench: ResizeBench) -> None:
    await changed(bench, "cut", request=10, limit=100)
    await changed(bench, "raised", limit=900)
    before = len(bench.patches)

    failed = await bench.enforcer.restore(always)
    bench.look()
    again = await bench.enforcer.restore(always)

    assert failed == again == 0
    assert bench.cpu_of("cut") == ADMITTED
    assert bench.cpu_of("raised") == Cpu(20, 900)
    assert len(bench.patches) == before + 2  # The limit at once, the request on its own.


async def test_exactly_means_that_more_is_taken_back_before_anything_is_raised(
    bench: ResizeBench,
) -> None:
    await changed(bench, "cut", limit=100)
    running = bench.make(single("strict", BURSTABLE))
    order = order_for(running, limit=900, admitted=ADMITTED, exactly=True)
    await bench.enforcer.apply([order])
    bench.look()

    await bench.enforcer.restore(always)

    assert bench.cpu_of("strict") == bench.cpu_of("cut") == ADMITTED
    assert [patch.path.split("/")[-2] for patch in bench.patches[-2:]] == ["strict", "cut"]


async def test_values_that_somebody_else_set_are_left_alone(bench: ResizeBench) -> None:
    running = await changed(bench, "web", request=10, limit=100)
    bench.kube.resize("web", {"main": {"limits": {"cpu": "200m"}}})
    bench.look()

    await bench.enforcer.restore(always)

    assert bench.seen.by_uid[running.uid].containers[0].limit_set_by_mbcas is False
    assert bench.cpu_of("web") == Cpu(20, 200)


async def test_a_limit_does_not_come_back_below_a_request_that_somebody_else_has_set(
    bench: ResizeBench, caplog: pytest.LogCaptureFixture
) -> None:
    running = bench.make(single("web", BURSTABLE))
    await bench.enforcer.apply([order_for(running, limit=900, admitted=Cpu(20, 500), exactly=True)])
    bench.kube.resize("web", {"main": {"requests": {"cpu": "600m"}}})
    await changed(bench, "cut", limit=100)
    sent = len(bench.patches)

    failed = await bench.enforcer.restore(always)

    assert failed == 0
    assert bench.cpu_of("web") == Cpu(600, 900)
    assert bench.cpu_of("cut") == ADMITTED
    assert len(bench.patches) == sent + 1
    assert "web/main would have request 600m above limit 500m" in caplog.text


async def test_a_request_does_not_come_back_above_a_limit_that_somebody_else_has_set(
    bench: ResizeBench,
) -> None:
    await changed(bench, "web", request=10)
    bench.kube.resize("web", {"main": {"limits": {"cpu": "15m"}}})
    bench.look()
    sent = len(bench.patches)

    failed = await bench.enforcer.restore(always)

    assert failed == 0
    assert bench.cpu_of("web") == Cpu(10, 15)
    assert len(bench.patches) == sent


async def test_a_shim_that_started_anew_reads_what_the_server_wrote_down(
    bench: ResizeBench,
) -> None:
    running = await changed(bench, "web", limit=100)
    write_down(bench, running, {"request": "20m", "limit": "500m"})
    forget(bench)

    failed = await bench.enforcer.restore(always)

    assert failed == 0
    assert bench.cpu_of("web") == ADMITTED


@pytest.mark.parametrize("annotations", [{"isolation": "strict"}, {"policy": "hard-quota"}])
async def test_a_shim_that_started_anew_goes_by_what_the_pod_says_of_exactness(
    annotations: dict[str, str], bench: ResizeBench
) -> None:
    marked = single("web", BURSTABLE)
    marked["metadata"]["annotations"] = {f"mbcas.io/{k}": v for k, v in annotations.items()}
    running = bench.make(marked)
    await bench.enforcer.apply([order_for(running, limit=900)])
    write_down(bench, running, {"request": "20m", "limit": "500m"})
    forget(bench)
    bench.look()

    await bench.enforcer.restore(always)

    assert bench.cpu_of("web") == ADMITTED


async def test_without_admitted_values_a_pod_stays_as_it_is_and_is_asked_for_again(
    bench: ResizeBench,
) -> None:
    running = await changed(bench, "web", limit=100)
    await changed(bench, "known", limit=100)
    write_down(bench, running, {"limit": "500m"}, uid="somebody-else")
    bench.resizer._memories.pop(running.uid)

    failed = await bench.enforcer.restore(always)

    assert failed == 1
    assert bench.counters.value("admitted_unknown") == 1
    assert bench.cpu_of("web") == Cpu(20, 100)
    assert bench.cpu_of("known") == ADMITTED


async def test_while_the_api_server_is_away_one_call_is_made_and_all_is_done_when_it_is_back(
    bench: ResizeBench,
) -> None:
    for number in range(3):
        await changed(bench, f"web-{number}", limit=100)
    before = len(bench.patches)
    bench.cluster.fail(Fault(code=0, method="PATCH"))

    away = await bench.enforcer.restore(always)
    tried = len(bench.patches) - before
    back = await bench.enforcer.restore(always)

    assert (away, tried, back) == (1, 1, 0)
    assert {bench.cpu_of(f"web-{number}") for number in range(3)} == {ADMITTED}


async def test_a_server_that_fails_or_is_busy_keeps_no_other_pod_from_its_values(
    bench: ResizeBench,
) -> None:
    for number in range(3):
        await changed(bench, f"web-{number}", limit=100)
    bench.cluster.fail(Fault(code=500, method="PATCH"))
    bench.cluster.fail(Fault(code=429, method="PATCH", retry_after_seconds=30))
    begin = bench.clock.now

    failed = await bench.enforcer.restore(always)
    waited = bench.clock.now - begin
    bench.look()
    again = await bench.enforcer.restore(always)

    assert (failed, again) == (2, 0)
    assert waited >= 30
    assert {bench.cpu_of(f"web-{number}") for number in range(3)} == {ADMITTED}


async def test_calls_are_spread_and_end_when_the_server_speaks(bench: ResizeBench) -> None:
    for number in range(6):
        await changed(bench, f"web-{number}", limit=100)
    begin, before = bench.clock.now, len(bench.patches)

    await bench.enforcer.restore(lambda: len(bench.patches) < before + 4)

    assert len(bench.patches) == before + 4
    assert bench.clock.now - begin >= 3 * SPACING_SECONDS


async def test_requests_that_do_not_fit_stay_and_limits_come_back_all_the_same(
    bench: ResizeBench,
) -> None:
    await changed(bench, "web", request=10, limit=100)
    bench.kube.wait(lambda: bench.kube.settled("web"))
    bench.look()
    bench.room_millicores = 5

    await bench.enforcer.restore(always)

    assert bench.cpu_of("web") == Cpu(10, 500)


async def test_a_raised_request_that_the_kubelet_defers_is_taken_back_and_not_tried_again(
    bench: ResizeBench,
) -> None:
    room = {"requests": {"cpu": "1000m", "memory": "32Mi"}}
    running = bench.make(single("web", room))
    order = order_for(running, request=100, admitted=Cpu(1000, None))
    await bench.enforcer.apply([order])
    bench.kube.wait(lambda: bench.kube.settled("web"))
    bench.kube.create_pod(single("blocker", {"requests": {"cpu": "1500m"}}))
    bench.look()
    bench.room_millicores = 5000

    await bench.enforcer.restore(always)
    bench.kube.wait(lambda: "PodResizePending" in conditions_of(bench.kube.get("web")))
    bench.look()
    asked = bench.cpu_of("web")
    await bench.enforcer.restore(always)
    bench.kube.wait(lambda: bench.kube.settled("web"))
    bench.look()
    sent = len(bench.patches)
    await bench.enforcer.restore(always)

    assert asked == Cpu(1000, None)
    assert bench.cpu_of("web") == Cpu(100, None)
    assert len(bench.patches) == sent


async def test_what_could_not_be_taken_back_because_the_api_server_was_away_is_taken_back_later(
    bench: ResizeBench,
) -> None:
    running = bench.make(single("web", {"requests": {"cpu": "1000m", "memory": "32Mi"}}))
    order = order_for(running, request=100, admitted=Cpu(1000, None))
    await bench.enforcer.apply([order])
    bench.kube.wait(lambda: bench.kube.settled("web"))
    bench.kube.create_pod(single("blocker", {"requests": {"cpu": "1500m"}}))
    bench.look()
    bench.room_millicores = 5000
    await bench.enforcer.restore(always)
    bench.kube.wait(lambda: "PodResizePending" in conditions_of(bench.kube.get("web")))
    bench.look()
    bench.cluster.fail(Fault(code=0, method="PATCH"))

    away = await bench.enforcer.restore(always)
    back = await bench.enforcer.restore(always)

    assert (away, back) == (1, 0)
    assert bench.cpu_of("web") == Cpu(100, None)


async def test_a_guaranteed_pod_comes_back_whole(bench: ResizeBench) -> None:
    running = bench.make(single("whole", GUARANTEED))
    order = order_for(running, request=20, limit=20, admitted=Cpu(50, 50), exactly=True)
    await bench.enforcer.apply([order])
    bench.look()
    sent = len(bench.patches)

    await bench.enforcer.restore(always)

    assert bench.cpu_of("whole") == Cpu(50, 50)
    assert len(bench.patches) == sent + 1


async def test_a_pod_that_has_gone_is_no_failure(bench: ResizeBench) -> None:
    await changed(bench, "web", limit=100)
    bench.kube.delete("web")

    assert await bench.enforcer.restore(always) == 0


async def test_an_orderly_end_changes_nothing(bench: ResizeBench) -> None:
    await changed(bench, "web", limit=100)

    failed = await bench.enforcer.leave()

    assert failed == 0
    assert bench.cpu_of("web") == Cpu(20, 100)


async def test_an_order_waits_for_what_the_failsafe_is_sending(bench: ResizeBench) -> None:
    cut = await changed(bench, "web", limit=100)
    held = bench.hold("web")
    async with asyncio.TaskGroup() as group:
        restoring = group.create_task(bench.enforcer.restore(always))
        await asyncio.to_thread(held.begun.wait, HANG_SECONDS)
        applying = group.create_task(bench.enforcer.apply([order_for(cut, limit=300)]))
        await settle()
        waiting = len(bench.patches), applying.done()
        held.go_on.set()

    assert waiting == (1, False)
    assert restoring.result() == 0
    assert applying.result()[0].cause == "Generation"  # It was decided before.


@pytest.mark.parametrize(
    ("name", "expected"),
    [("web-0", "web-0-0a1b2c3d"), ("a" * 253, "a" * 244 + "-0a1b2c3d")],
)
def test_the_name_of_an_allocation_is_the_pods_and_a_part_of_its_uid(
    name: str, expected: str
) -> None:
    assert allocation_name(name, "0a1b2c3d-4e5f-6789-abcd-ef0123456789") == expected
