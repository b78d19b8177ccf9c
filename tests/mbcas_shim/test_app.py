import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.app import App
from mbcas_shim.cgroup import Bandwidth
from mbcas_shim.errors import SupersededError
from mbcas_shim.settings import Settings
from tests.mbcas_shim.fake_link import HANG_SECONDS, FakeLink, served
from tests.mbcas_shim.fakes import VirtualClock, make_v1, reopened, settle

REAL_ROOT = Path("/sys/fs/cgroup")
CONTAINERS = """
node: {allocatable: 1600m}
containers:
- {name: api, cgroup: NAME, request: 300m, limit: 300m, priority: critical}
"""


class Bench:
    """A whole shim over a fake or real tree, a fake server, and a clock moved by hand."""

    def __init__(self, root: Path, folder: Path, address: str, link: FakeLink, name: str) -> None:
        self.root = root
        self.name = name
        self.link = link
        self.clock = VirtualClock()
        self.stop = asyncio.Event()
        self.file = folder / "containers.yaml"
        self.file.write_text(CONTAINERS.replace("NAME", name))
        self.token_file = folder / "token"
        self.token_file.write_text("secret\n")
        self.settings = Settings(
            containers_file=self.file,
            server_address=address,
            cgroup_root=root,
            node_name="node-1",
            token_file=self.token_file,
        )

    @property
    def bandwidth(self) -> Bandwidth:
        return reopened(self.root, self.name)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[App]:
        app = App(self.settings, clock=self.clock, uniform=lambda: 0.5, nonce=7)
        async with asyncio.TaskGroup() as group:
            group.create_task(app.serve(self.stop))
            yield app
            self.stop.set()

    async def report_with(self, field: str) -> pb.NodeReport:
        """The next report that says something of this kind."""
        while True:
            report = await self.link.next_report()
            if field in {descriptor.name for descriptor, _ in report.ListFields()}:
                return report

    async def pass_seconds(self, seconds: int) -> None:
        """Lets time pass a second at a time, leaving gRPC its turns in between."""
        for _ in range(seconds):
            await self.clock.advance(1)
            await asyncio.sleep(0.001)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    root = tmp_path / "tree"
    make_v1(root)
    link = FakeLink()
    async with served(link, tmp_path) as address:
        yield Bench(root, tmp_path, address, link, "api")


@pytest.fixture
def real_cgroup() -> Iterator[str]:
    name = f"mbcas-test-{os.getpid()}"
    folders = [REAL_ROOT / controller / name for controller in ("cpu", "cpuacct")]
    if not (REAL_ROOT / "cpu" / "cpu.shares").exists() or not os.access(REAL_ROOT / "cpu", os.W_OK):
        pytest.skip("cgroup v1 with a writable cpu controller is needed")
    for folder in folders:
        folder.mkdir()
    try:
        yield name
    finally:
        for folder in folders:
            folder.rmdir()


@pytest.fixture
async def real_bench(tmp_path: Path, real_cgroup: str) -> AsyncIterator[Bench]:
    link = FakeLink()
    async with served(link, tmp_path) as address:
        yield Bench(REAL_ROOT, tmp_path, address, link, real_cgroup)


async def counted(app: App, name: str) -> None:
    """Waits until something was counted, which real gRPC brings about in its own time."""
    async with asyncio.timeout(HANG_SECONDS):
        while not app.counters.value(name):  # noqa: ASYNC110  # Counters tell nobody.
            await asyncio.sleep(0.001)


def orders(limit: int, **fields: object) -> pb.NodeDirective:
    order = pb.Order(
        order_id=1,
        pod_uid="local/api",
        container="api",
        desired=pb.CpuResources(limit_millicores=limit),
        **fields,  # type: ignore[arg-type]  # Fields of an order.
    )
    return pb.NodeDirective(orders=pb.Orders(orders=[order]))


