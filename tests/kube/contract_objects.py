"""Objects of our own kind, leases and events: what MBCAS writes beside resizes."""

from typing import Any

from tests.kube.kube import Answer, Kube
from tests.kube.patching import APPLY_PATCH, MERGE, STRATEGIC
from tests.kube.shapes import BURSTABLE, UNLIMITED, single

GROUP = "contract.mbcas.io"
VERSION = f"{GROUP}/v1alpha1"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"widgets.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {
            "plural": "widgets",
            "singular": "widget",
            "kind": "Widget",
            "listKind": "WidgetList",
        },
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": ANYTHING, "status": ANYTHING},
                    }
                },
            }
        ],
    },
}


def what_is_not_served_is_not_found_and_sometimes_in_plain_text(kube: Kube) -> None:
    unknown_group = kube.call("GET", "/apis/nobody.mbcas.io/v1/things")
    assert (unknown_group.code, unknown_group.body) == (404, {})
    unknown_kind = kube.call("GET", "/api/v1/things")
    assert (unknown_kind.code, unknown_kind.body["reason"]) == (404, "NotFound")


def spec_and_status_are_written_apart(kube: Kube) -> None:
    widgets = _widgets(kube)
    made = _make(kube, "apart", {"size": 1}, status={"seen": 1})
    assert "status" not in made
    assert made["metadata"]["generation"] == 1
    changed = _patch(kube, "apart", {"spec": {"size": 2}, "status": {"seen": 2}})
    assert changed.body["spec"] == {"size": 2}
    assert "status" not in changed.body
    assert changed.body["metadata"]["generation"] == 2
    both = {"spec": {"size": 3}, "status": {"seen": 3}, "metadata": {"labels": {"a": "b"}}}
    told = kube.call("PATCH", f"{widgets}/apart/status", both, content_type=MERGE)
    assert (told.body["spec"], told.body["status"]) == ({"size": 2}, {"seen": 3})
    assert "labels" not in told.body["metadata"]
    assert told.body["metadata"]["generation"] == 2


def a_custom_kind_has_no_strategic_merge(kube: Kube) -> None:
    _make(kube, "strategic", {"size": 1})
    answer = _patch(kube, "strategic", {"spec": {"size": 2}}, content_type=STRATEGIC)
    assert (answer.code, answer.body["reason"]) == (415, "UnsupportedMediaType")


def an_old_version_of_a_custom_object_is_a_conflict(kube: Kube) -> None:
    widgets = _widgets(kube)
    old = _make(kube, "versions", {"size": 1})
    _patch(kube, "versions", {"spec": {"size": 2}})
    stale = old | {"spec": {"size": 3}}
    for path in (f"{widgets}/versions", f"{widgets}/versions/status"):
        answer = kube.call("PUT", path, stale)
        assert (answer.code, answer.body["reason"]) == (409, "Conflict")
    version = old["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "spec": {"size": 3}}
    assert _patch(kube, "versions", patch).code == 409
    metadata = {key: value for key, value in old["metadata"].items() if key != "resourceVersion"}
    unversioned = kube.call("PUT", f"{widgets}/versions", stale | {"metadata": metadata})
    assert unversioned.code == 422
    assert ("FieldValueInvalid", "metadata.resourceVersion") in unversioned.causes
    wrong = _patch(kube, "versions", {"metadata": {"uid": "x"}, "spec": {"size": 3}})
    assert wrong.code == 422
    assert ("FieldValueInvalid", "metadata.uid") in wrong.causes


def a_name_is_taken_once_and_has_a_form(kube: Kube) -> None:
    widgets = _widgets(kube)
    made = _make(kube, "taken", {})
    body = {"apiVersion": VERSION, "kind": "Widget", "metadata": {"name": "taken"}}
    again = kube.call("POST", widgets, body)
    assert (again.code, again.body["reason"]) == (409, "AlreadyExists")
    for name in ("Capital", "x" * 254):
        refused = kube.call("POST", widgets, body | {"metadata": {"name": name}})
        assert (refused.code, refused.body["reason"]) == (422, "Invalid")
        assert ("FieldValueInvalid", "metadata.name") in refused.causes
    assert kube.call("POST", widgets, {"metadata": {"name": "kindless"}}).code == 400
    assert kube.call("GET", f"{widgets}/taken").body["metadata"]["uid"] == made["metadata"]["uid"]


def an_apply_owns_what_it_names_and_no_more(kube: Kube) -> None:
    _make(kube, "applied", {"size": 1, "kept": 1}, fieldManager="maker")
    first = _apply(kube, "applied", {"size": 1, "more": 1})
    assert first.body["spec"] == {"size": 1, "kept": 1, "more": 1}
    conflict = _apply(kube, "applied", {"size": 2})
    assert (conflict.code, conflict.body["reason"]) == (409, "Conflict")
    assert conflict.causes == {("FieldManagerConflict", ".spec.size")}
    forced = _apply(kube, "applied", {"size": 2}, force="true")
    assert forced.body["spec"] == {"size": 2, "kept": 1}
    entry = next(
        each for each in forced.body["metadata"]["managedFields"] if each["operation"] == "Apply"
    )
    assert entry["fieldsV1"] == {"f:spec": {"f:size": {}}}
    assert _apply(kube, "applied-new", {"size": 1}).code == 201


def what_a_pod_owned_goes_after_the_pod(kube: Kube) -> None:
    widgets = _widgets(kube)
    owner = kube.create_pod(single("owner", UNLIMITED))
    reference = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
    }
    _make(kube, "owned", {}, ownerReferences=[reference])
    other = reference | {"uid": "00000000-0000-0000-0000-000000000000"}
    _make(kube, "of-another", {}, ownerReferences=[other])
    kube.wait(lambda: kube.call("GET", f"{widgets}/of-another").code == 404)
    assert kube.call("GET", f"{widgets}/owned").code == 200
    kube.delete("owner")
    kube.wait(lambda: kube.call("GET", f"{widgets}/owned").code == 404)


