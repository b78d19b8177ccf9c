import contextlib
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.inventory import Cpu
from mbcas_shim.kube.pod_containers import PodContainer
from mbcas_shim.kube.pods import parse_pod
from mbcas_shim.kube.untrusted import MalformedError
from tests.mbcas_shim.kube.pod_objects import (
    Object,
    container,
    recorded,
    resources,
    running_pod,
    status,
)


def only(pod: Object) -> PodContainer:
    (found,) = parse_pod(pod).containers
    return found


def by_name(pod: Object) -> dict[str, PodContainer]:
    return {each.name: each for each in parse_pod(pod).containers}


def test_a_recorded_pod_has_its_containers_and_sidecars_but_no_plain_init_container() -> None:
    pod = parse_pod(recorded())

    assert [(each.name, each.is_sidecar) for each in pod.containers] == [
        ("proxy", True),
        ("main", False),
        ("aux", False),
    ]
    assert pod.container_names == ("main", "aux")
    assert pod.init_container_names == ("setup", "proxy")
    assert (pod.generation, pod.observed_generation, pod.qos_class) == (
        2,
        2,
        pb.QOS_CLASS_BURSTABLE,
    )


def test_of_a_recorded_pod_it_is_known_which_values_mbcas_has_set() -> None:
    found = by_name(recorded())

    assert {
        name: (each.request_set_by_mbcas, each.limit_set_by_mbcas) for name, each in found.items()
    } == {"main": (False, False), "aux": (True, False), "proxy": (False, True)}


def test_a_recorded_container_says_what_it_asks_for_holds_and_has() -> None:
    proxy = by_name(recorded())["proxy"]

    assert (proxy.spec, proxy.allocated, proxy.actual) == (Cpu(30, 150), Cpu(30), Cpu(30, 150))
    assert proxy.run.runtime == "containerd"
    assert len(proxy.run.container_id) == 64
    assert proxy.run.start_unix_seconds is not None


@pytest.mark.parametrize(
    "entry",
    [{"manager": "kubectl"}, {"subresource": "status"}, {"subresource": None}],
    ids=["another writer", "another subresource", "none"],
)
def test_a_field_that_another_owns_was_not_set_by_mbcas(entry: Object) -> None:
    pod = recorded()
    pod["metadata"]["managedFields"][-1] |= entry

    assert not any(each.request_set_by_mbcas for each in parse_pod(pod).containers)


def test_what_is_absent_is_not_zero() -> None:
    pod = running_pod("web", container(wanted={}))
    del pod["status"]["containerStatuses"][0]["allocatedResources"]

    found = only(pod)

    assert (found.spec, found.allocated, found.actual) == (Cpu(), None, Cpu())


def test_a_container_that_never_ran_holds_nothing_and_has_no_id() -> None:
    pod = running_pod()
    pod["status"]["containerStatuses"] = []

    found = only(pod)

    assert (found.allocated, found.actual, found.run.container_id) == (None, None, "")
    assert found.billed_request_millicores == 100


def test_a_limit_of_zero_is_none_because_the_kubelet_sets_no_quota_for_it() -> None:
    assert only(running_pod("web", container(wanted=resources("0", "0")))).spec == Cpu(0, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metadata": {"annotations": {"kubernetes.io/config.mirror": "abc"}}}, "static"),
        ({"spec": {"os": {"name": "windows"}}}, "Windows"),
        ({"spec": {"nodeSelector": {"kubernetes.io/os": "windows"}}}, "Windows"),
        ({"spec": {"resources": {"requests": {"cpu": "1"}}}}, "spec.resources"),
        ({"metadata": {"annotations": {"mbcas.io/mode": "a" * 5000}}}, "too long"),
        ({"metadata": {"annotations": {"mbcas.io/exclude-containers": "a\n"}}}, "printed"),
        ({"metadata": {"annotations": {f"mbcas.io/{n}": "" for n in range(33)}}}, "more than 32"),
    ],
)
def test_a_pod_that_must_be_left_alone_says_why(change: Object, words: str) -> None:
    pod = running_pod()
    for part, fields in change.items():
        pod[part] |= fields

    assert words in only(pod).skip_reason


def test_a_kubelet_that_does_not_tell_resources_cannot_resize() -> None:
    pod = running_pod()
    del pod["status"]["containerStatuses"][0]["resources"]

    assert "too old to resize" in only(pod).skip_reason