async def test_the_first_report_says_everything(bench: Bench) -> None:
    async with bench.running():
        report = await bench.link.next_report()

    (facts,) = report.containers
    assert report.full_inventory
    assert report.sequence == 1
    assert (report.node_name, report.instance.nonce) == ("node-1", 7)
    assert report.node_facts.allocatable_millicores == 1600
    assert report.node_facts.enforcement == pb.ENFORCEMENT_CGROUP
    assert (facts.namespace, facts.pod, facts.container) == ("local", "api", "api")
    assert facts.admitted == facts.spec
    assert facts.admitted == pb.CpuResources(request_millicores=300, limit_millicores=300)
    assert facts.annotations["priority-class"] == "critical"
    assert np.frombuffer(report.samples.usage_usec, "<i8").tolist() == [5_000_000]
    assert bench.link.metadata[0]["authorization"] == "Bearer secret"


async def test_reports_are_numbered_and_carry_seconds_of_detail(bench: Bench) -> None:
    async with bench.running():
        await bench.link.next_report()
        await bench.pass_seconds(2)
        report = await bench.report_with("samples")

    assert report.sequence == 2
    assert not report.full_inventory
    assert list(report.samples.detail_seconds) == [2]
    assert len(report.samples.slice_millicores) == 2 * 10 * 2


async def test_an_order_is_answered_at_once_without_time_passing(bench: Bench) -> None:
    async with bench.running():
        await bench.link.next_report()
        await bench.link.say(orders(500))
        report = await bench.report_with("order_results")
        quota_usec = bench.bandwidth.quota_usec

    assert report.order_results[0].outcome == pb.OUTCOME_APPLIED
    assert report.order_results[0].actual.limit_millicores == 500
    assert report.containers[0].spec.limit_millicores == 500
    assert quota_usec == 50_000


async def test_an_orderly_stop_gives_back_what_was_admitted_and_takes_burst_away(
    bench: Bench,
) -> None:
    async with bench.running():
        await bench.link.next_report()
        await bench.link.say(orders(500, burst_usec=9000, restore_exactly=True))
        await bench.report_with("order_results")
        during = bench.bandwidth

    assert during == Bandwidth(50_000, 100_000, 9000)
    assert bench.bandwidth == Bandwidth(30_000, 100_000, 0)


async def test_a_burst_left_behind_is_gone_before_the_first_report(bench: Bench) -> None:
    (bench.root / "cpu" / "api" / "cpu.cfs_burst_us").write_text("9000")

    async with bench.running():
        report = await bench.link.next_report()

    assert np.frombuffer(report.samples.burst_usec, "<i8").tolist() == [0]


async def test_silence_of_the_server_brings_admitted_values_back_and_takes_burst_away(
    bench: Bench,
) -> None:
    async with bench.running():
        await bench.link.next_report()
        await bench.link.say(orders(100, burst_usec=9000))
        await bench.report_with("order_results")
        during = bench.bandwidth
        await bench.pass_seconds(305)
        after = bench.bandwidth

    assert during == Bandwidth(10_000, 100_000, 9000)
    assert after == Bandwidth(30_000, 100_000, 0)


async def test_after_the_silence_burst_credit_comes_back_by_order(bench: Bench) -> None:
    async with bench.running():
        await bench.link.next_report()
        await bench.pass_seconds(305)
        await bench.link.say(orders(300, burst_usec=9000))
        await bench.report_with("order_results")
        again = bench.bandwidth

    assert again == Bandwidth(30_000, 100_000, 9000)


async def test_a_superseded_shim_ends_and_leaves_all_to_its_successor(bench: Bench) -> None:
    async def live_until_superseded() -> None:
        async with bench.running():
            await bench.link.next_report()
            await bench.link.say(orders(100))
            await bench.report_with("order_results")
            await bench.link.end_stream("SUPERSEDED")
            await bench.stop.wait()

    with pytest.raises(ExceptionGroup) as caught:
        await live_until_superseded()

    assert caught.group_contains(SupersededError, match="a newer shim serves node node-1")
    assert bench.bandwidth.quota_usec == 10_000


async def test_a_stream_that_was_replaced_is_opened_again_with_everything(bench: Bench) -> None:
    async with bench.running() as app:
        await bench.link.next_report()
        await bench.pass_seconds(3)
        await bench.link.end_stream("RECONNECTED")
        await counted(app, "stream_ended")
        await bench.clock.advance(1)
        report = await bench.report_with("full_inventory")

    assert report.sequence == 1
    assert len(report.containers) == 1


