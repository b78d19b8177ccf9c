"""Finds out which version of cgroups a machine has."""

from pathlib import Path

from mbcas_shim.cgroup import CgroupTree
from mbcas_shim.cgroup_v1 import CgroupTreeV1
from mbcas_shim.cgroup_v2 import CgroupTreeV2
from mbcas_shim.errors import CgroupError

_CPU_MOUNTS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")
_CPUACCT_MOUNTS = ("cpuacct", "cpu,cpuacct", "cpuacct,cpu")


def open_tree(root: Path) -> CgroupTree:
    """Opens the tree of cgroups below a root, usually /sys/fs/cgroup.

    On a machine with both versions the cpu controller belongs to one of them, and that one is used.
    """
    controllers = root / "cgroup.controllers"
    if controllers.exists():
        found = controllers.read_text().split()
        if "cpu" not in found:
            raise CgroupError(f"{controllers}: no cpu controller, only {' '.join(found) or 'none'}")
        return CgroupTreeV2(root)
    cpu = _first_directory(root, _CPU_MOUNTS)
    cpuacct = _first_directory(root, _CPUACCT_MOUNTS)
    if cpu is None or cpuacct is None:
        raise CgroupError(
            f"{root}: neither cgroup v2 (cgroup.controllers) nor v1 (cpu and cpuacct) is here; "
            "set cgroup_root to where it is mounted"
        )
    return CgroupTreeV1(cpu, cpuacct)


def _first_directory(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)
