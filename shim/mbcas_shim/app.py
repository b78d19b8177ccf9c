"""Wires the shim together and runs it until it is told to stop."""

import asyncio
import gc
import logging
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.cgroup_tree import open_tree
from mbcas_shim.clock import Clock
from mbcas_shim.counters import Counters
from mbcas_shim.directives import Directives
from mbcas_shim.errors import SupersededError
from mbcas_shim.failsafe import Failsafe
from mbcas_shim.inventory import Inventory, InventoryChange
from mbcas_shim.nodes import Parts, kubernetes_node, local_node
from mbcas_shim.order_queue import OrderQueue
from mbcas_shim.sampling import SLICE_SECONDS, SLICES_PER_SECOND, Sampler, SecondRecorder
from mbcas_shim.settings import Settings
from mbcas_shim.uplink import Connection, Uplink

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FILES_WANTED = 65_536  # Five of each container, a thousand containers, and room.

_log = logging.getLogger(__name__)


class App:
    """One shim: all parts, and the order in which they start and stop."""

    def __init__(
        self, settings: Settings, *, clock: Clock, uniform: Callable[[], float], nonce: int
    ) -> None:
        self._clock = clock
        self.counters = Counters(clock)
        boot_id = _BOOT_ID.read_text().strip()
        tree = open_tree(settings.cgroup_root)
        self._inventory = Inventory(tree, self.counters, boot_id=boot_id)
        self._sampler = Sampler(self.counters)
        make_node = kubernetes_node if settings.kubernetes else local_node
        node = make_node(
            Parts(
                settings=settings,
                clock=clock,
                uniform=uniform,
                tree=tree,
                inventory=self._inventory,
                sampler=self._sampler,
                counters=self.counters,
            )
        )
        self._source, self._outbox, self._enforcer = node.source, node.outbox, node.enforcer
        self._tasks = node.tasks
        self._node_facts = pb.NodeFacts()
        self._failsafe = Failsafe(
            clock=clock,
            enforcer=self._enforcer,
            counters=self.counters,
            uniform=uniform,
            after_seconds=settings.failsafe_after_seconds,
        )
        self._failsafe.spread_max_seconds = node.failsafe_spread_max_seconds
        self._orders = OrderQueue(
            clock=clock,
            enforcer=self._enforcer,
            outbox=self._outbox,
            counters=self.counters,
            at_once=node.orders_at_once,
        )
        directives = Directives(
            sampler=self._sampler,
            outbox=self._outbox,
            orders=self._orders,
            failsafe=self._failsafe,
            counters=self.counters,
        )
        self._uplink = Uplink(
            Connection(
                server_address=settings.server_address,
                node_name=settings.node_name,
                token_file=settings.token_file,
                server_ca=settings.server_ca,
                server_name=settings.server_name,
                instance=pb.ShimInstance(
                    boot_id=boot_id,
                    start_monotonic_usec=round(clock.now_seconds() * 1e6),
                    nonce=nonce,
                ),
            ),
            clock=clock,
            uniform=uniform,
            outbox=self._outbox,
            directives=directives,
        )

    async def run(self) -> None:
        """Runs until SIGTERM or SIGINT, then leaves as its enforcer has it.

        Raises:
            SupersededError: A newer shim has this node; nothing was given back, it is in charge.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        _raise_file_limit()
        await self.serve(stop)

    async def serve(self, stop: asyncio.Event) -> None:
        """Does what `run` does, without touching the process."""
        superseded: SupersededError | None = None
        try:
            await self._run_tasks(stop)
        except* SupersededError as group:
            superseded = next(iter(_leaves(group)))
        finally:
            if superseded is None:
                await self._give_back()
            _log.info("stopped %s", self.counters.summary())
        if superseded is not None:
            raise superseded

    async def _run_tasks(self, stop: asyncio.Event) -> None:
        self._declare()
        self._look_at_containers()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._sample(), name="sampling"),
                group.create_task(self._orders.run(), name="orders"),
                group.create_task(self._failsafe.run(), name="failsafe"),
                group.create_task(self._connect(), name="uplink"),
                *(group.create_task(run(), name=name) for name, run in self._tasks),
            ]
            # What was imported and wired lives for ever: the collector need not walk it again.
            gc.collect()
            gc.freeze()
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _give_back(self) -> None:
        failed = await self._enforcer.leave()
        _log.info("left in order failed=%d", failed)

    async def _connect(self) -> None:
        """Speaks to the server once there is something to say: no row is no news."""
        await self._source.wait()
        self._look_at_containers()
        await self._uplink.run()

    async def _sample(self) -> None:
        start_seconds = self._clock.now_seconds()
        while True:
            recorder = self._sampler.open_second()
            await self._read_slices(recorder, start_seconds)
            await self._clock.sleep_until(start_seconds + 1.0)
            now = self._clock.now_seconds()
            late_slices = int((now - start_seconds - 1.0) / SLICE_SECONDS)
            recorder.missed_slices += late_slices
            self._outbox.add_samples(self._sampler.close_second(recorder, now))
            self._look_at_containers()
            self._outbox.flush()
            # After a long stall the lost seconds are not made up for.
            start_seconds = now if late_slices else start_seconds + 1.0

    async def _read_slices(self, recorder: SecondRecorder, start_seconds: float) -> None:
        """Reads the ends of all slices but the last, whose end is the second's."""
        if not recorder.tracks:
            return  # All are calm: the process sleeps for a whole second.
        for index in range(1, SLICES_PER_SECOND):
            deadline_seconds = start_seconds + index * SLICE_SECONDS
            await self._clock.sleep_until(deadline_seconds)
            now = self._clock.now_seconds()
            missed = int((now - deadline_seconds) / SLICE_SECONDS)
            if missed:
                recorder.missed_slices += missed
                return
            recorder.read(now)

    def _look_at_containers(self) -> None:
        """Takes over what the source has to say, and what has become of the cgroups."""
        is_declared_anew = self._source.refresh()
        if is_declared_anew:
            self._declare()
        change = self._inventory.refresh()
        self._take_over(change)
        if is_declared_anew or change.appeared or change.gone_handles:
            facts = self._source.node_facts(self._inventory.rows)
            if facts != self._node_facts:
                self._node_facts = facts
                self._outbox.add_node_facts()

    def _declare(self) -> None:
        self._take_over(self._inventory.declare(self._source.declared))

    def _take_over(self, change: InventoryChange) -> None:
        now = self._clock.now_seconds()
        for handle in change.gone_handles:
            self._sampler.stop(handle)
            self._outbox.add_removal(handle)
        for row in change.fell_asleep:
            self._sampler.stop(row.handle)
        for row in change.undeclared:
            self._enforcer.release(row)
            row.cgroup.close()
        for row in change.appeared:
            self._enforcer.admit(row)
            self._sampler.start(row, now)
            self._outbox.add_facts(row)
        for row in change.redeclared:
            self._outbox.add_facts(row)


def _raise_file_limit() -> None:
    """Allows as many open files as root let us have: each container keeps up to five open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, _FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leaves(group: BaseExceptionGroup[SupersededError]) -> list[SupersededError]:
    leaves: list[SupersededError] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
