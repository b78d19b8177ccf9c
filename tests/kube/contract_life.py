"""How a pod goes, ends and restarts, as its watchers see it."""

from typing import Any

from tests.kube.kube import Kube, status_of
from tests.kube.shapes import BURSTABLE, UNLIMITED, container, pod, single

LIMIT_300M = {"main": {"limits": {"cpu": "300m"}}}


def a_pod_that_is_to_go_says_so_until_it_has_ended(kube: Kube) -> None:
    """And a resize of it is still taken: to leave it alone is up to the caller."""
    before = kube.create_pod(single("going", BURSTABLE, terminationGracePeriodSeconds=2))
    kube.let_pass(1)
    deleted = kube.call("DELETE", f"{kube.pods}/going")
    assert deleted.code == 200
    metadata = deleted.body["metadata"]
    assert metadata["generation"] == before["metadata"]["generation"] + 1
    assert metadata["deletionGracePeriodSeconds"] == 2
    assert metadata["deletionTimestamp"] > metadata["creationTimestamp"]
    assert deleted.body["status"]["phase"] == "Running"
    query = {"resourceVersion": metadata["resourceVersion"], "timeoutSeconds": "20"}
    assert kube.resize("going", LIMIT_300M).code == 200
    seen: list[dict[str, Any]] = []
    kube.wait(lambda: kube.call("GET", f"{kube.pods}/going").code == 404)
    with kube.watch(kube.pods, fieldSelector="metadata.name=going", **query) as events:
        for event in events:
            seen.append(event)
            if event["type"] == "DELETED":
                break
    assert all("deletionTimestamp" in each["object"]["metadata"] for each in seen)
    phases = [each["object"]["status"]["phase"] for each in seen]
    assert phases[-1] != "Running"
    assert "terminated" in status_of(seen[-1]["object"])["state"]


def a_pod_deleted_without_grace_is_gone_at_once(kube: Kube) -> None:
    kube.create_pod(single("abrupt", UNLIMITED, terminationGracePeriodSeconds=30))
    answer = kube.call("DELETE", f"{kube.pods}/abrupt", gracePeriodSeconds="0")
    assert (answer.code, answer.body["kind"]) == (200, "Pod")
    gone = kube.call("GET", f"{kube.pods}/abrupt")
    assert (gone.code, gone.body["details"]) == (404, {"name": "abrupt", "kind": "pods"})


def a_delete_is_only_of_the_object_it_means(kube: Kube) -> None:
    made = kube.create_pod(single("meant", UNLIMITED))
    body = {"preconditions": {"uid": "another"}, "gracePeriodSeconds": 0}
    refused = kube.call("DELETE", f"{kube.pods}/meant", body)
    assert (refused.code, refused.body["reason"]) == (409, "Conflict")
    body["preconditions"] = {"uid": made["metadata"]["uid"]}
    assert kube.call("DELETE", f"{kube.pods}/meant", body).code == 200


def a_pod_that_is_done_keeps_its_place_and_its_values(kube: Kube) -> None:
    """Its API object goes on, resizes of it are taken and never granted."""
    made = single("done", BURSTABLE, restartPolicy="Never")
    made["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", "sleep 2"]
    kube.create_pod(made)
    kube.end_container("done", "main")
    kube.wait(lambda: kube.get("done")["status"]["phase"] == "Succeeded")
    status = status_of(kube.get("done"))
    assert status["state"]["terminated"]["exitCode"] == 0
    assert status["ready"] is False
    assert status["restartCount"] == 0
    assert kube.resize("done", LIMIT_300M).code == 200


def a_container_that_fails_comes_back_under_another_id(kube: Kube) -> None:
    made = single("crash", BURSTABLE)
    made["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", "sleep 3; exit 1"]
    before = status_of(kube.create_pod(made))
    kube.end_container("crash", "main", exit_code=1)
    kube.wait(lambda: status_of(kube.get("crash"))["restartCount"] == 1)
    after = status_of(kube.get("crash"))
    assert after["containerID"] != before["containerID"]
    last = after["lastState"]["terminated"]
    assert (last["exitCode"], last["containerID"]) == (1, before["containerID"])
    assert kube.get("crash")["status"]["phase"] == "Running"


def an_init_container_is_told_as_ended_beside_a_sidecar_that_runs(kube: Kube) -> None:
    first = container("first", BURSTABLE, command=["/bin/sh", "-c", "true"])
    side = container("side", BURSTABLE, restartPolicy="Always")
    made = pod("started", container("main", BURSTABLE), initContainers=[first, side])
    statuses = kube.create_pod(made)["status"]["initContainerStatuses"]
    assert [each["name"] for each in statuses] == ["first", "side"]
    assert statuses[0]["state"]["terminated"]["exitCode"] == 0
    assert (statuses[0]["ready"], statuses[0]["started"]) == (True, False)
    assert "running" in statuses[1]["state"]
    assert statuses[1]["allocatedResources"]["cpu"] == "20m"


def the_kubelet_tells_each_resize_in_events(kube: Kube) -> None:
    """Each has a text, then JSON with the generation."""
    kube.create_pod(single("events", BURSTABLE))
    answer = kube.resize("events", LIMIT_300M)
    kube.wait(lambda: {"ResizeStarted", "ResizeCompleted"} <= set(_events(kube, "events")))
    generation = answer.body["metadata"]["generation"]
    assert f'"generation":{generation}' in _events(kube, "events")["ResizeStarted"]["message"]
    too_much = {"requests": {"cpu": "64"}, "limits": {"cpu": "64"}}
    kube.resize("events", {"main": too_much})
    kube.wait(lambda: "ResizeInfeasible" in _events(kube, "events"))
    event = _events(kube, "events")["ResizeInfeasible"]
    assert event["type"] == "Warning"
    assert event["source"]["component"] == "kubelet"
    assert '"error":' in event["message"]


def a_selector_chooses_pods_by_node_and_phase(kube: Kube) -> None:
    node = kube.create_pod(single("chosen", UNLIMITED))["spec"]["nodeName"]
    nowhere = single("unchosen", UNLIMITED, nodeSelector={"no": "such-node"})
    assert kube.call("POST", kube.pods, nowhere).code == 201
    for selector, names in (
        (f"spec.nodeName={node}", ["chosen"]),
        ("spec.nodeName!=", ["chosen"]),
        (f"spec.nodeName={node},status.phase!=Running", []),
        ("spec.nodeName=", ["unchosen"]),
    ):
        items = kube.call("GET", kube.pods, fieldSelector=selector).body["items"]
        assert [each["metadata"]["name"] for each in items] == names, selector
    refused = kube.call("GET", kube.pods, fieldSelector="spec.containers=x")
    assert (refused.code, refused.body["reason"]) == (400, "BadRequest")


def _events(kube: Kube, pod_name: str) -> dict[str, dict[str, Any]]:
    path = f"/api/v1/namespaces/{kube.namespace}/events"
    answer = kube.call("GET", path, fieldSelector=f"involvedObject.name={pod_name}")
    return {each["reason"]: each for each in answer.body["items"]}


CASES = (
    a_pod_that_is_to_go_says_so_until_it_has_ended,
    a_pod_deleted_without_grace_is_gone_at_once,
    a_delete_is_only_of_the_object_it_means,
    a_pod_that_is_done_keeps_its_place_and_its_values,
    a_container_that_fails_comes_back_under_another_id,
    an_init_container_is_told_as_ended_beside_a_sidecar_that_runs,
    the_kubelet_tells_each_resize_in_events,
    a_selector_chooses_pods_by_node_and_phase,
)
