"""Who gets room on a node, and what becomes of who does not."""

from tests.kube.kube import Kube, conditions_of, status_of
from tests.kube.resources import Pod
from tests.kube.shapes import BURSTABLE, UNLIMITED, container, pod, single

POLICY = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]


def the_last_of_two_writers_wins(kube: Kube) -> None:
    """Neither gives a version, so neither is told of the other."""
    running = kube.create_pod(single("writers", BURSTABLE))
    for limit in ("300m", "400m"):
        assert kube.resize("writers", {"main": {"limits": {"cpu": limit}}}).code == 200
    kube.wait(lambda: kube.cgroup_of(running, "main").quota_us == 40_000)


def goods_that_a_node_has_whole_cannot_be_resized(kube: Kube) -> None:
    kube.create_pod(single("whole", BURSTABLE))
    for good, amount in (("example.com/gpu", "1"), ("hugepages-2Mi", "2Mi")):
        both = {"requests": {good: amount}, "limits": {good: amount}}
        answer = kube.resize("whole", {"main": both})
        assert (answer.code, answer.causes) == (422, {("FieldValueForbidden", "spec")})


def an_added_limit_can_never_be_taken_away_again(kube: Kube) -> None:
    kube.create_pod(single("once", UNLIMITED))
    assert kube.resize("once", {"main": {"limits": {"cpu": "200m"}}}).code == 200
    answer = kube.resize("once", {"main": {"limits": {"cpu": None}}})
    assert answer.code == 422
    assert ("FieldValueForbidden", "spec.containers[0].resources.limits") in answer.causes


def a_pod_that_never_restarts_has_no_container_that_a_resize_would_restart(kube: Kube) -> None:
    never = pod("never", container("main", BURSTABLE, resizePolicy=POLICY), restartPolicy="Never")
    answer = kube.call("POST", kube.pods, never)
    assert answer.code == 422
    assert ("FieldValueInvalid", "spec.containers[0].resizePolicy") in answer.causes


def a_pod_with_resources_of_its_own_is_not_resized(kube: Kube) -> None:
    """Neither they nor those of a container in it, on a release where that is not yet on."""
    whole = {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "600m"}}
    kube.create_pod(pod("whole-pod", container("main", BURSTABLE), resources=whole))
    for answer in (
        kube.resize("whole-pod", {"main": {"limits": {"cpu": "300m"}}}),
        kube.patch("whole-pod", {"spec": {"resources": {"limits": {"cpu": "400m"}}}}),
    ):
        assert answer.code == 422
        assert ("FieldValueForbidden", "[]") in answer.causes


def the_class_of_service_is_what_it_was_at_first(kube: Kube) -> None:
    kube.create_pod(single("class", BURSTABLE))
    body = {"status": {"qosClass": "Guaranteed"}}
    answer = kube.patch("class", body, subresource="/status")
    assert answer.code == 422
    assert ("FieldValueInvalid", "status.qosClass") in answer.causes
    assert kube.get("class")["status"]["qosClass"] == "Burstable"


def what_waits_for_room_keeps_others_out_and_what_can_never_be_does_not(kube: Kube) -> None:
    free = kube.allocatable_millicores()
    kube.create_pod(single("large", {"requests": {"cpu": f"{free - 800}m"}}))
    kube.create_pod(single("asks", UNLIMITED))
    kube.resize("asks", {"main": {"requests": {"cpu": "900m"}}})
    kube.wait(lambda: _reason(kube, "asks") == "Deferred")
    assert kube.call("POST", kube.pods, single("kept-out", UNLIMITED)).code == 201
    kube.let_pass(2)
    scheduled = next(
        each
        for each in kube.get("kept-out")["status"]["conditions"]
        if each["type"] == "PodScheduled"
    )
    assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")
    kube.resize("asks", {"main": {"requests": {"cpu": f"{free + 1000}m"}}})
    kube.wait(lambda: _reason(kube, "asks") == "Infeasible")
    kube.wait(lambda: "nodeName" in kube.get("kept-out")["spec"])


