import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mbcas_shim.cgroup import Bandwidth, CpuCgroup, Throttling
from mbcas_shim.cgroup_tree import open_tree
from mbcas_shim.cgroup_v1 import shares_of
from mbcas_shim.cgroup_v2 import weight_of_shares
from mbcas_shim.errors import CgroupError, CgroupGoneError, CgroupWriteError
from tests.mbcas_shim.fakes import V1_FILES, V1_USAGE, make_v1, make_v2, write_files

Maker = Callable[..., Path]
both_versions = pytest.mark.parametrize("make", [make_v1, make_v2])


def usage_usec(group: CpuCgroup) -> int:
    return group.parse_usage(group.usage_file.read())


def throttling(group: CpuCgroup) -> Throttling:
    return group.parse_throttling(group.throttling_file.read())


@both_versions
def test_both_versions_read_the_same_numbers_in_the_same_units(make: Maker, tmp_path: Path) -> None:
    make(tmp_path)

    group = open_tree(tmp_path).open("api")

    assert usage_usec(group) == 5_000_000
    assert throttling(group) == Throttling(10, 2, 3000, 1)
    assert group.bandwidth() == Bandwidth(30_000, 100_000, 0)
    assert group.bandwidth().limit_millicores() == 300


def test_controllers_of_version_1_mounted_together_are_found(tmp_path: Path) -> None:
    write_files(tmp_path / "cpu,cpuacct" / "api", {**V1_FILES, "cpuacct.usage": V1_USAGE})

    group = open_tree(tmp_path).open("api")

    assert usage_usec(group) == 5_000_000


@pytest.mark.parametrize(
    ("make", "changes"),
    [(make_v1, {"cpu.cfs_quota_us": "-1\n"}), (make_v2, {"cpu.max": "max 100000\n"})],
)
def test_no_quota_is_none_and_not_a_number(
    make: Maker, changes: dict[str, str], tmp_path: Path
) -> None:
    make(tmp_path, **changes)

    bandwidth = open_tree(tmp_path).open("api").bandwidth()

    assert bandwidth.quota_usec is None
    assert bandwidth.limit_millicores() is None


@pytest.mark.parametrize(
    ("make", "burst_file"), [(make_v1, "cpu.cfs_burst_us"), (make_v2, "cpu.max.burst")]
)
def test_what_an_older_kernel_lacks_is_absent_and_not_zero(
    make: Maker, burst_file: str, tmp_path: Path
) -> None:
    folder = make(tmp_path)
    lines = (folder / "cpu.stat").read_text().splitlines()
    (folder / "cpu.stat").write_text("\n".join(line for line in lines if "burst" not in line))
    (folder / burst_file).unlink()
    (folder / "cpu.pressure").unlink(missing_ok=True)

    group = open_tree(tmp_path).open("api")

    assert throttling(group).nr_bursts is None
    assert group.bandwidth().burst_usec is None
    assert group.pressure_usec() is None


def test_pressure_is_the_total_of_some(tmp_path: Path) -> None:
    make_v2(tmp_path)

    assert open_tree(tmp_path).open("api").pressure_usec() == 777


@pytest.mark.parametrize(
    ("make", "file", "text"),
    [
        (make_v1, "cpu.cfs_quota_us", "many\n"),
        (make_v1, "cpu.cfs_period_us", "0\n"),
        (make_v1, "cpu.cfs_burst_us", ""),
        (make_v2, "cpu.max", "max\n"),
        (make_v2, "cpu.max", "-5 100000\n"),
        (make_v2, "cpu.max", "1000 0\n"),
        (make_v2, "cpu.pressure", "full total=1\n"),
    ],
)
def test_garbage_is_an_error_that_names_the_file_and_what_it_holds(
    make: Maker, file: str, text: str, tmp_path: Path
) -> None:
    make(tmp_path, **{file: text})
    group = open_tree(tmp_path).open("api")

    read = group.pressure_usec if file == "cpu.pressure" else group.bandwidth
    with pytest.raises(CgroupError, match=file) as caught:
        read()

    assert repr(text.encode()) in str(caught.value)


@both_versions
@pytest.mark.parametrize(
    "text", ["", "garbage", "nr_periods x\n", "nr_periods 1\n", "usage_usec\n", "a b c d e f\n"]
)
def test_a_malformed_cpu_stat_is_an_error_that_names_it(
    make: Maker, text: str, tmp_path: Path
) -> None:
    make(tmp_path, **{"cpu.stat": text})
    group = open_tree(tmp_path).open("api")

    with pytest.raises(CgroupError, match=r"cpu\.stat"):
        throttling(group)


