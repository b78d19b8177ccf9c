import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.inventory import Cpu
from mbcas_shim.kube.pods import Pod
from mbcas_shim.kube.start_check import DENIED_REASON, UNSUPPORTED_REASON
from mbcas_shim.orders import Order
from tests.kube.requests import Fault
from tests.kube.shapes import BURSTABLE, GUARANTEED, UNLIMITED, container, pod, single
from tests.mbcas_shim.kube.resize_bench import ResizeBench, order_for


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[ResizeBench]:
    with ResizeBench(tmp_path) as built:
        yield built


async def only(bench: ResizeBench, *orders: Order) -> pb.OrderResult:
    (answer,) = await bench.enforcer.apply(orders)
    return answer


async def refusal(bench: ResizeBench, *orders: Order) -> tuple[object, ...]:
    answer = await only(bench, *orders)
    return answer.outcome, answer.status, answer.cause, answer.field


def fail(bench: ResizeBench, code: int, retry_after_seconds: int | None = None) -> None:
    bench.cluster.fail(Fault(code=code, method="PATCH", retry_after_seconds=retry_after_seconds))


async def test_an_order_becomes_one_patch_of_the_leaves_that_differ(bench: ResizeBench) -> None:
    running = bench.make(single("web", BURSTABLE))

    answer = await only(bench, order_for(running, request=20, limit=250))

    (patch,) = bench.patches
    assert answer.outcome == pb.OUTCOME_APPLIED
    assert (answer.status, answer.generation) == (200, running.generation + 1)
    assert patch.query == {"fieldManager": "mbcas"}
    assert patch.body == {
        "metadata": {"uid": running.uid},
        "spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "250m"}}}]},
    }
    bench.kube.wait(lambda: bench.kube.cgroup_of(bench.kube.get("web"), "main").quota_us == 25_000)


async def test_all_orders_of_a_pod_travel_together_in_the_pods_own_order(
    bench: ResizeBench,
) -> None:
    side = container("side", BURSTABLE, restartPolicy="Always")
    names = ("one", "two", "three")
    running = bench.make(
        pod("many", *(container(name, BURSTABLE) for name in names), initContainers=[side])
    )

    answers = await bench.enforcer.apply(
        [
            order_for(running, limit=100 + index, container=name, order_id=index)
            for index, name in enumerate(("three", "side", "one"))
        ]
    )

    (patch,) = bench.patches
    assert {answer.outcome for answer in answers} == {pb.OUTCOME_APPLIED}
    assert [entry["name"] for entry in patch.body["spec"]["containers"]] == ["one", "three"]
    assert [entry["name"] for entry in patch.body["spec"]["initContainers"]] == ["side"]
    assert bench.cpu_of("many", "side") == Cpu(20, 101)


async def test_what_is_so_already_is_not_sent(bench: ResizeBench) -> None:
    running = bench.make(single("web", BURSTABLE))

    answer = await only(bench, order_for(running, request=20, limit=500))

    assert answer.outcome == pb.OUTCOME_UNCHANGED
    assert not bench.patches


async def test_a_patch_that_found_it_so_already_says_unchanged(bench: ResizeBench) -> None:
    running = bench.make(single("web", BURSTABLE))
    newer = bench.kube.resize("web", {"main": {"limits": {"cpu": "300m"}}}).body
    bench.seen.by_uid[running.uid] = replace(running, generation=newer["metadata"]["generation"])

    answer = await only(bench, order_for(running, limit=300, generation=0))

    assert answer.outcome == pb.OUTCOME_UNCHANGED
    assert len(bench.patches) == 1


async def test_a_guaranteed_pod_keeps_its_class_with_both_values_in_one_patch(
    bench: ResizeBench,
) -> None:
    running = bench.make(single("guaranteed", GUARANTEED))

    both = await only(bench, order_for(running, request=70, limit=70))
    alone = await refusal(bench, order_for(running, limit=90, generation=0))

    assert both.outcome == pb.OUTCOME_APPLIED
    assert alone == (pb.OUTCOME_REFUSED, 422, "FieldValueInvalid", "spec")


async def test_what_was_just_written_counts_before_the_watch_tells_of_it(
    bench: ResizeBench,
) -> None:
    running = bench.make(single("web", BURSTABLE))
    first = await only(bench, order_for(running, limit=250))

    again = await only(bench, order_for(running, limit=250, generation=first.generation))
    back = await only(bench, order_for(running, limit=500, generation=first.generation))

    assert again.outcome == pb.OUTCOME_UNCHANGED
    assert back.outcome == pb.OUTCOME_APPLIED
    assert bench.cpu_of("web") == Cpu(20, 500)


