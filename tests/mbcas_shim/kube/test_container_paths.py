from pathlib import Path

import pytest

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.cgroup_tree import open_tree
from mbcas_shim.kube.container_paths import ContainerPaths
from tests.mbcas_shim.fakes import V1_FILES, V1_USAGE, V2_FILES, write_files

UID = "0e1c-47"
G, B, E = pb.QOS_CLASS_GUARANTEED, pb.QOS_CLASS_BURSTABLE, pb.QOS_CLASS_BEST_EFFORT
SYSTEMD_POD = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0e1c_47.slice"
NESTED = "/".join(
    (
        "mbcas.slice",
        "mbcas-e2e_1.slice",
        "mbcas-e2e_1-kubepods.slice",
        "mbcas-e2e_1-kubepods-burstable.slice",
    )
)
CGROUPFS_POD = "kubepods/burstable/pod0e1c-47"


def make_tree(root: Path, version: int, *groups: str) -> None:
    """Builds groups with their files; of version 1 in two controllers."""
    if version == 2:
        write_files(root, {"cgroup.controllers": "cpu memory\n"})
    for group in groups:
        if version == 2:
            write_files(root / group, V2_FILES)
        else:
            write_files(root / "cpu" / group, V1_FILES)
            write_files(root / "cpuacct" / group, {"cpuacct.usage": V1_USAGE})


def paths_in(root: Path, kubelet_cgroup_root: str = "") -> ContainerPaths:
    return ContainerPaths(open_tree(root), kubelet_cgroup_root=kubelet_cgroup_root)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("qos", "runtime", "path"),
    [
        (B, "containerd", f"{CGROUPFS_POD}/abc"),
        (G, "containerd", "kubepods/pod0e1c-47/abc"),
        (E, "containerd", "kubepods/besteffort/pod0e1c-47/abc"),
        (B, "cri-o", f"{CGROUPFS_POD}/crio-abc"),
        (B, "docker", f"{CGROUPFS_POD}/abc"),
        (B, "containerd", f"{SYSTEMD_POD}/cri-containerd-abc.scope"),
        (B, "cri-o", f"{SYSTEMD_POD}/crio-abc.scope"),
        (B, "docker", f"{SYSTEMD_POD}/docker-abc.scope"),
        (G, "cri-o", "kubepods.slice/kubepods-pod0e1c_47.slice/crio-abc.scope"),
        (
            E,
            "containerd",
            SYSTEMD_POD.replace("burstable", "besteffort") + "/cri-containerd-abc.scope",
        ),
    ],
)
def test_a_container_is_found_whatever_driver_and_runtime_named_it(
    tmp_path: Path, version: int, qos: pb.QosClass.ValueType, runtime: str, path: str
) -> None:
    is_systemd = path.startswith("kubepods.slice")
    probe = "kubepods.slice/kubepods-burstable.slice" if is_systemd else "kubepods/burstable"
    make_tree(tmp_path, version, probe, path)
    paths = paths_in(tmp_path)

    found = paths.container(paths.pod(UID, qos), runtime, "abc")

    assert found == path
    group = open_tree(tmp_path).open(found)
    assert group.bandwidth().quota_usec == 30_000
    group.close()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("root", "pod"),
    [
        ("/mbcas/e2e-1", "mbcas/e2e-1/kubepods/burstable/pod0e1c-47"),
        ("/mbcas/e2e-1", f"{NESTED}/mbcas-e2e_1-kubepods-burstable-pod0e1c_47.slice"),
    ],
)
def test_a_kubelet_with_a_cgroup_root_of_its_own_is_followed(
    tmp_path: Path, version: int, root: str, pod: str
) -> None:
    make_tree(tmp_path, version, pod)

    assert paths_in(tmp_path, root).pod(UID, B) == pod


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("root", "pod"),
    [
        ("", "burstable/pod0e1c-47"),
        ("", "kubepods-burstable.slice/kubepods-burstable-pod0e1c_47.slice"),
        ("/a/b", "burstable/pod0e1c-47"),
        ("/a/b", "a-b-kubepods-burstable.slice/a-b-kubepods-burstable-pod0e1c_47.slice"),
    ],
)
def test_the_mount_may_be_that_of_the_kubepods_group(
    tmp_path: Path, version: int, root: str, pod: str
) -> None:
    make_tree(tmp_path, version, "", pod)

    assert paths_in(tmp_path, root).pod(UID, B) == pod


def test_before_the_kubelet_has_made_its_groups_nothing_is_named(tmp_path: Path) -> None:
    make_tree(tmp_path, 1, "")
    paths = paths_in(tmp_path)

    before = paths.pod(UID, B)
    make_tree(tmp_path, 1, "kubepods/burstable")

    assert before == ""
    assert paths.pod(UID, B) == CGROUPFS_POD


def test_a_pod_without_a_class_and_a_container_without_an_id_have_no_path(tmp_path: Path) -> None:
    make_tree(tmp_path, 1, "kubepods/burstable")
    paths = paths_in(tmp_path)

    assert paths.pod(UID, pb.QOS_CLASS_UNSPECIFIED) == ""
    assert paths.container("", "containerd", "abc") == ""
    assert paths.container(CGROUPFS_POD, "", "") == ""


def test_what_was_looked_for_is_told_with_the_kubelets_root(tmp_path: Path) -> None:
    make_tree(tmp_path, 1, "")

    told = paths_in(tmp_path, "/a").looked_for()

    assert "a/kubepods/burstable" in told
    assert "a.slice/a-kubepods.slice/a-kubepods-burstable.slice" in told
