"""Whom the API server lets resize how much, and how it tells what has changed."""

from itertools import takewhile
from typing import Any

from tests.kube.kube import Kube, status_of
from tests.kube.shapes import BURSTABLE, single

LIMIT_300M = {"main": {"limits": {"cpu": "300m"}}}


def patching_resize_is_a_right_of_its_own(kube: Kube) -> None:
    kube.create_pod(single("rights", BURSTABLE))
    resizer = kube.with_rights("patch pods/resize")
    assert resizer.resize("rights", LIMIT_300M).code == 200
    assert resizer.call("GET", f"{kube.pods}/rights").code == 403
    label = {"metadata": {"labels": {"a": "b"}}}
    assert resizer.patch("rights", label, subresource="").code == 403

    patcher = kube.with_rights("patch pods", "get pods")
    answer = patcher.resize("rights", {"main": {"limits": {"cpu": "400m"}}})
    assert (answer.code, answer.body["reason"]) == (403, "Forbidden")


def a_user_can_ask_whether_it_may_resize(kube: Kube) -> None:
    asked = {"verb": "patch", "resource": "pods", "subresource": "resize"}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked | {"namespace": kube.namespace}},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    for rights, allowed in ((("patch pods/resize",), True), (("patch pods",), False)):
        answer = kube.with_rights(*rights).call("POST", path, body)
        assert answer.code == 201
        assert answer.body["status"]["allowed"] is allowed


def a_token_review_names_the_user_only_for_the_right_audience(kube: Kube) -> None:
    token = kube.with_rights("patch pods/resize").token
    named = _token_review(kube, token)
    assert named["authenticated"] is True
    assert named["user"]["username"].startswith(f"system:serviceaccount:{kube.namespace}:")
    for unknown in (
        _token_review(kube, "nonsense"),
        _token_review(kube, token, audiences=["somebody-else"]),
    ):
        assert not unknown.get("authenticated")
        assert "username" not in unknown["user"]


def a_token_bound_to_a_pod_names_its_node(kube: Kube) -> None:
    accounts = f"/api/v1/namespaces/{kube.namespace}/serviceaccounts"
    kube.create(accounts, "ServiceAccount", "bound")
    running = kube.create_pod(single("bound", BURSTABLE, serviceAccountName="bound"))
    spec = {"audiences": ["mbcas"]}
    reference = {
        "kind": "Pod",
        "apiVersion": "v1",
        "name": "bound",
        "uid": running["metadata"]["uid"],
    }
    unbound = _token(kube, f"{accounts}/bound/token", spec)
    bound = _token(kube, f"{accounts}/bound/token", spec | {"boundObjectRef": reference})
    user = _token_review(kube, bound, audiences=["mbcas"])["user"]
    assert user["username"] == f"system:serviceaccount:{kube.namespace}:bound"
    named = user["extra"]["authentication.kubernetes.io/node-name"]
    assert named == [running["spec"]["nodeName"]]
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["bound"]
    plain = _token_review(kube, unbound, audiences=["mbcas"])["user"]
    assert "authentication.kubernetes.io/node-name" not in plain.get("extra", {})
    assert not _token_review(kube, bound).get("authenticated")
    assert not _token_review(kube, bound, audiences=["other"]).get("authenticated")


def a_token_for_another_audience_does_not_open_the_api(kube: Kube) -> None:
    accounts = f"/api/v1/namespaces/{kube.namespace}/serviceaccounts"
    kube.create(accounts, "ServiceAccount", "audience")
    caller = kube.with_rights()
    caller.token = _token(kube, f"{accounts}/audience/token", {"audiences": ["mbcas"]})
    assert caller.call("GET", caller.pods).code == 401


def an_access_review_tells_what_another_user_may(kube: Kube) -> None:
    token = kube.with_rights("patch pods/resize").token
    user = _token_review(kube, token)["user"]["username"]
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    for verb, allowed in (("patch", True), ("update", False)):
        asked = {"verb": verb, "resource": "pods", "subresource": "resize"}
        spec = {"user": user, "resourceAttributes": asked | {"namespace": kube.namespace}}
        answer = kube.call("POST", path, _review("authorization", "SubjectAccessReview", spec))
        assert answer.code == 201
        assert answer.body["status"]["allowed"] is allowed


def an_unknown_token_is_unauthorized(kube: Kube) -> None:
    nobody = kube.with_rights()
    nobody.token = "nobody"  # noqa: S105 - no secret.
    assert nobody.resize("any", LIMIT_300M).code == 401


def a_quota_refuses_what_exceeds_it(kube: Kube) -> None:
    kube.create_pod(single("quota", BURSTABLE))
    path = f"/api/v1/namespaces/{kube.namespace}/resourcequotas"
    used = _total_limits_millicores(kube)
    kube.create(path, "ResourceQuota", "cpu", spec={"hard": {"limits.cpu": f"{used + 100}m"}})
    try:
        kube.wait(lambda: "hard" in kube.call("GET", f"{path}/cpu").body.get("status", {}))
        above = kube.resize("quota", {"main": {"limits": {"cpu": "601m"}}})
        assert (above.code, above.body["reason"], above.causes) == (403, "Forbidden", set())
        assert kube.resize("quota", {"main": {"limits": {"cpu": "600m"}}}).code == 200
        assert kube.resize("quota", {"main": {"limits": {"cpu": "500m"}}}).code == 200
    finally:
        kube.call("DELETE", f"{path}/cpu")


