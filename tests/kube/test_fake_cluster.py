"""What the fake does that the test bed's cluster can't be made to show, or only slowly."""

import http.client
import urllib.error

import pytest

from tests.kube.fake_kube import FakeKube
from tests.kube.kube import Answer, conditions_of, status_of
from tests.kube.requests import Fault
from tests.kube.resources import Cgroup, Pod
from tests.kube.shapes import BURSTABLE, GUARANTEED, UNLIMITED, single

LONG_SECONDS = 10.0


def limit(kube: FakeKube, name: str, value: str) -> Answer:
    return kube.resize(name, {"main": {"limits": {"cpu": value}}})


def quiet_pod(kube: FakeKube, resources: dict[str, dict[str, str]] = BURSTABLE) -> Pod:
    """Creates a pod and leaves it alone, up to a moment just after the kubelet looked."""
    made = kube.create_pod(single("web", resources))
    kube.let_pass(LONG_SECONDS)
    now = kube.cluster.timers.now_seconds
    kube.let_pass(1.1 - now % 1.0)
    return made


def quota_us(kube: FakeKube, pod: Pod) -> int:
    return kube.cgroup_of(pod, "main").quota_us


def reported(kube: FakeKube) -> str:
    return str(status_of(kube.get("web"))["resources"]["limits"]["cpu"])


def test_a_pod_left_alone_is_written_to_at_once_and_reported_at_the_next_look(
    kube: FakeKube,
) -> None:
    web = quiet_pod(kube)
    limit(kube, "web", "250m")
    kube.let_pass(0.1)
    assert quota_us(kube, web) == 25_000
    assert reported(kube) == "500m"
    assert set(conditions_of(kube.get("web"))) == {"PodResizeInProgress"}
    kube.let_pass(1.0)
    assert reported(kube) == "250m"
    assert kube.settled("web")


def test_before_the_kubelet_looks_a_resize_has_no_sign_but_its_generation(kube: FakeKube) -> None:
    quiet_pod(kube)
    limit(kube, "web", "250m")
    pod = kube.get("web")
    assert not conditions_of(pod)
    assert pod["status"]["observedGeneration"] == pod["metadata"]["generation"] - 1


def test_a_hurried_resize_waits_for_a_look_and_overtaken_values_are_never_written(
    kube: FakeKube,
) -> None:
    web = quiet_pod(kube)
    seen = []
    for value in ("250m", "300m", "350m", "400m"):
        limit(kube, "web", value)
        kube.let_pass(0.1)
        seen.append(quota_us(kube, web))
    assert seen == [25_000, 25_000, 25_000, 25_000]
    kube.let_pass(1.0)
    assert quota_us(kube, web) == 40_000


@pytest.mark.parametrize(("every_seconds", "written"), [(3.0, 12), (1.0, 12), (0.5, 6)])
def test_only_what_comes_no_faster_than_the_looks_is_all_written(
    kube: FakeKube, every_seconds: float, written: int
) -> None:
    web = quiet_pod(kube)
    seen = {quota_us(kube, web)}
    for number in range(12):
        limit(kube, "web", f"{100 + number}m")
        for _ in range(5):
            kube.let_pass(every_seconds / 5)
            seen.add(quota_us(kube, web))
    kube.let_pass(LONG_SECONDS)
    seen.add(quota_us(kube, web))
    assert abs(len(seen) - 1 - written) <= 1


def test_one_resize_may_go_on_while_the_next_waits_each_with_its_generation(
    kube: FakeKube,
) -> None:
    quiet_pod(kube)
    first = limit(kube, "web", "10").body["metadata"]["generation"]
    kube.let_pass(0.1)
    second = kube.resize("web", {"main": {"requests": {"cpu": "9"}}}).body["metadata"]["generation"]
    kube.let_pass(0.1)
    conditions = conditions_of(kube.get("web"))
    assert conditions["PodResizeInProgress"]["observedGeneration"] == first
    assert conditions["PodResizePending"]["observedGeneration"] == second


def test_an_error_of_the_kernel_is_told_and_tried_again(kube: FakeKube) -> None:
    web = quiet_pod(kube)
    kube.cluster.kubelet.refuse_write = lambda _: "write cpu.cfs_quota_us: invalid argument"
    limit(kube, "web", "250m")
    kube.let_pass(3.0)
    assert conditions_of(kube.get("web"))["PodResizeInProgress"]["reason"] == "Error"
    assert quota_us(kube, web) == 50_000
    kube.cluster.kubelet.refuse_write = lambda _: None
    kube.let_pass(3.0)
    assert quota_us(kube, web) == 25_000
    assert kube.settled("web")


def test_a_quota_written_by_hand_stays(kube: FakeKube) -> None:
    web = quiet_pod(kube)
    kube.cluster.kubelet.write_by_hand(web["metadata"]["uid"], "main", Cgroup(40_000, 20))
    kube.let_pass(75.0)
    assert quota_us(kube, web) == 40_000
    assert reported(kube) == "500m"