def what_has_a_finalizer_goes_when_it_is_taken_off(kube: Kube) -> None:
    path = f"{_widgets(kube)}/held"
    _make(kube, "held", {}, finalizers=["mbcas.io/hold"])
    deleted = kube.call("DELETE", path)
    assert deleted.code == 200
    assert deleted.body["metadata"]["deletionTimestamp"]
    assert kube.call("GET", path).code == 200
    assert _patch(kube, "held", {"metadata": {"finalizers": None}}).code == 200
    assert kube.call("GET", path).code == 404


def a_delete_of_what_goes_at_once_tells_only_that(kube: Kube) -> None:
    uid = _make(kube, "brief", {})["metadata"]["uid"]
    deleted = kube.call("DELETE", f"{_widgets(kube)}/brief")
    assert (deleted.body["kind"], deleted.body["status"]) == ("Status", "Success")
    assert deleted.body["details"]["uid"] == uid
    assert deleted.body["details"]["kind"] == "widgets"


def a_list_comes_in_pages(kube: Kube) -> None:
    widgets = _widgets(kube)
    assert kube.call("DELETE", widgets).body["kind"] == "WidgetList"
    for name in ("page-c", "page-a", "page-b"):
        _make(kube, name, {})
    query = {"limit": "2"}
    seen: list[dict[str, Any]] = []
    first = kube.call("GET", widgets, **query)
    assert first.body["metadata"]["remainingItemCount"] == 1
    seen += first.body["items"]
    place = first.body["metadata"]["continue"]
    last = kube.call("GET", widgets, **query, **{"continue": place})
    seen += last.body["items"]
    assert not last.body["metadata"].get("continue")
    assert [each["metadata"]["name"] for each in seen] == ["page-a", "page-b", "page-c"]
    versions = [each.body["metadata"]["resourceVersion"] for each in (first, last)]
    assert versions[0] == versions[1]
    assert kube.call("GET", widgets, **{"continue": "nonsense"}).code == 400


def items_of_a_list_say_their_kind_only_where_it_is_custom(kube: Kube) -> None:
    kube.create_pod(single("listed", UNLIMITED))
    _make(kube, "listed", {})
    pods = kube.call("GET", kube.pods).body
    assert (pods["kind"], pods["apiVersion"]) == ("PodList", "v1")
    assert all("kind" not in item for item in pods["items"])
    widgets = kube.call("GET", _widgets(kube)).body
    assert (widgets["kind"], widgets["apiVersion"]) == ("WidgetList", VERSION)
    assert {item["kind"] for item in widgets["items"]} == {"Widget"}