def a_limit_range_refuses_what_is_outside(kube: Kube) -> None:
    kube.create_pod(single("range", BURSTABLE))
    path = f"/api/v1/namespaces/{kube.namespace}/limitranges"
    entry = {"type": "Container", "max": {"cpu": "600m"}, "min": {"cpu": "10m"}}
    kube.create(path, "LimitRange", "cpu", spec={"limits": [entry]})
    try:
        # The admission plugin knows a new object only once its watch has told it.
        kube.wait(lambda: _limited_at(kube, "601m") == 403)
        refused = kube.resize("range", {"main": {"limits": {"cpu": "601m"}}})
        assert (refused.body["reason"], refused.causes) == ("Forbidden", set())
        assert kube.resize("range", {"main": {"requests": {"cpu": "9m"}}}).code == 403
        assert kube.resize("range", {"main": {"limits": {"cpu": "600m"}}}).code == 200
    finally:
        kube.call("DELETE", f"{path}/cpu")


def a_watch_resumes_where_a_list_ended(kube: Kube) -> None:
    created = kube.create_pod(single("watched", BURSTABLE))
    version = kube.call("GET", kube.pods).body["metadata"]["resourceVersion"]
    answer = kube.resize("watched", LIMIT_300M)
    kube.wait(lambda: kube.settled("watched"))
    query = {
        "resourceVersion": version,
        "fieldSelector": f"spec.nodeName={created['spec']['nodeName']}",
        "timeoutSeconds": "20",
    }
    steps: list[dict[str, Any]] = []
    with kube.watch(kube.pods, **query) as events:
        for event in events:
            if event["object"]["metadata"]["name"] == "watched":
                assert event["type"] == "MODIFIED"
                steps.append(event["object"])
                if status_of(event["object"])["resources"]["limits"]["cpu"] == "300m":
                    break
    generation = answer.body["metadata"]["generation"]
    assert {step["metadata"]["generation"] for step in steps} == {generation}
    observed = [step["status"]["observedGeneration"] for step in steps]
    assert observed == sorted(observed)
    assert observed[0] < generation == observed[-1]


def a_watch_tells_when_it_has_told_all_there_is(kube: Kube) -> None:
    kube.create_pod(single("initial", BURSTABLE))
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "20",
    }
    with kube.watch(kube.pods, **query) as events:
        told = list(takewhile(lambda event: event["type"] != "BOOKMARK", events))
    assert {event["type"] for event in told} == {"ADDED"}
    assert "initial" in {event["object"]["metadata"]["name"] for event in told}


def a_watch_marks_the_end_of_what_is_there(kube: Kube) -> None:
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "20",
    }
    with kube.watch(kube.pods, **query) as events:
        metadata = next(events)["object"]["metadata"]
    assert metadata["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(metadata["resourceVersion"]) > 0


def _review(group: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": f"{group}.k8s.io/v1", "kind": kind, "spec": spec}


def _token_review(kube: Kube, token: str, **spec: list[str]) -> dict[str, Any]:
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    review = _review("authentication", "TokenReview", {"token": token, **spec})
    answer = kube.call("POST", path, review)
    assert answer.code == 201
    status: dict[str, Any] = answer.body["status"]
    return status


def _token(kube: Kube, path: str, spec: dict[str, Any]) -> str:
    body = _review("authentication", "TokenRequest", spec)
    answer = kube.call("POST", path, body)
    assert answer.code == 201, answer
    token: str = answer.body["status"]["token"]
    return token


def _limited_at(kube: Kube, limit: str) -> int:
    answer = kube.resize("range", {"main": {"limits": {"cpu": limit}}}, dryRun="All")
    return answer.code


def _total_limits_millicores(kube: Kube) -> int:
    """Returns the limits in the namespace; the cases give all containers 500m or none."""
    pods = kube.call("GET", kube.pods).body["items"]
    containers = [each for pod in pods for each in pod["spec"]["containers"]]
    limited = [each for each in containers if "cpu" in each["resources"].get("limits", {})]
    assert {each["resources"]["limits"]["cpu"] for each in limited} == {"500m"}
    return 500 * len(limited)


CASES = (
    patching_resize_is_a_right_of_its_own,
    a_user_can_ask_whether_it_may_resize,
    a_token_review_names_the_user_only_for_the_right_audience,
    a_token_bound_to_a_pod_names_its_node,
    a_token_for_another_audience_does_not_open_the_api,
    an_access_review_tells_what_another_user_may,
    an_unknown_token_is_unauthorized,
    a_quota_refuses_what_exceeds_it,
    a_limit_range_refuses_what_is_outside,
    a_watch_resumes_where_a_list_ended,
    a_watch_tells_when_it_has_told_all_there_is,
    a_watch_marks_the_end_of_what_is_there,
)
