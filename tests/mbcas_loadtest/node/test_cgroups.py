import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbcas_loadtest.node import cgroups
from mbcas_loadtest.node.cgroups import CgroupsUnavailableError, Hierarchy, Node

V1_MOUNTS = """\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0
cgroup /sys/fs/cgroup/cpuacct cgroup rw,relatime,cpuacct 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
"""


@pytest.fixture
def node() -> Iterator[Node]:
    """A node in the real hierarchy of this machine, under a name of its own."""
    try:
        hierarchy = cgroups.find_hierarchy(Path("/proc/self/mounts").read_text())
        made = Node(hierarchy, cgroups.own_name())
        made.create(1600)
    except (CgroupsUnavailableError, OSError) as error:
        pytest.skip(f"no CPU cgroups here: {error}")
    try:
        yield made
    finally:
        made.remove()


def test_controllers_of_v1_on_mounts_of_their_own_are_both_found() -> None:
    found = cgroups.find_hierarchy(V1_MOUNTS)

    assert found == Hierarchy(1, (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/cpuacct")))


def test_controllers_of_v1_on_one_mount_are_one_root() -> None:
    found = cgroups.find_hierarchy("cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0")

    assert found == Hierarchy(1, (Path("/sys/fs/cgroup/cpu,cpuacct"),))


def test_v2_is_found_where_it_has_the_cpu_controller(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")

    found = cgroups.find_hierarchy(f"cgroup2 {tmp_path} cgroup2 rw 0 0")

    assert found == Hierarchy(2, (tmp_path,))


def test_v2_without_the_cpu_controller_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory\n")

    with pytest.raises(CgroupsUnavailableError, match="cpu controller"):
        cgroups.find_hierarchy(f"cgroup2 {tmp_path} cgroup2 rw 0 0")


def test_the_group_of_a_living_process_is_no_leftover() -> None:
    assert not cgroups.is_leftover(cgroups.own_name())


@pytest.mark.parametrize("name", ["mbcas-demo-notes", "kubepods", "mbcas-demo-1", "mbcas-demo-1-"])
def test_a_group_that_is_not_named_as_ours_is_no_leftover(name: str) -> None:
    assert not cgroups.is_leftover(name)


def test_the_group_of_a_process_whose_id_was_given_anew_is_a_leftover() -> None:
    assert cgroups.is_leftover(f"mbcas-demo-{os.getpid()}-1")


def test_a_container_is_made_with_its_quota_and_its_weight(node: Node) -> None:
    node.add("api", 300, burst=False)
    reader = node.reader("api")

    counters = reader.read()
    reader.close()

    assert counters.quota_millicores == 300
    assert counters.nr_throttled == 0
    # 300m are 307.2 shares, which are whole numbers.
    assert (counters.shares_millicores or 300) == pytest.approx(300, abs=1)


def test_removing_a_node_ends_the_processes_in_it(node: Node) -> None:
    node.add("api", 300, burst=True)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        node.attach("api", process.pid)

        node.remove()

        assert process.wait(10) < 0
    assert not any((root / node.name).exists() for root in node._hierarchy.roots)


def test_removing_a_node_that_was_never_made_does_nothing(tmp_path: Path) -> None:
    Node(Hierarchy(2, (tmp_path,)), cgroups.own_name()).remove()

    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    gone, ours = f"mbcas-demo-{process.pid}-1", cgroups.own_name()
    (tmp_path / gone / "api").mkdir(parents=True)
    (tmp_path / ours / "api").mkdir(parents=True)

    removed = cgroups.remove_leftovers(Hierarchy(2, (tmp_path,)))

    assert removed == [gone]
    assert [path.name for path in tmp_path.iterdir()] == [ours]