def test_a_static_pod_is_found_by_the_uid_that_the_kubelet_gave_it() -> None:
    pod = running_pod()
    pod["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "0a1b"}

    assert (parse_pod(pod).uid, parse_pod(pod).cgroup_uid) == ("uid-web", "0a1b")


@pytest.mark.parametrize("said", ["../../x", "a\nb", ""])
def test_a_pod_that_only_says_that_it_is_static_keeps_its_place(said: str) -> None:
    pod = running_pod()
    pod["metadata"]["annotations"] = {"kubernetes.io/config.mirror": said}

    found = parse_pod(pod)

    assert (found.cgroup_uid, only(pod).skip_reason) == ("uid-web", "a static pod")


def test_a_limit_beyond_all_machines_keeps_the_pod_s_place_but_is_left_alone() -> None:
    found = parse_pod(running_pod("web", container(wanted=resources("200m", "2000000"))))

    assert found.effective_request_millicores == 200
    assert found.containers[0].spec == Cpu(200, None)
    assert "above 10000 cores" in found.containers[0].skip_reason


def test_its_own_annotations_travel_but_not_what_only_a_namespace_may_say() -> None:
    assert parse_pod(recorded()).annotations == {"mode": "auto"}


@pytest.mark.parametrize(
    ("kind", "name", "labels", "workload"),
    [
        ("ReplicaSet", "web-6d4cf56db6", {"pod-template-hash": "6d4cf56db6"}, "Deployment/web"),
        ("ReplicaSet", "web-6d4cf56db6", {}, "ReplicaSet/web-6d4cf56db6"),
        ("ReplicaSet", "web", {"pod-template-hash": "6d4cf56db6"}, "ReplicaSet/web"),
        ("StatefulSet", "db", {}, "StatefulSet/db"),
    ],
)
def test_replicas_share_what_made_them(
    kind: str, name: str, labels: dict[str, str], workload: str
) -> None:
    pod = running_pod()
    owner = {"kind": kind, "name": name, "controller": True}
    pod["metadata"] |= {
        "labels": labels,
        "ownerReferences": [{"kind": "Node", "name": "n"}, owner],
    }

    found = parse_pod(pod)

    assert (found.controller, found.owner_of("main")) == (f"{kind}/{name}", f"{workload}/main")


@pytest.mark.parametrize(
    "owner",
    [
        {},
        {"kind": "Node", "name": "n", "controller": True},
        {"kind": "Weird Kind!", "name": "n", "controller": True},
        {"kind": "ReplicaSet", "name": "../n", "controller": True},
        {"kind": "K" * 200, "name": "n" * 200, "controller": True},
    ],
    ids=["bare", "static", "odd-kind", "odd-name", "long"],
)
def test_a_pod_without_a_controller_that_can_be_named_shares_nothing(owner: Object) -> None:
    pod = running_pod()
    pod["metadata"]["ownerReferences"] = [owner]

    assert (parse_pod(pod).controller, parse_pod(pod).owner_of("main")) == ("", "")


def condition(kind: str, reason: str = "", **fields: object) -> Object:
    return {"type": kind, "status": "True", "reason": reason, "observedGeneration": 2, **fields}


def test_resize_conditions_that_hold_are_told_in_printable_words() -> None:
    pod = running_pod()
    pod["status"]["conditions"] = [
        condition("Ready"),
        condition("PodResizePending", "Deferred", message="no\nroom" + "x" * 1000),
        condition("PodResizeInProgress", status="False"),
    ]

    (found,) = parse_pod(pod).resize_conditions

    assert (found.type, found.reason, found.observed_generation) == (
        "PodResizePending",
        "Deferred",
        2,
    )
    assert found.message.startswith("no room")
    assert len(found.message) == 500


def test_without_an_observed_generation_of_the_pod_its_conditions_tell() -> None:
    pod = running_pod()
    del pod["status"]["observedGeneration"]
    pod["status"]["conditions"] = [condition("PodResizeInProgress")]

    assert parse_pod(pod).observed_generation == 2


def test_a_change_that_restarts_is_told() -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]

    assert only(running_pod("web", container(resizePolicy=policy))).restarts_on_resize
    assert by_name(recorded())["main"].restarts_on_resize
    assert not by_name(recorded())["aux"].restarts_on_resize


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (running_pod("web", container("a"), container("b")), 200),
        (running_pod("web", init=(container("i", resources("1")),)), 1000),
        (running_pod("web", init=(container("s", restartPolicy="Always"),)), 200),
        (
            running_pod("web", init=(container("s", restartPolicy="Always"), container("i"))),
            200,
        ),
        (
            running_pod(
                "web",
                init=(container("s", restartPolicy="Always"), container("i", resources("350m"))),
            ),
            450,
        ),
        (
            running_pod(
                "web",
                init=(container("i", resources("350m")), container("s", restartPolicy="Always")),
            ),
            350,
        ),
        (running_pod("web", overhead={"cpu": "30m"}), 130),
        (running_pod("web", resources={"requests": {"cpu": "700m"}}, overhead={"cpu": "1m"}), 701),
        (recorded(), 150),
    ],
)
def test_a_pod_reserves_what_the_scheduler_counts(pod: Object, expected: int) -> None:
    assert parse_pod(pod).effective_request_millicores == expected


