"""Which resizes are refused, and with which cause and field."""

from tests.kube.kube import Answer, Kube
from tests.kube.patching import MERGE
from tests.kube.shapes import BURSTABLE, GUARANTEED, NEARLY_GUARANTEED, container, pod, single

MAIN_RESOURCES = "spec.containers[0].resources"
LIMIT_300M = {"main": {"limits": {"cpu": "300m"}}}


def a_request_above_the_limit_is_refused(kube: Kube) -> None:
    kube.create_pod(single("above", BURSTABLE))
    answer = kube.resize("above", {"main": {"requests": {"cpu": "600m"}}})
    _refused(answer, "FieldValueInvalid", f"{MAIN_RESOURCES}.requests")


def a_class_of_service_never_changes(kube: Kube) -> None:
    kube.create_pod(single("to-guaranteed", NEARLY_GUARANTEED))
    kube.create_pod(single("from-guaranteed", GUARANTEED))
    kube.create_pod(single("from-best-effort", {}))
    for name, resources in (
        ("to-guaranteed", {"requests": {"cpu": "500m"}}),
        ("from-guaranteed", {"limits": {"cpu": "60m"}}),
        ("from-best-effort", {"limits": {"cpu": "60m"}}),
        ("from-best-effort", {"requests": {"cpu": "60m"}}),
    ):
        _refused(kube.resize(name, {"main": resources}), "FieldValueInvalid", "spec")


def one_of_several_containers_may_become_equal(kube: Kube) -> None:
    both = (container("main", NEARLY_GUARANTEED), container("other", BURSTABLE))
    kube.create_pod(pod("several", *both))
    assert kube.resize("several", {"main": {"requests": {"cpu": "500m"}}}).code == 200


def a_limit_cannot_be_removed(kube: Kube) -> None:
    kube.create_pod(single("removed", BURSTABLE))
    answer = kube.resize("removed", {"main": {"limits": {"cpu": None}}})
    _refused(answer, "FieldValueForbidden", f"{MAIN_RESOURCES}.limits")


def other_goods_and_policies_cannot_be_changed(kube: Kube) -> None:
    kube.create_pod(single("goods", BURSTABLE))
    storage = kube.resize("goods", {"main": {"limits": {"ephemeral-storage": "1Gi"}}})
    _refused(storage, "FieldValueForbidden", "spec")
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    entry = {"name": "main", "resizePolicy": policy}
    _refused(kube.patch("goods", {"spec": {"containers": [entry]}}), "FieldValueForbidden", "spec")


def containers_cannot_come_or_go_or_change_places(kube: Kube) -> None:
    """A strategic merge patch that names them in another order than the pod reorders them."""
    both = (container("main", BURSTABLE), container("other", BURSTABLE))
    kube.create_pod(pod("order", *both))
    unknown = kube.resize("order", {"nobody": {"limits": {"cpu": "300m"}}})
    _refused(unknown, "FieldValueForbidden", "spec.containers")
    swapped = kube.resize(
        "order", {"other": {"limits": {"cpu": "300m"}}, "main": {"limits": {"cpu": "200m"}}}
    )
    _refused(swapped, "FieldValueForbidden", "spec.containers[0].name")
    last_alone = kube.resize("order", {"other": {"limits": {"cpu": "300m"}}})
    assert last_alone.code == 200
    renamed = [{"op": "replace", "path": "/spec/containers/0/name", "value": "renamed"}]
    _refused(kube.patch("order", renamed), "FieldValueForbidden", "spec.containers[0].name")


def a_failed_test_of_a_json_patch_refuses_it_without_causes(kube: Kube) -> None:
    before = kube.create_pod(single("test", BURSTABLE))
    generation = before["metadata"]["generation"]
    path = "/spec/containers/0/resources/limits/cpu"
    test = {"op": "test", "path": "/metadata/generation", "value": generation}
    patch = [test, {"op": "replace", "path": path, "value": "300m"}]
    assert kube.patch("test", patch).code == 200
    again = kube.patch("test", patch)
    assert (again.code, again.body["reason"], again.causes) == (422, "Invalid", set())


def a_generation_in_a_patch_is_no_precondition(kube: Kube) -> None:
    kube.create_pod(single("ignored", BURSTABLE))
    entry = {"name": "main", "resources": {"limits": {"cpu": "300m"}}}
    body = {"metadata": {"generation": 77}, "spec": {"containers": [entry]}}
    answer = kube.patch("ignored", body)
    assert answer.code == 200
    assert answer.body["metadata"]["generation"] != 77


def nonsense_and_negative_quantities_are_refused(kube: Kube) -> None:
    kube.create_pod(single("quantity", BURSTABLE))
    nonsense = kube.resize("quantity", {"main": {"limits": {"cpu": "abc"}}})
    _refused(nonsense, "FieldValueInvalid", "patch")
    negative = kube.resize("quantity", {"main": {"limits": {"cpu": "-1"}}})
    _refused(negative, "FieldValueInvalid", f"{MAIN_RESOURCES}.limits[cpu]")


