import dataclasses
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.cgroup import Bandwidth
from mbcas_shim.containers import DeclaredContainer
from mbcas_shim.counters import Counters
from mbcas_shim.enforce_cgroup import CgroupEnforcer, WriteBurst, WriteQuota, plan_writes
from mbcas_shim.inventory import Cpu, Inventory, Row
from mbcas_shim.orders import Order
from tests.mbcas_shim.fakes import VirtualClock, declare, make_inventory, make_v1, make_v2, reopened

quotas = st.none() | st.integers(1_000, 200_000)
bursts = st.integers(0, 200_000)


def in_force() -> st.SearchStrategy[Bandwidth]:
    """Every state that the kernel allows."""
    return st.tuples(quotas, bursts).map(
        lambda pair: Bandwidth(
            pair[0], 100_000, pair[1] if pair[0] is None else min(pair[0], pair[1])
        )
    )


@given(in_force(), quotas, st.none() | bursts)
def test_no_write_is_refused_or_needless_and_the_end_is_what_was_asked_for(
    now: Bandwidth, quota_usec: int | None, burst_usec: int | None
) -> None:
    quota, burst = now.quota_usec, now.burst_usec or 0

    for write in plan_writes(now, quota_usec=quota_usec, burst_usec=burst_usec):
        match write:
            case WriteQuota():
                assert write.quota_usec != quota, "a write that changes nothing refills the quota"
                quota = write.quota_usec
            case WriteBurst():
                assert write.burst_usec != burst
                burst = write.burst_usec
        assert quota is None or burst <= quota, "the kernel answers EINVAL"

    wanted = (now.burst_usec or 0) if burst_usec is None else burst_usec
    assert quota == quota_usec
    assert burst == (wanted if quota_usec is None else min(wanted, quota_usec))


class Bench:
    """Some containers in plain files, and their enforcer."""

    def __init__(self, root: Path, *declared: DeclaredContainer, allocatable: int = 1600) -> None:
        self.counters = Counters(VirtualClock())
        self.inventory: Inventory = make_inventory(root, *declared)
        self.changed: list[Row] = []
        self.enforcer = CgroupEnforcer(
            self.inventory,
            self.counters,
            allocatable_millicores=lambda: allocatable,
            on_change=self.changed.append,
        )

    def row(self, name: str = "api") -> Row:
        row = self.inventory.find(f"local/{name}", name)
        assert row is not None
        return row

    async def apply(self, order: Order) -> pb.OrderResult:
        (answer,) = await self.enforcer.apply([order])
        return answer


def order(limit: int | None = None, request: int | None = None, **fields: object) -> Order:
    plain = Order(
        order_id=1,
        pod_uid="local/api",
        container="api",
        desired=Cpu(request, limit),
        burst_usec=None,
        admitted=None,
        restores_exactly=False,
        expected_generation=0,
        expires_seconds=1e9,
        lane=pb.LANE_NORMAL,
    )
    return dataclasses.replace(plain, **fields)  # type: ignore[arg-type]  # Fields of an order.


async def test_an_order_is_written_and_read_back(tmp_path: Path) -> None:
    folder = make_v1(tmp_path)
    bench = Bench(tmp_path, declare())

    answer = await bench.apply(order(limit=500, request=400, burst_usec=20_000))

    assert answer.outcome == pb.OUTCOME_APPLIED
    assert answer.actual == pb.CpuResources(request_millicores=400, limit_millicores=500)
    assert reopened(tmp_path) == Bandwidth(50_000, 100_000, 20_000)
    assert (folder / "cpu.shares").read_text() == "409"
    assert bench.changed


async def test_version_2_gets_the_weight_of_the_new_conversion(tmp_path: Path) -> None:
    folder = make_v2(tmp_path)

    await Bench(tmp_path, declare()).apply(order(request=1000))

    assert (folder / "cpu.weight").read_text() == "100"


async def test_what_is_already_so_is_not_written(tmp_path: Path) -> None:
    folder = make_v1(tmp_path)
    bench = Bench(tmp_path, declare())
    before = (folder / "cpu.cfs_quota_us").stat().st_mtime_ns

    answer = await bench.apply(order(limit=300, request=300))

    assert answer.outcome == pb.OUTCOME_UNCHANGED
    assert (folder / "cpu.cfs_quota_us").stat().st_mtime_ns == before


async def test_a_quota_somebody_else_changed_is_compared_as_it_is_now(tmp_path: Path) -> None:
    folder = make_v1(tmp_path)
    bench = Bench(tmp_path, declare())
    (folder / "cpu.cfs_quota_us").write_text("70000")

    answer = await bench.apply(order(limit=300))

    assert answer.outcome == pb.OUTCOME_APPLIED
    assert reopened(tmp_path).quota_usec == 30_000


async def test_an_unknown_container_is_stale(tmp_path: Path) -> None:
    make_v1(tmp_path)

    answer = await Bench(tmp_path, declare()).apply(order(limit=500, container="other"))

    assert answer.outcome == pb.OUTCOME_STALE


async def test_a_cgroup_that_is_gone_is_stale(tmp_path: Path) -> None:
    folder = make_v1(tmp_path)
    bench = Bench(tmp_path, declare())
    shutil.rmtree(folder)

    answer = await bench.apply(order(limit=500))

    assert answer.outcome == pb.OUTCOME_STALE


