"""What a resize does to the pod, its cgroups and its status."""

from tests.kube.kube import Kube, conditions_of, status_of
from tests.kube.resources import NO_QUOTA
from tests.kube.shapes import BURSTABLE, GUARANTEED, UNLIMITED, container, pod, single


def a_limit_moves_the_quota_of_the_running_container(kube: Kube) -> None:
    running = kube.create_pod(single("limit", BURSTABLE))
    before = status_of(running)
    for limit, quota_us in (("250m", 25_000), ("1", 100_000), ("333m", 33_300)):
        answer = kube.resize("limit", {"main": {"limits": {"cpu": limit}}})
        assert answer.code == 200
        kube.wait(lambda quota_us=quota_us: kube.cgroup_of(running, "main").quota_us == quota_us)  # type: ignore[misc]  # mypy cannot type a lambda's default.
        assert answer.body["spec"]["containers"][0]["resources"]["limits"]["memory"] == "64Mi"
    kube.wait(lambda: kube.settled("limit"))
    after = status_of(kube.get("limit"))
    assert after["resources"]["limits"]["cpu"] == "333m"
    assert after["containerID"] == before["containerID"]
    assert after["restartCount"] == 0
    assert kube.cgroup_of(running, "main").period_us == 100_000


def each_resize_is_one_generation(kube: Kube) -> None:
    before = kube.create_pod(single("generation", BURSTABLE))
    answer = kube.resize("generation", {"main": {"limits": {"cpu": "300m"}}})
    assert answer.body["metadata"]["generation"] == before["metadata"]["generation"] + 1
    kube.wait(lambda: kube.settled("generation"))
    pod_now = kube.get("generation")
    assert pod_now["status"]["observedGeneration"] == answer.body["metadata"]["generation"]
    assert "resize" not in pod_now["status"]


def a_request_moves_the_shares_and_not_the_quota(kube: Kube) -> None:
    running = kube.create_pod(single("request", BURSTABLE))
    for request, shares in (("100m", 102), ("300m", 307), ("1m", 2)):
        assert kube.resize("request", {"main": {"requests": {"cpu": request}}}).code == 200
        kube.wait(lambda shares=shares: kube.cgroup_of(running, "main").shares == shares)  # type: ignore[misc]  # mypy cannot type a lambda's default.
        assert kube.cgroup_of(running, "main").quota_us == 50_000
        kube.wait(lambda: kube.settled("request"))  # The status follows the cgroup.
        assert status_of(kube.get("request"))["allocatedResources"]["cpu"] == request


def a_limit_below_10m_acts_as_10m_and_reads_as_written(kube: Kube) -> None:
    running = kube.create_pod(single("floor", {"requests": {"cpu": "1m"}, **_only_limit("50m")}))
    for limit, quota_us in (("12m", 1_200), ("9m", 1_000)):
        assert kube.resize("floor", {"main": {"limits": {"cpu": limit}}}).code == 200
        kube.wait(lambda quota_us=quota_us: kube.cgroup_of(running, "main").quota_us == quota_us)  # type: ignore[misc]  # mypy cannot type a lambda's default.
    kube.wait(lambda: kube.settled("floor"))
    assert status_of(kube.get("floor"))["resources"]["limits"]["cpu"] == "9m"


def a_limit_may_be_more_than_the_node_has(kube: Kube) -> None:
    running = kube.create_pod(single("huge", BURSTABLE))
    millicores = 4 * kube.allocatable_millicores()
    assert kube.resize("huge", {"main": {"limits": {"cpu": f"{millicores}m"}}}).code == 200
    kube.wait(lambda: kube.cgroup_of(running, "main").quota_us == millicores * 100)
    kube.wait(lambda: kube.settled("huge"))


def two_containers_change_in_one_patch_and_the_pod_has_their_sum(kube: Kube) -> None:
    both = (container("main", BURSTABLE), container("other", BURSTABLE))
    running = kube.create_pod(pod("two", *both))
    answer = kube.resize(
        "two", {"main": {"limits": {"cpu": "200m"}}, "other": {"limits": {"cpu": "300m"}}}
    )
    assert answer.code == 200
    assert [each["name"] for each in answer.body["spec"]["containers"]] == ["main", "other"]
    kube.wait(lambda: kube.cgroup_of(running).quota_us == 50_000)
    kube.wait(lambda: kube.cgroup_of(running, "main").quota_us == 20_000)
    kube.wait(lambda: kube.cgroup_of(running, "other").quota_us == 30_000)


def a_pod_has_no_quota_while_one_container_has_no_limit(kube: Kube) -> None:
    both = (container("main", BURSTABLE), container("other", UNLIMITED))
    running = kube.create_pod(pod("half", *both))
    assert kube.cgroup_of(running).quota_us == NO_QUOTA
    assert kube.cgroup_of(running, "other").quota_us == NO_QUOTA


def a_limit_can_be_added_where_none_was(kube: Kube) -> None:
    running = kube.create_pod(single("added", UNLIMITED))
    assert kube.resize("added", {"main": {"limits": {"cpu": "200m"}}}).code == 200
    kube.wait(lambda: kube.cgroup_of(running, "main").quota_us == 20_000)