@both_versions
def test_a_missing_required_file_is_an_error_that_says_what_to_look_at(
    make: Maker, tmp_path: Path
) -> None:
    (make(tmp_path) / "cpu.stat").unlink()

    with pytest.raises(CgroupError, match=r"cpu\.stat: missing; is the cpu controller enabled"):
        open_tree(tmp_path).open("api")


@both_versions
def test_a_group_that_is_not_there_is_gone(make: Maker, tmp_path: Path) -> None:
    make(tmp_path)

    with pytest.raises(CgroupGoneError):
        open_tree(tmp_path).open("other")


@both_versions
def test_writing_to_a_group_that_vanished_says_that_it_is_gone(make: Maker, tmp_path: Path) -> None:
    folder = make(tmp_path)
    group = open_tree(tmp_path).open("api")
    shutil.rmtree(folder)

    with pytest.raises(CgroupGoneError):
        group.write_burst(0)


@both_versions
def test_a_refused_write_names_the_errno(make: Maker, tmp_path: Path) -> None:
    folder = make(tmp_path)
    group = open_tree(tmp_path).open("api")
    name = "cpu.cfs_burst_us" if make is make_v1 else "cpu.max.burst"
    (folder / name).unlink()
    (folder / name).mkdir()

    with pytest.raises(CgroupWriteError, match="EISDIR"):
        group.write_burst(5)


@both_versions
@pytest.mark.parametrize("quota_usec", [20_000, None])
def test_a_written_quota_is_read_back_and_keeps_the_period(
    make: Maker, quota_usec: int | None, tmp_path: Path
) -> None:
    make(tmp_path)
    group = open_tree(tmp_path).open("api")

    group.write_quota(quota_usec)

    assert group.bandwidth() == Bandwidth(quota_usec, 100_000, 0)


@both_versions
def test_the_tightest_quota_of_the_groups_above_counts(make: Maker, tmp_path: Path) -> None:
    quota = "cpu.cfs_quota_us" if make is make_v1 else "cpu.max"
    text = "{}\n" if make is make_v1 else "{} 100000\n"
    make(tmp_path, "a", **{quota: text.format(50_000)})
    make(tmp_path, "a/b", **{quota: text.format(80_000)})
    make(tmp_path, "a/b/c", **{quota: text.format(10_000)})

    assert open_tree(tmp_path).open("a/b/c").tightest_ancestor_millicores() == 500
    assert open_tree(tmp_path).open("a").tightest_ancestor_millicores() is None


def test_a_root_without_cgroups_is_refused_with_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(CgroupError, match="set cgroup_root"):
        open_tree(tmp_path)


def test_a_version_2_root_without_the_cpu_controller_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, {"cgroup.controllers": "memory pids\n"})

    with pytest.raises(CgroupError, match="no cpu controller"):
        open_tree(tmp_path)


@pytest.mark.parametrize(
    ("request_millicores", "shares"), [(0, 2), (1, 2), (2, 2), (100, 102), (300, 307), (1000, 1024)]
)
def test_requests_become_shares_as_the_kubelet_makes_them(
    request_millicores: int, shares: int
) -> None:
    assert shares_of(request_millicores) == shares


@pytest.mark.parametrize(
    ("request_millicores", "weight"),
    [(10, 4), (100, 17), (500, 59), (1000, 100), (2000, 174), (4000, 303)],
)
def test_requests_become_weights_by_the_new_conversion(
    request_millicores: int, weight: int
) -> None:
    assert weight_of_shares(shares_of(request_millicores)) == weight


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (262_144, 10_000)])
def test_the_ends_and_the_middle_of_the_conversion_are_exact(shares: int, weight: int) -> None:
    assert weight_of_shares(shares) == weight


@pytest.mark.parametrize(
    ("limit_millicores", "period_usec", "quota_usec"),
    [(333, 100_000, 33_300), (12, 100_000, 1200), (9, 100_000, 1000), (5, 100_000, 1000),
     (300, 50_000, 15_000), (8000, 100_000, 800_000)],
)  # fmt: skip
def test_limits_become_quotas_of_at_least_a_millisecond(
    limit_millicores: int, period_usec: int, quota_usec: int
) -> None:
    assert Bandwidth(None, period_usec, 0).quota_for(limit_millicores) == quota_usec
