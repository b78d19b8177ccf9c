from pathlib import Path

import pytest

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.cgroup_tree import open_tree
from mbcas_shim.counters import Counters
from mbcas_shim.errors import CgroupWriteError
from mbcas_shim.inventory import Cpu, Inventory
from mbcas_shim.kube.bursts import Bursts, Specs
from mbcas_shim.orders import Order
from tests.mbcas_shim.fakes import VirtualClock, make_v1, make_v2, reopened
from tests.mbcas_shim.kube.resize_bench import Container

POD = "kubepods/pod1"


class Bench:
    """A pod of two containers of 300m each, as files of either version."""

    def __init__(self, root: Path, version: int) -> None:
        self.root = root
        make = make_v1 if version == 1 else make_v2
        names = ("main", "side")
        for path in (*(f"{POD}/{name}" for name in names), POD):
            make(root, path)
        self.tree = open_tree(root)
        self._set_quota(POD, 60_000)
        self.counters = Counters(VirtualClock())
        self.inventory = Inventory(self.tree, self.counters, boot_id="boot")
        self.inventory.declare([Container(name, "1", f"{POD}/{name}") for name in names])
        self.inventory.refresh()
        self.bursts = Bursts(self.inventory, self.tree, self.counters)
        self.specs = {name: Cpu(20, 300) for name in names}

    def order(self, name: str, burst: int | None, lane: pb.Lane.ValueType = pb.LANE_NORMAL) -> None:
        order = Order(
            order_id=1,
            pod_uid="1",
            container=name,
            desired=Cpu(),
            burst_usec=burst,
            admitted=None,
            restores_exactly=False,
            expected_generation=0,
            expires_seconds=1e9,
            lane=lane,
        )
        self.bursts.note([order])

    def settle(self, **limits: int) -> set[str] | None:
        """What happens before a PATCH that makes these limits."""
        self.specs |= {name: Cpu(20, limit) for name, limit in limits.items()}
        return self.bursts.settle_pod("1", self.specs)

    def kubelet_sets(self, main: int, pod: int) -> None:
        """Quotas, as the kubelet brings them about some time after."""
        self._set_quota(f"{POD}/main", main)
        self._set_quota(POD, pod)
        self.bursts.settle(self.specs_of)

    def specs_of(self, uid: str) -> Specs | None:
        return self.specs if uid == "1" else None

    def _set_quota(self, path: str, quota_usec: int | None) -> None:
        group = self.tree.open(path)
        group.write_quota(quota_usec)
        group.close()

    @property
    def bursts_usec(self) -> tuple[int | None, ...]:
        """Of main, side and the pod."""
        paths = (f"{POD}/main", f"{POD}/side", POD)
        return tuple(reopened(self.root, path).burst_usec for path in paths)


@pytest.fixture(params=[1, 2])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, request.param)


def test_a_burst_is_as_ordered_and_the_pods_is_the_sum(bench: Bench) -> None:
    bench.order("main", 30_000)
    bench.order("side", 10_000)

    assert bench.settle() == {"main", "side"}
    assert bench.bursts_usec == (30_000, 10_000, 40_000)
    assert bench.settle() == set()


def test_a_burst_goes_down_before_the_cut_is_sent_and_not_up_before_the_quota_is_there(
    bench: Bench,
) -> None:
    bench.order("main", 30_000)
    bench.settle()
    bench.order("main", 10_000)
    cut = bench.settle(main=100), bench.bursts_usec
    bench.kubelet_sets(main=10_000, pod=40_000)
    bench.order("main", 50_000)
    raised = bench.settle(main=500), bench.bursts_usec
    bench.kubelet_sets(main=50_000, pod=80_000)

    assert cut == ({"main"}, (10_000, 0, 10_000))
    assert raised == (set(), (10_000, 0, 10_000))
    assert bench.bursts_usec == (50_000, 0, 50_000)


def test_a_burst_does_not_rise_again_while_the_cut_is_on_its_way(bench: Bench) -> None:
    bench.order("main", 30_000)
    bench.settle()
    bench.settle(main=100)
    bench.kubelet_sets(main=30_000, pod=60_000)  # It has not come yet.

    assert bench.bursts_usec == (10_000, 0, 10_000)


def test_somebody_elses_cut_finds_the_burst_lowered_within_a_second(bench: Bench) -> None:
    bench.order("main", 30_000)
    bench.settle()
    bench.specs["main"] = Cpu(20, 200)
    bench.bursts.settle(bench.specs_of)

    assert bench.bursts_usec == (20_000, 0, 20_000)


def test_the_pods_burst_stays_below_its_quota_of_now_and_of_later(bench: Bench) -> None:
    bench.order("main", 30_000)
    bench.order("side", 30_000)
    bench.settle()
    before = bench.bursts_usec
    bench.settle(main=5)  # The kernel's floor makes 10m of it, the pod's sum has 5m.

    assert before == (30_000, 30_000, 60_000)
    assert bench.bursts_usec == (1_000, 30_000, 30_500)


def test_what_has_no_limit_has_no_burst(bench: Bench) -> None:
    bench.order("main", 30_000)
    bench.specs["side"] = Cpu(20, None)
    bench._set_quota(POD, None)
    bench.order("side", 30_000)

    bench.settle()

    assert bench.bursts_usec == (30_000, 0, 0)


def test_giving_back_admitted_values_gives_back_the_burst(bench: Bench) -> None:
    bench.order("main", 30_000)
    bench.settle()
    bench.order("main", None, pb.LANE_RELEASE)
    bench.settle()

    assert bench.bursts_usec == (0, 0, 0)


def test_at_the_end_none_is_left_and_none_comes_back(bench: Bench) -> None:
    bench.order("main", 30_000)
    bench.settle()
    failed = bench.bursts.zero()
    bench.bursts.settle(bench.specs_of)

    assert failed == 0
    assert bench.bursts_usec == (0, 0, 0)


def test_what_cannot_be_lowered_is_said_and_what_cannot_be_raised_is_only_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.order("main", 20_000)
    bench.settle()
    for row in bench.inventory.rows:
        monkeypatch.setattr(type(row.cgroup), "write_burst", _refuse)
    bench.order("main", 30_000)
    raised = bench.settle()
    cut = bench.settle(main=100)

    assert (raised, cut) == (set(), None)
    assert bench.counters.value("burst_refused") > 0
    assert bench.bursts.zero() == 2  # Each row has a group that keeps some: its own or the pod's.


def test_a_pod_that_has_gone_is_forgotten(bench: Bench) -> None:
    bench.order("main", 30_000)
    bench.bursts.settle(lambda _: None)

    assert not bench.bursts._wanted


def _refuse(group: object, burst_usec: int) -> None:
    del group
    raise CgroupWriteError(Path("cpu.max.burst"), str(burst_usec), OSError(30, "read-only"))
