"""Who is said to have set a field."""

from typing import Any

from tests.kube.kube import Answer, Kube
from tests.kube.patching import STRATEGIC
from tests.kube.resources import Pod
from tests.kube.shapes import BURSTABLE, UNLIMITED, container, pod, single

MBCAS = {"fieldManager": "mbcas"}


def a_resize_takes_the_leaf_from_whoever_had_it(kube: Kube) -> None:
    both = (container("main", BURSTABLE), container("other", UNLIMITED))
    kube.create_pod(pod("taken", *both))
    resized = kube.resize("taken", {"main": {"limits": {"cpu": "300m"}}}, **MBCAS)
    assert _resized_by(resized.body) == {"mbcas": {"main": {"f:limits": {"f:cpu": {}}}}}
    creator = next(each for each in _entries(resized.body) if "subresource" not in each)
    owned = creator["fieldsV1"]["f:spec"]["f:containers"]['k:{"name":"main"}']["f:resources"]
    assert owned["f:limits"] == {".": {}, "f:memory": {}}
    assert owned["f:requests"] == {".": {}, "f:cpu": {}, "f:memory": {}}


def a_map_that_was_not_there_is_owned_with_its_leaf(kube: Kube) -> None:
    both = (container("main", BURSTABLE), container("other", UNLIMITED))
    kube.create_pod(pod("map", *both))
    changes = {"limits": {"cpu": "100m"}, "requests": {"cpu": "30m"}}
    added = kube.resize("map", {"other": changes}, **MBCAS)
    owned: dict[str, Any] = {"f:limits": {".": {}, "f:cpu": {}}, "f:requests": {"f:cpu": {}}}
    assert _resized_by(added.body) == {"mbcas": {"other": owned}}


def the_same_value_again_changes_no_owner(kube: Kube) -> None:
    kube.create_pod(single("same-owner", BURSTABLE))
    kube.resize("same-owner", {"main": {"limits": {"cpu": "300m"}}}, **MBCAS)
    again = kube.resize("same-owner", {"main": {"limits": {"cpu": "300m"}}}, fieldManager="person")
    assert set(_resized_by(again.body)) == {"mbcas"}


def another_value_of_another_manager_leaves_us_without(kube: Kube) -> None:
    kube.create_pod(single("foreign", BURSTABLE))
    kube.resize("foreign", {"main": {"limits": {"cpu": "300m"}}}, **MBCAS)
    foreign = kube.resize("foreign", {"main": {"limits": {"cpu": "400m"}}}, fieldManager="person")
    assert _resized_by(foreign.body) == {"person": {"main": {"f:limits": {"f:cpu": {}}}}}
    back = kube.resize("foreign", {"main": {"limits": {"cpu": "500m"}}}, **MBCAS)
    assert set(_resized_by(back.body)) == {"mbcas"}


def who_names_no_manager_goes_by_its_program(kube: Kube) -> None:
    kube.create_pod(single("nameless", BURSTABLE))
    answer = kube.resize("nameless", {"main": {"limits": {"cpu": "300m"}}})
    assert set(_resized_by(answer.body)) == {"Python-urllib"}


def a_dry_run_names_an_owner_and_keeps_none(kube: Kube) -> None:
    kube.create_pod(single("dry-owner", BURSTABLE))
    change = {"main": {"limits": {"cpu": "300m"}}}
    assert set(_resized_by(kube.resize("dry-owner", change, dryRun="All", **MBCAS).body)) == {
        "mbcas"
    }
    assert _resized_by(kube.get("dry-owner")) == {}


def labels_and_status_have_owners_of_their_own(kube: Kube) -> None:
    kube.create_pod(single("labelled", BURSTABLE))
    body = {"metadata": {"labels": {"a": "b"}}}
    query = {"fieldManager": "labeller"}
    kube.call("PATCH", f"{kube.pods}/labelled", body, content_type=STRATEGIC, **query)
    entries = {each["manager"]: each for each in _entries(kube.get("labelled"))}
    assert entries["labeller"]["fieldsV1"] == {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}
    assert "subresource" not in entries["labeller"]
    assert entries["kubelet"]["subresource"] == "status"
    assert "f:containerStatuses" in entries["kubelet"]["fieldsV1"]["f:status"]


def owners_survive_the_kubelets_report(kube: Kube) -> None:
    kube.create_pod(single("reported", BURSTABLE))
    kube.resize("reported", {"main": {"limits": {"cpu": "300m"}}}, **MBCAS)
    kube.wait(lambda: kube.settled("reported"))
    assert set(_resized_by(kube.get("reported"))) == {"mbcas"}


def _entries(item: Pod | Answer) -> list[dict[str, Any]]:
    body: dict[str, Any] = item.body if isinstance(item, Answer) else item
    entries: list[dict[str, Any]] = body["metadata"]["managedFields"]
    assert {each["fieldsType"] for each in entries} == {"FieldsV1"}
    return entries


def _resized_by(item: Pod) -> dict[str, dict[str, Any]]:
    """Returns which leaves of which containers each manager has resized."""
    found = {}
    for entry in _entries(item):
        if entry.get("subresource") == "resize":
            assert (entry["operation"], entry["apiVersion"]) == ("Update", "v1")
            containers = entry["fieldsV1"]["f:spec"]["f:containers"]
            found[entry["manager"]] = {
                key.removeprefix('k:{"name":"').removesuffix('"}'): fields["f:resources"]
                for key, fields in containers.items()
            }
    return found


CASES = (
    a_resize_takes_the_leaf_from_whoever_had_it,
    a_map_that_was_not_there_is_owned_with_its_leaf,
    the_same_value_again_changes_no_owner,
    another_value_of_another_manager_leaves_us_without,
    who_names_no_manager_goes_by_its_program,
    a_dry_run_names_an_owner_and_keeps_none,
    labels_and_status_have_owners_of_their_own,
    owners_survive_the_kubelets_report,
)