def a_lease_is_won_by_whoever_writes_first(kube: Kube) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{kube.namespace}/leases"
    time = "2026-01-01T00:00:00.000000Z"
    spec = {
        "holderIdentity": "one",
        "leaseDurationSeconds": 15,
        "acquireTime": time,
        "renewTime": time,
        "leaseTransitions": 0,
    }
    lease = kube.create(path, "Lease", "contract", spec=spec)
    try:
        assert "generation" not in lease["metadata"]
        taken = lease | {"spec": spec | {"holderIdentity": "two", "leaseTransitions": 1}}
        assert kube.call("PUT", f"{path}/contract", taken).code == 200
        late = kube.call("PUT", f"{path}/contract", lease)
        assert (late.code, late.body["reason"]) == (409, "Conflict")
        annotate = {"metadata": {"annotations": {"mbcas.io/frozen": "true"}}}
        frozen = kube.call("PATCH", f"{path}/contract", annotate, content_type=MERGE)
        assert frozen.body["metadata"]["annotations"] == {"mbcas.io/frozen": "true"}
        assert frozen.body["spec"]["holderIdentity"] == "two"
    finally:
        kube.call("DELETE", f"{path}/contract")


def an_event_is_about_an_object_of_its_namespace(kube: Kube) -> None:
    owner = kube.create_pod(single("told", BURSTABLE))
    path = f"/api/v1/namespaces/{kube.namespace}/events"
    about = {
        "kind": "Pod",
        "name": "told",
        "namespace": kube.namespace,
        "uid": owner["metadata"]["uid"],
    }
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "told."},
        "involvedObject": about,
        "reason": "Contract",
        "message": "A person reads this.",
        "type": "Normal",
        "source": {"component": "mbcas"},
        "count": 1,
    }
    assert kube.call("POST", path, event).code == 201
    selector = "involvedObject.name=told,reason=Contract"
    (found,) = kube.call("GET", path, fieldSelector=selector).body["items"]
    assert found["message"] == "A person reads this."
    elsewhere = event | {"involvedObject": about | {"namespace": "elsewhere"}}
    refused = kube.call("POST", path, elsewhere)
    assert refused.code == 422
    assert ("FieldValueInvalid", "involvedObject.namespace") in refused.causes


def _widgets(kube: Kube) -> str:
    """Returns the path of our own kind, once it is served."""
    path = f"/apis/{VERSION}/namespaces/{kube.namespace}/widgets"
    if kube.call("GET", path).code != 200:
        assert kube.call("POST", DEFINITIONS, DEFINITION).code in (201, 409)
        kube.wait(lambda: kube.call("GET", path).code == 200)
        # It is listed a moment before it can be written.
        probe = {"apiVersion": VERSION, "kind": "Widget", "metadata": {"name": "probe"}}
        kube.wait(lambda: kube.call("POST", path, probe).code in (201, 409))
    return path


def _make(
    kube: Kube,
    name: str,
    spec: dict[str, Any],
    *,
    status: dict[str, Any] | None = None,
    fieldManager: str = "contract",  # noqa: N803 - the query's name.
    **metadata: list[Any],
) -> dict[str, Any]:
    path = _widgets(kube)
    for left in kube.call("GET", path).body["items"]:
        if left["metadata"]["name"] in ("probe", name):
            kube.call("DELETE", f"{path}/{left['metadata']['name']}")
    body = {
        "apiVersion": VERSION,
        "kind": "Widget",
        "metadata": {"name": name, **metadata},
        "spec": spec,
        "status": status or {},
    }
    answer = kube.call("POST", path, body, fieldManager=fieldManager)
    assert answer.code == 201, answer
    return answer.body


def _patch(kube: Kube, name: str, body: dict[str, Any], content_type: str = MERGE) -> Answer:
    return kube.call("PATCH", f"{_widgets(kube)}/{name}", body, content_type=content_type)


def _apply(kube: Kube, name: str, spec: dict[str, Any], **query: str) -> Answer:
    body = {"apiVersion": VERSION, "kind": "Widget", "metadata": {"name": name}, "spec": spec}
    path = f"{_widgets(kube)}/{name}"
    return kube.call("PATCH", path, body, content_type=APPLY_PATCH, fieldManager="applier", **query)


CASES = (
    what_is_not_served_is_not_found_and_sometimes_in_plain_text,
    spec_and_status_are_written_apart,
    a_custom_kind_has_no_strategic_merge,
    an_old_version_of_a_custom_object_is_a_conflict,
    a_name_is_taken_once_and_has_a_form,
    an_apply_owns_what_it_names_and_no_more,
    what_a_pod_owned_goes_after_the_pod,
    what_has_a_finalizer_goes_when_it_is_taken_off,
    a_delete_of_what_goes_at_once_tells_only_that,
    a_list_comes_in_pages,
    items_of_a_list_say_their_kind_only_where_it_is_custom,
    a_lease_is_won_by_whoever_writes_first,
    an_event_is_about_an_object_of_its_namespace,
)