def a_patch_of_an_unknown_kind_is_refused(kube: Kube) -> None:
    kube.create_pod(single("kind", BURSTABLE))
    answer = kube.patch("kind", {}, content_type="application/strange")
    assert answer.code == 415


def a_merge_patch_replaces_the_list_and_is_refused(kube: Kube) -> None:
    kube.create_pod(single("merge", BURSTABLE))
    entry = {"name": "main", "resources": {"limits": {"cpu": "300m"}}}
    answer = kube.patch("merge", {"spec": {"containers": [entry]}}, content_type=MERGE)
    _refused(answer, "FieldValueForbidden", f"{MAIN_RESOURCES}.limits")


def an_ordinary_init_container_is_never_resized(kube: Kube) -> None:
    first = container("first", BURSTABLE, command=["/bin/true"])
    nowhere = pod(
        "init",
        container("main", BURSTABLE),
        initContainers=[first],
        nodeSelector={"no": "such-node"},
    )
    assert kube.call("POST", kube.pods, nowhere).code == 201
    change = {"name": "first", "resources": {"limits": {"cpu": "300m"}}}
    answer = kube.patch("init", {"spec": {"initContainers": [change]}})
    _refused(answer, "FieldValueForbidden", "spec")


def a_static_pod_and_a_windows_pod_are_never_resized(kube: Kube) -> None:
    static = single("static", BURSTABLE, nodeName="no-such-node")
    static["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    windows = single("windows", BURSTABLE, nodeSelector={"no": "such-node"}, os={"name": "windows"})
    del windows["spec"]["hostNetwork"]
    for each in (static, windows):
        created = kube.call("POST", kube.pods, each)
        assert created.code == 201, created
        answer = kube.resize(each["metadata"]["name"], LIMIT_300M)
        assert answer.code == 422
        assert {reason for reason, _ in answer.causes} == {"FieldValueForbidden"}


def a_pod_is_not_resized_without_the_subresource(kube: Kube) -> None:
    kube.create_pod(single("plain", BURSTABLE))
    entry = {"name": "main", "resources": {"limits": {"cpu": "300m"}}}
    answer = kube.patch("plain", {"spec": {"containers": [entry]}}, subresource="")
    _refused(answer, "FieldValueForbidden", "spec")
    labelled = kube.patch("plain", {"metadata": {"labels": {"a": "b"}}}, subresource="")
    assert labelled.code == 200
    assert labelled.body["metadata"]["labels"]["a"] == "b"


def an_old_resource_version_is_a_conflict(kube: Kube) -> None:
    before = kube.create_pod(single("stale", BURSTABLE))
    kube.patch("stale", {"metadata": {"labels": {"a": "b"}}}, subresource="")
    version = before["metadata"]["resourceVersion"]
    entry = {"name": "main", "resources": {"limits": {"cpu": "300m"}}}
    body = {"metadata": {"resourceVersion": version}, "spec": {"containers": [entry]}}
    answer = kube.patch("stale", body)
    assert (answer.code, answer.body["reason"]) == (409, "Conflict")


def a_pod_back_under_its_name_is_told_apart_by_the_uid(kube: Kube) -> None:
    """The uid in the patch is a precondition, so that an old decision can't hit the new pod."""
    before = kube.create_pod(single("again", BURSTABLE))
    kube.delete("again")
    gone = kube.resize("again", LIMIT_300M)
    assert (gone.code, gone.body["reason"]) == (404, "NotFound")
    after = kube.create_pod(single("again", BURSTABLE))
    assert after["metadata"]["uid"] != before["metadata"]["uid"]

    entry = {"name": "main", "resources": {"limits": {"cpu": "300m"}}}
    spec = {"containers": [entry]}
    old = kube.patch("again", {"metadata": {"uid": before["metadata"]["uid"]}, "spec": spec})
    _refused(old, "FieldValueInvalid", "metadata.uid")
    new = kube.patch("again", {"metadata": {"uid": after["metadata"]["uid"]}, "spec": spec})
    assert new.code == 200


def _refused(answer: Answer, reason: str, field: str) -> None:
    assert (answer.code, answer.body.get("reason")) == (422, "Invalid")
    assert (reason, field) in answer.causes


CASES = (
    a_request_above_the_limit_is_refused,
    a_class_of_service_never_changes,
    one_of_several_containers_may_become_equal,
    a_limit_cannot_be_removed,
    other_goods_and_policies_cannot_be_changed,
    containers_cannot_come_or_go_or_change_places,
    a_failed_test_of_a_json_patch_refuses_it_without_causes,
    a_generation_in_a_patch_is_no_precondition,
    nonsense_and_negative_quantities_are_refused,
    a_patch_of_an_unknown_kind_is_refused,
    a_merge_patch_replaces_the_list_and_is_refused,
    an_ordinary_init_container_is_never_resized,
    a_static_pod_and_a_windows_pod_are_never_resized,
    a_pod_is_not_resized_without_the_subresource,
    an_old_resource_version_is_a_conflict,
    a_pod_back_under_its_name_is_told_apart_by_the_uid,
)