async def test_a_server_that_says_nothing_is_left_and_tried_again(bench: Bench) -> None:
    bench.link.is_silent = True

    async with bench.running() as app:
        await bench.link.next_report()
        await bench.pass_seconds(10)
        await counted(app, "stream_ended")
        await bench.clock.advance(1)
        report = await bench.report_with("full_inventory")

    assert report.sequence == 1


async def test_a_server_of_an_older_epoch_is_not_obeyed(bench: Bench) -> None:
    bench.link.server_epoch = 5

    async with bench.running() as app:
        await bench.link.next_report()
        old = orders(100)
        old.server_epoch = 4
        await bench.link.say(old)
        await counted(app, "directive_of_an_old_server")
        await settle()
        quota_usec = bench.bandwidth.quota_usec

    assert quota_usec == 30_000


async def test_an_inventory_that_is_asked_for_is_sent(bench: Bench) -> None:
    async with bench.running():
        await bench.link.next_report()
        await bench.link.say(pb.NodeDirective(heartbeat=pb.Heartbeat(inventory_requested=True)))
        report = await bench.report_with("full_inventory")

    assert report.sequence == 2


async def test_settings_out_of_range_are_counted_and_the_rest_taken(bench: Bench) -> None:
    settings = pb.Settings(hot_interval=Duration(seconds=-1), failsafe_after=Duration(seconds=20))

    async with bench.running() as app:
        await bench.link.next_report()
        await bench.link.say(orders(100))
        await bench.report_with("order_results")
        await bench.link.say(pb.NodeDirective(settings=settings))
        await counted(app, "setting_out_of_range")
        await bench.pass_seconds(25)
        quota_usec = bench.bandwidth.quota_usec

    assert quota_usec == 30_000


async def test_a_container_that_appears_is_reported_within_the_second(bench: Bench) -> None:
    async with bench.running():
        await bench.link.next_report()
        bench.file.write_text(
            bench.file.read_text() + "- {name: new, cgroup: new, request: 1m, limit: 10m}\n"
        )
        make_v1(bench.root, "new")
        await bench.pass_seconds(1)
        report = await bench.report_with("containers")

    assert [facts.container for facts in report.containers] == ["new"]


async def test_a_container_taken_out_of_the_file_is_given_back_and_removed(bench: Bench) -> None:
    async with bench.running():
        await bench.link.next_report()
        await bench.link.say(orders(100))
        await bench.report_with("order_results")
        bench.file.write_text("containers: []\n")
        await bench.pass_seconds(1)
        report = await bench.report_with("removed_handles")
        quota_usec = bench.bandwidth.quota_usec

    assert list(report.removed_handles) == [1]
    assert quota_usec == 30_000


async def test_on_the_real_kernel_quota_and_burst_go_down_and_up_and_back(
    real_bench: Bench,
) -> None:
    seen: list[Bandwidth] = []

    async with real_bench.running():
        await real_bench.link.next_report()
        for limit, burst_usec in ((800, 80_000), (200, 20_000), (900, 90_000), (100, 0)):
            await real_bench.link.say(orders(limit, burst_usec=burst_usec, restore_exactly=True))
            report = await real_bench.report_with("order_results")
            assert report.order_results[0].outcome == pb.OUTCOME_APPLIED, report.order_results
            seen.append(real_bench.bandwidth)

    assert seen == [
        Bandwidth(80_000, 100_000, 80_000),
        Bandwidth(20_000, 100_000, 20_000),
        Bandwidth(90_000, 100_000, 90_000),
        Bandwidth(10_000, 100_000, 0),
    ]
    assert real_bench.bandwidth == Bandwidth(30_000, 100_000, 0)


async def test_on_the_real_kernel_a_removed_cgroup_is_gone_within_a_second(
    real_bench: Bench,
) -> None:
    folders = [REAL_ROOT / controller / real_bench.name for controller in ("cpu", "cpuacct")]

    async with real_bench.running():
        await real_bench.link.next_report()
        for folder in folders:
            folder.rmdir()
        await real_bench.pass_seconds(1)
        gone = await real_bench.report_with("removed_handles")
        for folder in folders:
            folder.mkdir()
        await real_bench.pass_seconds(1)
        back = await real_bench.report_with("containers")

    assert list(gone.removed_handles) == [1]
    assert back.containers[0].handle == 2