async def test_an_order_of_an_older_generation_is_stale_once_its_container_changed(
    bench: ResizeBench,
) -> None:
    running = bench.make(pod("two", container("main", BURSTABLE), container("other", BURSTABLE)))
    await only(bench, order_for(running, limit=250))

    stale = await only(bench, order_for(running, limit=300))
    other = await only(bench, order_for(running, limit=300, container="other"))

    assert (stale.outcome, stale.cause) == (pb.OUTCOME_STALE, "Generation")
    assert other.outcome == pb.OUTCOME_APPLIED


async def test_an_order_decided_before_somebody_elses_change_is_stale(bench: ResizeBench) -> None:
    running = bench.make(single("web", BURSTABLE))
    bench.kube.resize("web", {"main": {"limits": {"cpu": "300m"}}})
    bench.look()

    answer = await only(bench, order_for(running, limit=250))

    assert (answer.outcome, answer.cause) == (pb.OUTCOME_STALE, "Generation")
    assert bench.cpu_of("web") == Cpu(20, 300)


async def test_a_pod_that_went_and_its_follower_under_the_same_name_are_left_alone(
    bench: ResizeBench,
) -> None:
    running = bench.make(single("web", BURSTABLE))
    bench.kube.delete("web")
    gone = await refusal(bench, order_for(running, limit=250))
    bench.kube.create_pod(single("web", BURSTABLE))
    follower = await refusal(bench, order_for(running, limit=250))
    bench.look()
    unknown = await refusal(bench, order_for(running, limit=250))

    assert gone == (pb.OUTCOME_STALE, 404, "NotFound", "")
    assert follower == (pb.OUTCOME_STALE, 422, "Uid", "metadata.uid")
    assert unknown == (pb.OUTCOME_STALE, 0, "UnknownPod", "")
    assert bench.cpu_of("web") == Cpu(20, 500)


@pytest.mark.parametrize(
    ("resources", "order", "cause"),
    [
        (UNLIMITED, {"limit": 100}, "NothingToChange"),
        ({"limits": {"memory": "32Mi"}}, {"request": 100}, "NothingToChange"),
        (BURSTABLE, {"limit": 10}, "RequestAboveLimit"),
        (BURSTABLE, {"request": 600}, "RequestAboveLimit"),
    ],
)
async def test_what_could_not_be_undone_or_contradicts_the_spec_is_not_sent(
    resources: dict[str, dict[str, str]], order: dict[str, int], cause: str, bench: ResizeBench
) -> None:
    running = bench.make(single("web", resources))

    answer = await only(bench, order_for(running, **order))  # type: ignore[arg-type]  # Request or limit.

    assert (answer.outcome, answer.cause) == (pb.OUTCOME_REFUSED, cause)
    assert not bench.patches


async def test_a_container_that_a_resize_would_restart_is_left_alone(bench: ResizeBench) -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    running = bench.make(pod("web", container("main", BURSTABLE, resizePolicy=policy)))

    answer = await only(bench, order_for(running, limit=250))

    assert (answer.outcome, answer.cause) == (pb.OUTCOME_REFUSED, "RestartContainer")
    assert not bench.patches


async def test_a_raise_is_not_sent_where_the_cut_beside_it_cannot_be(bench: ResizeBench) -> None:
    running = bench.make(pod("two", container("main", BURSTABLE), container("other", BURSTABLE)))

    answers = await bench.enforcer.apply(
        [
            order_for(running, limit=900, order_id=1),
            order_for(running, limit=10, container="other", order_id=2),
        ]
    )

    assert {answer.order_id: answer.cause for answer in answers} == {
        1: "CutRefused",
        2: "RequestAboveLimit",
    }
    assert not bench.patches


async def test_of_two_orders_for_one_container_the_later_counts(bench: ResizeBench) -> None:
    running = bench.make(single("web", BURSTABLE))

    answers = await bench.enforcer.apply(
        [order_for(running, limit=250, order_id=1), order_for(running, limit=300, order_id=2)]
    )

    assert {answer.order_id: answer.outcome for answer in answers} == {
        1: pb.OUTCOME_STALE,
        2: pb.OUTCOME_APPLIED,
    }
    assert bench.cpu_of("web") == Cpu(20, 300)


async def test_a_quota_refuses_and_its_sentence_is_logged_and_told_without_what_is_known(
    bench: ResizeBench, caplog: pytest.LogCaptureFixture
) -> None:
    running = bench.make(single("web", BURSTABLE))
    path = f"/api/v1/namespaces/{bench.kube.namespace}/resourcequotas"
    bench.kube.create(path, "ResourceQuota", "cpu", spec={"hard": {"limits.cpu": "600m"}})

    answer = await only(bench, order_for(running, limit=700))

    assert (answer.outcome, answer.status) == (pb.OUTCOME_REFUSED, 403)
    assert (answer.cause, answer.field) == ("Forbidden", "")
    assert not bench.check.skip_reason
    assert "exceeded quota" in caplog.text
    assert answer.message.startswith("exceeded quota: cpu")