def a_guaranteed_pod_moves_request_and_limit_together(kube: Kube) -> None:
    running = kube.create_pod(single("guaranteed", GUARANTEED))
    both = {"requests": {"cpu": "70m"}, "limits": {"cpu": "70m"}}
    assert kube.resize("guaranteed", {"main": both}).code == 200
    kube.wait(lambda: kube.cgroup_of(running, "main").quota_us == 7_000)
    assert kube.get("guaranteed")["status"]["qosClass"] == "Guaranteed"


def a_sidecar_is_resized_as_any_container(kube: Kube) -> None:
    sidecar = container("side", BURSTABLE, restartPolicy="Always")
    running = kube.create_pod(
        pod("sidecar", container("main", BURSTABLE), initContainers=[sidecar])
    )
    change = {"name": "side", "resources": {"limits": {"cpu": "250m"}}}
    assert kube.patch("sidecar", {"spec": {"initContainers": [change]}}).code == 200
    kube.wait(lambda: kube.cgroup_of(running).quota_us == 75_000)


def a_memory_limit_moves_without_a_restart(kube: Kube) -> None:
    kube.create_pod(single("memory", BURSTABLE))
    for limit in ("96Mi", "48Mi"):
        assert kube.resize("memory", {"main": {"limits": {"memory": limit}}}).code == 200
        kube.wait(lambda: kube.settled("memory"))
        status = status_of(kube.get("memory"))
        assert status["resources"]["limits"] == {"cpu": "500m", "memory": limit}
        assert status["restartCount"] == 0


def the_same_values_again_change_nothing(kube: Kube) -> None:
    kube.create_pod(single("same", BURSTABLE))
    before = kube.get("same")
    answer = kube.resize("same", {"main": {"limits": {"cpu": "0.5"}}})
    assert answer.code == 200
    for key in ("generation", "resourceVersion"):
        assert answer.body["metadata"][key] == before["metadata"][key]