async def test_a_refusal_of_the_kernel_carries_its_name_and_what_is_in_force(
    tmp_path: Path,
) -> None:
    folder = make_v1(tmp_path)
    bench = Bench(tmp_path, declare())
    (folder / "cpu.shares").unlink()
    (folder / "cpu.shares").symlink_to("/proc/version")

    answer = await bench.apply(order(limit=500, request=400))

    assert answer.outcome == pb.OUTCOME_REFUSED
    assert answer.cause
    assert answer.actual.limit_millicores == 300
    assert reopened(tmp_path).quota_usec == 30_000


async def test_more_than_the_group_above_has_is_refused_before_any_write(tmp_path: Path) -> None:
    make_v1(tmp_path, "pod", **{"cpu.cfs_quota_us": "40000"})
    make_v1(tmp_path, "pod/api")
    bench = Bench(tmp_path, declare(cgroup="pod/api"))

    answer = await bench.apply(order(limit=500))

    assert (answer.outcome, answer.cause) == (pb.OUTCOME_REFUSED, "AncestorQuota")
    assert reopened(tmp_path, "pod/api").quota_usec == 30_000


async def test_cuts_come_before_raises_and_a_refused_cut_holds_the_raises_back(
    tmp_path: Path,
) -> None:
    make_v1(tmp_path)
    bench = Bench(tmp_path, declare())
    folder = bench.row().cgroup.path
    (folder / "cpu.cfs_burst_us").write_text("30000")
    cut, rise = order(limit=200, order_id=2), order(limit=500, order_id=1)
    quota_file = folder / "cpu.cfs_burst_us"
    quota_file.unlink()
    quota_file.mkdir()

    answers = await bench.enforcer.apply([rise, cut])

    assert [(answer.order_id, answer.outcome) for answer in answers] == [
        (2, pb.OUTCOME_REFUSED),
        (1, pb.OUTCOME_REFUSED),
    ]
    assert answers[1].cause == "CutRefused"


@given(current=st.integers(10, 900), admitted=st.integers(10, 900), exactly=st.booleans())
async def test_restoring_brings_back_the_larger_or_exactly_what_was_admitted(
    tmp_path_factory: pytest.TempPathFactory, *, current: int, admitted: int, exactly: bool
) -> None:
    root = tmp_path_factory.mktemp("tree")
    make_v1(root)
    bench = Bench(root, declare(request=f"{admitted}m", limit=f"{admitted}m"))
    await bench.apply(order(limit=current, request=current, restores_exactly=exactly))

    failed = await bench.enforcer.restore()
    bench.row().cgroup.close()

    expected = admitted if exactly else max(current, admitted)
    assert failed == 0
    assert bench.row().in_force() == Cpu(expected, expected)
    assert reopened(root).quota_usec == expected * 100


async def test_restoring_cuts_before_it_raises(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    for name, quota in zip(names, ("10000", "90000", "20000"), strict=True):
        make_v1(tmp_path, name, **{"cpu.cfs_quota_us": quota})
    bench = Bench(tmp_path, *(declare(name, policy="hard-quota") for name in names))
    bench.changed.clear()

    await bench.enforcer.restore()

    assert bench.changed[0].declared.name == "b"
    assert {reopened(tmp_path, name).quota_usec for name in names} == {30_000}


async def test_requests_come_back_only_as_far_as_they_fit(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_v1(tmp_path, name)
    bench = Bench(tmp_path, declare("a", limit="1"), declare("b", limit="1"), allocatable=500)
    for name in ("a", "b"):
        await bench.apply(order(request=100, pod_uid=f"local/{name}", container=name))

    await bench.enforcer.restore()

    assert [bench.row(name).request_millicores for name in ("a", "b")] == [300, 100]


async def test_a_container_that_is_not_managed_is_not_restored(tmp_path: Path) -> None:
    make_v1(tmp_path, **{"cpu.cfs_quota_us": "10000", "cpu.cfs_burst_us": "500"})
    bench = Bench(tmp_path, declare(mode="recommend"))

    bench.enforcer.admit(bench.row())
    await bench.enforcer.restore()
    await bench.enforcer.zero_bursts()

    assert reopened(tmp_path) == Bandwidth(10_000, 100_000, 500)


async def test_a_quota_of_a_container_declared_without_limit_is_left_alone(tmp_path: Path) -> None:
    make_v1(tmp_path)
    bench = Bench(tmp_path, declare(limit=None))

    await bench.enforcer.restore()

    assert reopened(tmp_path).quota_usec == 30_000


def test_admission_takes_burst_away_and_sets_the_declared_limit_where_there_is_none(
    tmp_path: Path,
) -> None:
    make_v1(tmp_path, **{"cpu.cfs_quota_us": "-1", "cpu.cfs_burst_us": "700"})
    bench = Bench(tmp_path, declare())

    bench.enforcer.admit(bench.row())

    assert reopened(tmp_path) == Bandwidth(30_000, 100_000, 0)


async def test_a_burst_that_cannot_be_taken_away_is_counted(tmp_path: Path) -> None:
    folder = make_v1(tmp_path, **{"cpu.cfs_burst_us": "700"})
    bench = Bench(tmp_path, declare())
    (folder / "cpu.cfs_burst_us").unlink()
    (folder / "cpu.cfs_burst_us").mkdir()

    failed = await bench.enforcer.zero_bursts()

    assert failed == 1
    assert bench.counters.value("burst_left_behind") == 1