async def test_a_limit_range_refuses(bench: ResizeBench) -> None:
    running = bench.make(single("web", BURSTABLE))
    path = f"/api/v1/namespaces/{bench.kube.namespace}/limitranges"
    entry = {"type": "Container", "max": {"cpu": "600m"}}
    bench.kube.create(path, "LimitRange", "cpu", spec={"limits": [entry]})

    answer = await refusal(bench, order_for(running, limit=700))

    assert answer == (pb.OUTCOME_REFUSED, 403, "Forbidden", "")


async def test_what_the_node_can_never_hold_is_told_by_its_cause(bench: ResizeBench) -> None:
    bench.cluster.api.node_millicores_checked = True
    running = bench.make(single("web", BURSTABLE))

    answer = await refusal(bench, order_for(running, request=64_000, limit=64_000))

    assert answer == (pb.OUTCOME_REFUSED, 403, "NodeCapacity", "spec")


async def test_without_the_right_nothing_is_sent_after_the_first_refusal(tmp_path: Path) -> None:
    with ResizeBench(tmp_path, "patch pods") as bench:
        running = bench.make(single("web", BURSTABLE))
        first = await refusal(bench, order_for(running, limit=250))
        again = await refusal(bench, order_for(running, limit=250))

        assert first == (pb.OUTCOME_REFUSED, 403, "AccessDenied", "")
        assert again[2] == "Unsupported"
        assert bench.check.skip_reason == DENIED_REASON
        assert len(bench.patches) == 1


async def test_without_the_subresource_nothing_is_sent_after_the_first_refusal(
    bench: ResizeBench,
) -> None:
    running = bench.make(single("web", BURSTABLE))
    bench.cluster.api.serves_resize = False

    first = await refusal(bench, order_for(running, limit=250))
    again = await refusal(bench, order_for(running, limit=250))

    assert first == (pb.OUTCOME_REFUSED, 404, "Unsupported", "")
    assert again == (pb.OUTCOME_REFUSED, 0, "Unsupported", "")
    assert bench.check.skip_reason == UNSUPPORTED_REASON
    assert len(bench.patches) == 1


async def test_a_busy_server_says_when_to_come_back_and_is_not_asked_again(
    bench: ResizeBench,
) -> None:
    running = bench.make(single("web", BURSTABLE))
    fail(bench, 429, retry_after_seconds=7)
    told = await only(bench, order_for(running, limit=250))
    fail(bench, 429)
    untold = await only(bench, order_for(running, limit=250))

    assert (told.outcome, told.cause) == (pb.OUTCOME_REFUSED, "TooManyRequests")
    assert told.retry_after.ToSeconds() == 7
    assert untold.retry_after.ToSeconds() == 1
    assert len(bench.patches) == 2


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (500, pb.OUTCOME_FAILED),
        (503, pb.OUTCOME_FAILED),
        (504, pb.OUTCOME_FAILED),
        (409, pb.OUTCOME_STALE),
        (401, pb.OUTCOME_REFUSED),
        (0, pb.OUTCOME_FAILED),
    ],
)
async def test_an_order_is_tried_once_whatever_goes_wrong(
    code: int, outcome: pb.Outcome.ValueType, bench: ResizeBench
) -> None:
    running = bench.make(single("web", BURSTABLE))
    fail(bench, code)

    failed = await only(bench, order_for(running, limit=250))
    after = await only(bench, order_for(running, limit=250))

    assert (failed.outcome, failed.status) == (outcome, code)
    assert failed.cause
    assert after.outcome == pb.OUTCOME_APPLIED
    assert len(bench.patches) == 2


async def test_a_slow_answer_keeps_nobody_else_waiting(bench: ResizeBench) -> None:
    slow = bench.make(single("slow", BURSTABLE))
    quick = bench.make(single("quick", BURSTABLE))
    held = bench.hold(slow.name)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(only(bench, order_for(slow, limit=250)))
        await asyncio.to_thread(held.begun.wait, 10)
        answer = await only(bench, order_for(quick, limit=250))
        is_waiting = not waiting.done()
        held.go_on.set()

    assert answer.outcome == pb.OUTCOME_APPLIED
    assert is_waiting
    assert waiting.result().outcome == pb.OUTCOME_APPLIED


async def test_what_is_remembered_goes_with_the_pods(bench: ResizeBench) -> None:
    running = bench.make(single("web", BURSTABLE))
    for number in range(200):
        other = _copy(running, f"uid-{number}")
        bench.seen.by_uid = {running.uid: running, other.uid: other}
        await only(bench, order_for(other, limit=500))

    assert len(bench.resizer._memories) < 100


def _copy(original: Pod, uid: str) -> Pod:
    return replace(original, uid=uid)
