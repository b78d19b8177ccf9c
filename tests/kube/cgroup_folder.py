"""The pods' cgroups as files, for a shim that runs against the fake.

The layout is that of version 1 with the cgroupfs driver, both controllers mounted together. Tests
write cpuacct.usage and cpu.stat themselves: nothing runs in here.
"""

import shutil
from pathlib import Path

from tests.kube.resources import Cgroup

CONTROLLERS = "cpu,cpuacct"
TOP = Path(CONTROLLERS, "kubepods")


class CgroupFolder:
    """What is below /sys/fs/cgroup on a node."""

    def __init__(self, root: Path) -> None:
        self._top = root / TOP
        for folder in (self._top, self._top / "burstable", self._top / "besteffort"):
            folder.mkdir(parents=True)
            _write(folder, Cgroup(-1, 2))

    def pod(self, qos: str, uid: str) -> Path:
        """Returns a pod's folder."""
        top = self._top if qos == "Guaranteed" else self._top / qos.lower()
        return top / f"pod{uid}"

    def write(self, folder: Path, cgroup: Cgroup) -> None:
        """Writes what the kubelet writes; a new group starts with nothing used."""
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "cpuacct.usage").write_text("0\n")
            (folder / "cpu.stat").write_text("nr_periods 0\nnr_throttled 0\nthrottled_time 0\n")
            (folder / "cpu.cfs_burst_us").write_text("0\n")
            (folder / "cgroup.procs").write_text("")
        _write(folder, cgroup)

    def remove(self, folder: Path) -> None:
        """Takes a group away with those in it."""
        shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, cgroup: Cgroup) -> None:
    (folder / "cpu.cfs_quota_us").write_text(f"{cgroup.quota_us}\n")
    (folder / "cpu.cfs_period_us").write_text(f"{cgroup.period_us}\n")
    (folder / "cpu.shares").write_text(f"{cgroup.shares}\n")