def a_request_set_to_null_silently_becomes_the_limit(kube: Kube) -> None:
    running = kube.create_pod(single("null", BURSTABLE))
    answer = kube.resize("null", {"main": {"requests": {"cpu": None}}})
    assert answer.code == 200
    assert answer.body["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "500m"
    kube.wait(lambda: kube.cgroup_of(running, "main").shares == 512)


def all_but_resources_is_silently_dropped(kube: Kube) -> None:
    before = kube.create_pod(single("dropped", BURSTABLE))
    change = {"name": "main", "image": "other", "resources": {"limits": {"cpu": "300m"}}}
    metadata = {"labels": {"a": "b"}, "annotations": {"c": "d"}}
    answer = kube.patch("dropped", {"metadata": metadata, "spec": {"containers": [change]}})
    assert answer.code == 200
    after = answer.body
    assert after["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "300m"
    assert after["spec"]["containers"][0]["image"] == before["spec"]["containers"][0]["image"]
    assert "a" not in after["metadata"].get("labels", {})
    assert "c" not in after["metadata"].get("annotations", {})


def a_json_patch_of_one_leaf_works(kube: Kube) -> None:
    kube.create_pod(single("json", BURSTABLE))
    path = "/spec/containers/0/resources/limits/cpu"
    answer = kube.patch("json", [{"op": "replace", "path": path, "value": "300m"}])
    assert answer.code == 200
    assert answer.body["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "300m"


def a_dry_run_answers_with_the_new_values_and_stores_nothing(kube: Kube) -> None:
    before = kube.create_pod(single("dry", BURSTABLE))
    answer = kube.resize("dry", {"main": {"limits": {"cpu": "300m"}}}, dryRun="All")
    assert answer.code == 200
    assert answer.body["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "300m"
    assert kube.get("dry")["spec"] == before["spec"]
    assert kube.get("dry")["metadata"]["generation"] == before["metadata"]["generation"]


def a_container_that_wants_it_is_restarted_by_its_resize(kube: Kube) -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    kube.create_pod(pod("restarts", container("main", BURSTABLE, resizePolicy=policy)))
    assert kube.resize("restarts", {"main": {"limits": {"cpu": "300m"}}}).code == 200
    kube.wait(lambda: status_of(kube.get("restarts"))["restartCount"] == 1)


def a_request_above_the_node_is_infeasible_and_holds_back_the_limit(kube: Kube) -> None:
    """All or nothing: what comes after it is granted only once the whole spec is feasible."""
    running = kube.create_pod(single("infeasible", BURSTABLE))
    too_much = f"{kube.allocatable_millicores() + 1000}m"
    asked = {"requests": {"cpu": too_much}, "limits": {"cpu": too_much}}
    answer = kube.resize("infeasible", {"main": asked})
    assert answer.code == 200
    _wait_pending(kube, "infeasible", "Infeasible", answer.body["metadata"]["generation"])
    assert status_of(kube.get("infeasible"))["allocatedResources"]["cpu"] == "20m"

    limit_only = kube.resize("infeasible", {"main": {"limits": {"cpu": "100"}}})
    assert limit_only.code == 200
    _wait_pending(kube, "infeasible", "Infeasible", limit_only.body["metadata"]["generation"])
    kube.let_pass(2)
    assert kube.cgroup_of(running, "main").quota_us == 50_000

    withdrawn = {"requests": {"cpu": "20m"}, "limits": {"cpu": "250m"}}
    assert kube.resize("infeasible", {"main": withdrawn}).code == 200
    kube.wait(lambda: kube.settled("infeasible"))
    assert kube.cgroup_of(running, "main").quota_us == 25_000


def a_request_without_room_is_deferred_until_room_comes(kube: Kube) -> None:
    """Meanwhile a pod that only moves its limit is served at once."""
    big = f"{kube.allocatable_millicores() - 500}m"
    kube.create_pod(single("blocker", {"requests": {"cpu": big}}))
    running = kube.create_pod(single("deferred", UNLIMITED))
    bystander = kube.create_pod(single("bystander", BURSTABLE))
    answer = kube.resize("deferred", {"main": {"requests": {"cpu": "600m"}}})
    assert answer.code == 200
    _wait_pending(kube, "deferred", "Deferred", answer.body["metadata"]["generation"])

    assert kube.resize("bystander", {"main": {"limits": {"cpu": "900m"}}}).code == 200
    kube.wait(lambda: kube.cgroup_of(bystander, "main").quota_us == 90_000)

    assert kube.cgroup_of(running, "main").shares == 20
    kube.delete("blocker")
    kube.wait(lambda: kube.cgroup_of(running, "main").shares == 614)
    kube.wait(lambda: kube.settled("deferred"))


def an_unscheduled_pod_is_resized_in_its_spec_alone(kube: Kube) -> None:
    nowhere = single("unscheduled", BURSTABLE, nodeSelector={"no": "such-node"})
    assert kube.call("POST", kube.pods, nowhere).code == 201
    answer = kube.resize("unscheduled", {"main": {"limits": {"cpu": "300m"}}})
    assert answer.code == 200
    assert "nodeName" not in answer.body["spec"]
    assert "containerStatuses" not in answer.body["status"]


def without_a_kubelet_a_resize_is_accepted_and_not_observed(kube: Kube) -> None:
    """The only sign is the observed generation; the kubelet goes on from there once it is back."""
    running = kube.create_pod(single("orphan", BURSTABLE))
    kube.stop_kubelet()
    try:
        answer = kube.resize("orphan", {"main": {"limits": {"cpu": "250m"}}})
        assert answer.code == 200
        kube.let_pass(2)
        now = kube.get("orphan")
        assert now["status"]["observedGeneration"] < now["metadata"]["generation"]
        assert not conditions_of(now)
        assert kube.cgroup_of(running, "main").quota_us == 50_000
    finally:
        kube.start_kubelet()
    kube.wait(lambda: kube.cgroup_of(running, "main").quota_us == 25_000)
    kube.wait(lambda: kube.settled("orphan"))
    assert status_of(kube.get("orphan"))["restartCount"] == 0


def _only_limit(limit: str) -> dict[str, dict[str, str]]:
    return {"limits": {"cpu": limit}}


def _wait_pending(kube: Kube, name: str, reason: str, generation: int) -> None:
    def is_pending() -> bool:
        pending = conditions_of(kube.get(name)).get("PodResizePending", {})
        return (pending.get("reason"), pending.get("observedGeneration")) == (reason, generation)

    kube.wait(is_pending)
    # The pod's own number may follow a moment later.
    kube.wait(lambda: kube.get(name)["status"].get("observedGeneration") == generation)


CASES = (
    a_limit_moves_the_quota_of_the_running_container,
    each_resize_is_one_generation,
    a_request_moves_the_shares_and_not_the_quota,
    a_limit_below_10m_acts_as_10m_and_reads_as_written,
    a_limit_may_be_more_than_the_node_has,
    two_containers_change_in_one_patch_and_the_pod_has_their_sum,
    a_pod_has_no_quota_while_one_container_has_no_limit,
    a_limit_can_be_added_where_none_was,
    a_guaranteed_pod_moves_request_and_limit_together,
    a_sidecar_is_resized_as_any_container,
    a_memory_limit_moves_without_a_restart,
    the_same_values_again_change_nothing,
    a_request_set_to_null_silently_becomes_the_limit,
    all_but_resources_is_silently_dropped,
    a_json_patch_of_one_leaf_works,
    a_dry_run_answers_with_the_new_values_and_stores_nothing,
    a_container_that_wants_it_is_restarted_by_its_resize,
    a_request_above_the_node_is_infeasible_and_holds_back_the_limit,
    a_request_without_room_is_deferred_until_room_comes,
    an_unscheduled_pod_is_resized_in_its_spec_alone,
    without_a_kubelet_a_resize_is_accepted_and_not_observed,
)
ALONE = (
    a_request_without_room_is_deferred_until_room_comes,
    without_a_kubelet_a_resize_is_accepted_and_not_observed,
)
