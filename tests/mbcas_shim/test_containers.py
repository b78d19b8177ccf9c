from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_shim.containers import ContainersWatch, load_containers
from mbcas_shim.counters import Counters
from mbcas_shim.errors import ConfigurationError
from mbcas_shim.quantity import parse_millicores
from tests.mbcas_shim.fakes import VirtualClock, declare

GOOD = """
node: {allocatable: 1600m, unmanaged: 0m}
containers:
- name: api
  cgroup: mbcas-demo/api
  request: 300m
  limit: 300m
  priority: critical
  min: 50m
  max: 1
  min-acceptable: 100m
  policy: hard-quota
  isolation: strict
- {name: idle, cgroup: mbcas-demo/idle, request: 0.1, limit: "2"}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "containers.yaml"
    path.write_text(text)
    return path


def container(**fields: str) -> str:
    given_fields = {"name": "api", "cgroup": "api", "request": "300m", "limit": "300m", **fields}
    return "- {" + ", ".join(f"{key}: {value}" for key, value in given_fields.items()) + "}\n"


def test_a_good_file_is_taken_as_it_is_written(tmp_path: Path) -> None:
    content = load_containers(write(tmp_path, GOOD))

    api, idle = content.containers
    assert content.node.allocatable_millicores == 1600
    assert api.pod_uid == "local/api"
    assert api.annotations() == {
        "priority-class": "critical", "max-priority": "critical", "mode": "auto",
        "min-cpu": "50m", "max-cpu": "1000m",
        "min-acceptable-cpu": "100m", "policy": "hard-quota", "isolation": "strict",
    }  # fmt: skip
    assert api.is_restored_exactly
    assert (idle.request_millicores, idle.limit_millicores) == (100, 2000)
    assert not idle.is_restored_exactly


def test_a_request_that_is_not_given_is_the_limit() -> None:
    assert declare(request=None, limit="200m").admitted_request_millicores == 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (container(request="400m"), r"containers\[0\] \(api\): request 400m is above limit 300m"),
        (container(min="2", max="1"), "min 2000m is above max 1000m"),
        (container(limit="fast"), r"containers\[0\]\.limit \(api\): 'fast' is no quantity of CPU"),
        (container(limit="-1"), "no quantity"),
        (container(limit="true"), "no quantity"),
        (container(limit=".nan"), "no quantity"),
        (container(limit="0.0001"), "finer than 1m"),
        (container(limit="1000000"), "more than 10000 cores"),
        (container(cgroup="/a"), "not absolute"),
        (container(cgroup="a/../b"), r"without '\.\.'"),
        (container(cgroup="."), "not the mount itself"),
        (
            container(colour="red"),
            r"containers\[0\]\.colour \(api\): there is no such key; there are name,.* isolation$",
        ),
        (container(max="200m"), "request 300m is above max 200m; lower request or raise max"),
        (
            "- {name: api, cgroup: api, limit: 300m, max: 200m}\n",
            r"request \(by default limit\) 300m is above max 200m",
        ),
        (
            container(cgroup="pod/a/b") + container(name="b", cgroup="pod"),
            r"containers\[0\]: its cgroup pod/a/b lies inside pod, the cgroup of containers\[1\]",
        ),
        (container(mode="on"), r"containers\[0\]\.mode"),
        (container(name="A_b"), r"containers\[0\]\.name"),
        (container() + container(cgroup="b"), r"containers\[0\] and containers\[1\].*the name"),
        (container() + container(name="b", cgroup="./api/"), "both have the cgroup api"),
    ],
)
def test_a_bad_container_is_an_error_with_its_place_and_the_remedy(
    text: str, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path, f"containers:\n{text}")

    with pytest.raises(ConfigurationError, match=words) as caught:
        load_containers(path)

    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodes: {}", "nodes: there is no such key; there are node, max-priority, containers$"),
        ("node: {cpus: 1}", r"node\.cpus: there is no such key; there are allocatable, unmanaged$"),
    ],
)
def test_an_unknown_key_is_answered_with_the_keys_there_are(
    text: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_containers(write(tmp_path, text))


def test_the_file_bounds_what_its_containers_may_claim(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    watch = ContainersWatch(path, Counters(VirtualClock()))
    before = watch.content.containers

    path.write_text("max-priority: low\n" + GOOD)
    watch.refresh()

    said = [item.annotations() for item in watch.content.containers]
    assert [item["max-priority"] for item in said] == ["low", "low"]
    assert said[0]["priority-class"] == "critical"
    assert watch.content.containers[1] != before[1], "so that the server is told"


@pytest.mark.parametrize("given", ["highest", "[critical]", "1", "{a: b}", "''"])
def test_a_bound_on_priorities_that_is_none_is_an_error(given: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"max-priority: .*'critical', 'normal' or 'low'"):
        load_containers(write(tmp_path, f"max-priority: {given}\n{GOOD}"))


def test_a_container_has_no_bound_of_its_own(tmp_path: Path) -> None:
    text = "containers:\n" + container(**{"max-priority": "critical"})

    with pytest.raises(ConfigurationError, match="there is no such key"):
        load_containers(write(tmp_path, text))


def test_cgroups_beside_each_other_may_begin_with_the_same_letters(tmp_path: Path) -> None:
    text = container(cgroup="pod/api") + container(name="b", cgroup="pod/api-2")

    content = load_containers(write(tmp_path, f"containers:\n{text}"))

    assert len(content.containers) == 2


@pytest.mark.parametrize(
    "text", ["", "- a", "containers: [", "a: 1\na: 2", "containers: 5", "1: 2", "x: !!python/none"]
)
def test_a_file_that_is_no_such_mapping_is_an_error_that_names_it(
    text: str, tmp_path: Path
) -> None:
    path = write(tmp_path, text)

    with pytest.raises(ConfigurationError, match=str(path)):
        load_containers(path)


@given(st.integers(0, 10_000_000))
def test_every_spelling_of_a_quantity_means_the_same(millicores: int) -> None:
    whole, rest = divmod(millicores, 1000)

    assert parse_millicores(f"{millicores}m") == millicores
    assert parse_millicores(f"{whole}.{rest:03}") == millicores


def test_a_bad_new_version_keeps_the_old_one_and_is_counted_once(tmp_path: Path) -> None:
    counters = Counters(VirtualClock())
    path = write(tmp_path, GOOD)
    watch = ContainersWatch(path, counters)

    path.write_text("containers: 5")
    changes = [watch.refresh(), watch.refresh()]

    assert changes == [False, False]
    assert len(watch.content.containers) == 2
    assert counters.value("containers_file_unusable") == 1


def test_a_good_new_version_is_taken_over_once(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    watch = ContainersWatch(path, Counters(VirtualClock()))

    path.write_text("containers: []")
    changes = [watch.refresh(), watch.refresh()]

    assert changes == [True, False]
    assert watch.content.containers == ()


def test_a_file_that_disappears_keeps_what_was_in_it(tmp_path: Path) -> None:
    counters = Counters(VirtualClock())
    path = write(tmp_path, GOOD)
    watch = ContainersWatch(path, counters)

    path.unlink()

    assert not watch.refresh()
    assert len(watch.content.containers) == 2
    assert counters.value("containers_file_unusable") == 1