def a_pod_bound_to_a_node_without_room_is_turned_away(kube: Kube) -> None:
    node = kube.create_pod(single("first", UNLIMITED))["spec"]["nodeName"]
    nearly = kube.allocatable_millicores() - 10
    late = single("late", {"requests": {"cpu": f"{nearly}m"}}, nodeName=node)
    assert kube.call("POST", kube.pods, late).code == 201
    kube.wait(lambda: kube.get("late")["status"]["phase"] == "Failed")
    assert kube.get("late")["status"]["reason"] == "OutOfcpu"
    assert kube.resize("first", {"main": {"requests": {"cpu": "30m"}}}).code == 200
    kube.wait(lambda: kube.settled("first"))


def room_goes_to_the_better_class_first_and_past_who_does_not_fit(kube: Kube) -> None:
    free = kube.allocatable_millicores()
    kube.create_pod(single("leaves", {"requests": {"cpu": f"{free - 300}m"}}))
    memory = {"memory": "32Mi"}
    small = {"requests": {"cpu": "20m", **memory}, "limits": {"cpu": "20m", **memory}}
    names = {"burstable": UNLIMITED, "better": small, "too-large": UNLIMITED}
    for name, resources in names.items():
        kube.create_pod(single(name, resources))
    share = f"{free * 6 // 10}m"
    kube.resize("burstable", {"main": {"requests": {"cpu": share}}})
    kube.resize("too-large", {"main": {"requests": {"cpu": f"{free - 10}m"}}})
    both = {"requests": {"cpu": share}, "limits": {"cpu": share}}
    kube.resize("better", {"main": both})
    kube.wait(lambda: {_reason(kube, name) for name in names} == {"Deferred"})
    kube.delete("leaves")
    kube.wait(lambda: kube.settled("better"))
    assert _reason(kube, "burstable") == _reason(kube, "too-large") == "Deferred"


def a_cut_that_the_kernel_refuses_holds_back_the_raise_beside_it(kube: Kube) -> None:
    both = (container("main", BURSTABLE), container("other", BURSTABLE))
    running = kube.create_pod(pod("held", *both))
    kube.write_burst(running, "main", 50_000)
    change = {"main": {"limits": {"cpu": "300m"}}, "other": {"limits": {"cpu": "600m"}}}
    assert kube.resize("held", change).code == 200
    kube.wait(lambda: _progress(kube.get("held")).get("reason") == "Error")
    assert "invalid argument" in _progress(kube.get("held"))["message"]
    kube.let_pass(2)
    assert kube.cgroup_of(running, "main").quota_us == 50_000
    assert kube.cgroup_of(running, "other").quota_us == 50_000
    kube.write_burst(running, "main", 0)
    kube.wait(lambda: kube.cgroup_of(running, "other").quota_us == 60_000)
    kube.wait(lambda: kube.settled("held"))
    assert status_of(kube.get("held"))["restartCount"] == 0


def _reason(kube: Kube, name: str) -> str:
    pending = conditions_of(kube.get(name)).get("PodResizePending", {})
    return str(pending.get("reason", ""))


def _progress(running: Pod) -> dict[str, str]:
    return conditions_of(running).get("PodResizeInProgress", {})


CASES = (
    the_last_of_two_writers_wins,
    goods_that_a_node_has_whole_cannot_be_resized,
    an_added_limit_can_never_be_taken_away_again,
    a_pod_that_never_restarts_has_no_container_that_a_resize_would_restart,
    a_pod_with_resources_of_its_own_is_not_resized,
    the_class_of_service_is_what_it_was_at_first,
    what_waits_for_room_keeps_others_out_and_what_can_never_be_does_not,
    a_pod_bound_to_a_node_without_room_is_turned_away,
    room_goes_to_the_better_class_first_and_past_who_does_not_fit,
    a_cut_that_the_kernel_refuses_holds_back_the_raise_beside_it,
)
ALONE = (
    what_waits_for_room_keeps_others_out_and_what_can_never_be_does_not,
    a_pod_bound_to_a_node_without_room_is_turned_away,
    room_goes_to_the_better_class_first_and_past_who_does_not_fit,
)