@pytest.mark.parametrize(
    ("allocated", "actual", "reason", "expected"),
    [
        ("300m", "300m", "", 300),
        ("50m", "300m", "", 300),
        ("50m", "50m", "Deferred", 100),
        ("50m", "50m", "Infeasible", 50),
    ],
)
def test_a_resized_container_counts_with_the_largest_of_asked_held_and_had(
    allocated: str, actual: str, reason: str, expected: int
) -> None:
    pod = running_pod()
    said = pod["status"]["containerStatuses"][0]
    said["allocatedResources"] = {"cpu": allocated}
    said["resources"] = {"requests": {"cpu": actual}}
    pod["status"]["conditions"] = [condition("PodResizePending", reason)]

    assert only(pod).billed_request_millicores == expected
    assert parse_pod(pod).effective_request_millicores == expected


MEMORYLESS = {"requests": {"cpu": "1m"}, "limits": {"cpu": "1m"}}


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (running_pod(), True),
        (running_pod(qos="Guaranteed"), False),
        (running_pod("web", container(), container("b", MEMORYLESS)), False),
        (running_pod("web", init=(container("i"),)), False),
        (running_pod("web", init=(container("i", resources("1", "1000m")),)), True),
        (running_pod("web", init=(container("s", restartPolicy="Always"),)), True),
        (recorded(), False),
    ],
)
def test_only_cpu_keeps_a_pod_from_guaranteed(pod: Object, *, expected: bool) -> None:
    assert parse_pod(pod).guaranteed_but_for_cpu is expected


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("metadata", "uid"), None, "metadata.uid: '' is no name"),
        (("metadata", "uid"), "../../etc", "metadata.uid"),
        (("metadata", "name"), "a\nb", "metadata.name: is no printable text"),
        (("metadata", "generation"), "1", "metadata.generation: is no count"),
        (("metadata", "generation"), -1, "metadata.generation: is no count"),
        (("spec", "containers"), {"a": 1}, "spec.containers: is no list"),
        (("spec", "containers"), [3], r"spec.containers\[0\]: is no object but a int"),
        (("spec", "containers", 0, "resources"), [], "spec.containers.*resources: is no object"),
        (("spec", "containers", 0, "name"), "main/..", r"spec.containers\[0\].name"),
        (("status", "containerStatuses", 0, "containerID"), "x", "is no runtime://id"),
        (("status", "containerStatuses", 0, "containerID"), "cri-o://../..", "is no runtime://id"),
        (("status", "containerStatuses", 0, "resources", "requests", "cpu"), "?", "requests.cpu"),
    ],
)
def test_a_malformed_pod_is_refused_with_the_field(
    path: tuple[str | int, ...], value: object, words: str
) -> None:
    pod: Any = running_pod()
    *before, last = path
    holder = pod
    for step in before:
        holder = holder[step]
    holder[last] = value

    with pytest.raises(MalformedError, match=words):
        parse_pod(pod)


def test_two_containers_of_one_name_would_be_one_row() -> None:
    with pytest.raises(MalformedError, match="two containers main"):
        parse_pod(running_pod("web", container(), container()))


def _places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """All paths within an object."""
    below: list[tuple[str | int, ...]] = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            below += _places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            below += _places(item, (*path, index))
    return below


PLACES = _places(recorded())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


def _of(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    lists = st.lists(inner, max_size=3)
    return inner | lists | st.dictionaries(st.text(max_size=8), inner, max_size=3)


JSON = _of(_of(SCALARS))


@given(st.sampled_from(PLACES[1:]), JSON)
def test_whatever_stands_anywhere_in_a_pod_it_is_a_pod_or_malformed(
    place: tuple[str | int, ...], value: object
) -> None:
    pod = deepcopy(recorded())
    holder: Any = pod
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value

    with contextlib.suppress(MalformedError):
        assert parse_pod(pod).effective_request_millicores >= 0


@given(JSON)
def test_anything_is_a_pod_or_malformed(value: object) -> None:
    with pytest.raises(MalformedError):
        parse_pod(value)


def test_a_status_of_a_pod_that_ended_or_ends_is_told() -> None:
    ended, ending = running_pod(), running_pod()
    ended["status"]["phase"] = "Succeeded"
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert parse_pod(ended).is_terminal
    assert parse_pod(ending).is_terminating
    assert not parse_pod(ending).is_terminal


def test_a_container_that_waits_for_its_next_run_keeps_the_id_of_the_last() -> None:
    pod = running_pod()
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    pod["status"]["containerStatuses"] = [
        status(container(), 3, state=waiting, restartCount=3, ready=False)
    ]

    run = only(pod).run

    assert (run.container_id, run.restart_count, run.is_ready) == ("main3", 3, False)
    assert run.start_unix_seconds is None