def test_deferred_pods_are_served_by_priority_and_those_that_fit(kube: FakeKube) -> None:
    kube.create_pod(single("blocker", {"requests": {"cpu": "1900m"}}))
    kube.create_pod(single("low", UNLIMITED, priority=1))
    kube.create_pod(single("high", UNLIMITED, priority=2))
    for name in ("low", "high"):
        kube.resize(name, {"main": {"requests": {"cpu": "1200m"}}})
    kube.let_pass(1.0)
    kube.delete("blocker")
    kube.let_pass(LONG_SECONDS)
    assert kube.settled("high")
    assert conditions_of(kube.get("low"))["PodResizePending"]["reason"] == "Deferred"


def test_with_the_static_cpu_manager_no_guaranteed_pod_is_resized(kube: FakeKube) -> None:
    quiet_pod(kube, GUARANTEED)
    kube.cluster.kubelet.static_cpu_manager = True
    both = {"requests": {"cpu": "70m"}, "limits": {"cpu": "70m"}}
    assert kube.resize("web", {"main": both}).code == 200
    kube.let_pass(3.0)
    assert conditions_of(kube.get("web"))["PodResizePending"]["reason"] == "Infeasible"


def test_a_later_release_refuses_more_than_the_node_at_once(kube: FakeKube) -> None:
    kube.create_pod(single("web", UNLIMITED))
    kube.cluster.api.node_millicores_checked = True
    answer = kube.resize("web", {"main": {"requests": {"cpu": "3"}}})
    assert answer.code == 403
    assert {reason for reason, _ in answer.causes} == {"NodeCapacity"}


def test_an_old_kubelet_is_told_from_an_old_api_server(kube: FakeKube) -> None:
    kube.cluster.kubelet.supports_resize = False
    kube.call("POST", kube.pods, single("web", BURSTABLE))
    kube.let_pass(LONG_SECONDS)
    answer = limit(kube, "web", "250m")
    assert (answer.code, answer.causes) == (422, {("FieldValueForbidden", "spec")})
    kube.cluster.api.serves_resize = False
    assert limit(kube, "web", "250m").code == 404


@pytest.mark.parametrize("code", [409, 422, 429, 500, 503, 504])
def test_an_injected_answer_is_given_as_often_as_asked(kube: FakeKube, code: int) -> None:
    kube.create_pod(single("web", BURSTABLE))
    kube.cluster.fail(Fault(code=code, times=2, method="PATCH", path_part="/resize"))
    codes = [limit(kube, "web", "250m").code for _ in range(3)]
    assert codes == [code, code, 200]


def test_a_busy_server_says_when_to_come_back(kube: FakeKube) -> None:
    kube.create_pod(single("web", BURSTABLE))
    kube.cluster.fail(Fault(code=429, retry_after_seconds=7))
    answer = limit(kube, "web", "250m")
    assert answer.body["details"]["retryAfterSeconds"] == 7


def test_an_answer_may_be_lost(kube: FakeKube) -> None:
    kube.cluster.fail(Fault(code=0))
    with pytest.raises((urllib.error.URLError, http.client.RemoteDisconnected)):
        kube.call("GET", kube.pods)
    assert kube.call("GET", kube.pods).code == 200


def test_a_bookmark_says_how_far_a_quiet_watch_is(kube: FakeKube) -> None:
    version = kube.call("GET", kube.pods).body["metadata"]["resourceVersion"]
    query = {"resourceVersion": version, "allowWatchBookmarks": "true"}
    with kube.watch(kube.pods, **query) as events:
        kube.create("/api/v1/namespaces", "Namespace", "other")
        kube.cluster.send_bookmarks()
        event = next(events)
    assert event["type"] == "BOOKMARK"
    assert int(event["object"]["metadata"]["resourceVersion"]) > int(version)


def test_a_watch_ends_when_its_time_is_over_and_when_the_server_closes_it(kube: FakeKube) -> None:
    version = kube.call("GET", kube.pods).body["metadata"]["resourceVersion"]
    with kube.watch(kube.pods, resourceVersion=version, timeoutSeconds="30") as events:
        kube.let_pass(31.0)
        assert list(events) == []
    with kube.watch(kube.pods, resourceVersion=version) as events:
        kube.cluster.close_watches()
        assert list(events) == []


def test_a_watch_from_a_forgotten_version_must_list_again(kube: FakeKube) -> None:
    """A real server says so of versions older than its own start: no case can make it sure."""
    version = kube.call("GET", kube.pods).body["metadata"]["resourceVersion"]
    kube.cluster.forget_history()
    with kube.watch(kube.pods, resourceVersion=version) as events:
        (event,) = events
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


def test_a_watch_of_one_node_sees_a_pod_come_and_go(kube: FakeKube) -> None:
    version = kube.call("GET", kube.pods).body["metadata"]["resourceVersion"]
    selector = "spec.nodeName=fake-node"
    with kube.watch(kube.pods, resourceVersion=version, fieldSelector=selector) as events:
        kube.create_pod(single("web", BURSTABLE))
        kube.delete("web")
        types = [next(events)["type"] for _ in range(3)]
    assert types == ["ADDED", "MODIFIED", "DELETED"]
