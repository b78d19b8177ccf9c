import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from mbcas_shim.counters import Counters
from mbcas_shim.failsafe import RETRY_SECONDS, Failsafe
from tests.mbcas_shim.fakes import VirtualClock
from tests.mbcas_shim.test_order_queue import SlowEnforcer


class CountingEnforcer(SlowEnforcer):
    def __init__(self) -> None:
        super().__init__()
        self.restored = 0
        self.failing = 0
        self.needed: list[bool] = []
        self.bursts_zeroed = 0

    async def restore(self, is_needed: Callable[[], bool]) -> int:
        self.restored += 1
        self.needed.append(is_needed())
        return self.failing

    async def zero_bursts(self) -> int:
        self.bursts_zeroed += 1
        return 0


class Bench:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.counters = Counters(self.clock)
        self.enforcer = CountingEnforcer()
        self.failsafe = Failsafe(
            clock=self.clock,
            enforcer=self.enforcer,
            counters=self.counters,
            uniform=lambda: 0.5,
            after_seconds=300,
        )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    built = Bench()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(built.failsafe.run())
        yield built
        task.cancel()


async def test_rows_come_back_after_the_silence_and_not_before(bench: Bench) -> None:
    await bench.clock.advance(299)
    before = bench.enforcer.restored
    await bench.clock.advance(1)

    assert before == 0
    assert bench.enforcer.restored == 1
    assert bench.failsafe.is_active


async def test_burst_credit_goes_with_the_silence_and_not_before(bench: Bench) -> None:
    await bench.clock.advance(299)
    before = bench.enforcer.bursts_zeroed
    await bench.clock.advance(1)

    assert before == 0
    assert bench.enforcer.bursts_zeroed == 1


async def test_a_word_from_the_server_puts_it_off(bench: Bench) -> None:
    for _ in range(100):
        await bench.clock.advance(5)
        bench.failsafe.heard()

    assert bench.enforcer.restored == 0


async def test_a_word_from_the_server_ends_it_and_a_new_silence_begins_it_anew(
    bench: Bench,
) -> None:
    await bench.clock.advance(300)
    bench.failsafe.heard()
    is_left = not bench.failsafe.is_active
    await bench.clock.advance(299)
    restored = bench.enforcer.restored
    await bench.clock.advance(2)

    assert is_left
    assert restored == 1
    assert bench.enforcer.restored == 2
    assert bench.counters.value("failsafe_entered") == 2


async def test_the_random_wait_is_bounded_by_what_the_place_allows(bench: Bench) -> None:
    bench.failsafe.spread_seconds = 100

    await bench.clock.advance(300)

    assert bench.enforcer.restored == 1


async def test_the_random_wait_spreads_the_writes_where_that_is_allowed(bench: Bench) -> None:
    bench.failsafe.spread_seconds = 100
    bench.failsafe.spread_max_seconds = 40
    await bench.clock.advance(319)
    before = bench.enforcer.restored
    await bench.clock.advance(2)

    assert before == 0
    assert bench.enforcer.restored == 1


async def test_a_word_during_the_random_wait_calls_it_off(bench: Bench) -> None:
    bench.failsafe.spread_seconds = bench.failsafe.spread_max_seconds = 100
    await bench.clock.advance(310)
    bench.failsafe.heard()
    await bench.clock.advance(200)

    assert bench.enforcer.restored == 0


async def test_a_shorter_time_set_later_counts_at_once(bench: Bench) -> None:
    await bench.clock.advance(50)
    bench.failsafe.after_seconds = 20
    await bench.clock.advance(1)

    assert bench.enforcer.restored == 1


async def test_while_the_silence_lasts_it_is_tried_again(bench: Bench) -> None:
    await bench.clock.advance(300 + RETRY_SECONDS + 1)

    assert bench.enforcer.restored == 2
    assert bench.counters.value("failsafe_entered") == 1


async def test_what_could_not_be_given_back_is_tried_again_ever_more_seldom(bench: Bench) -> None:
    bench.enforcer.failing = 1
    moments: list[float] = []
    start = bench.clock.now_seconds() + 300
    for _ in range(300 + 400):
        tried = bench.enforcer.restored
        await bench.clock.advance(1)
        if bench.enforcer.restored > tried:
            moments.append(bench.clock.now_seconds() - start)

    waits = [after - before for before, after in itertools.pairwise(moments)]
    assert waits[:4] == [4, 8, 15, 30]
    assert set(waits[4:]) == {45}
    assert all(bench.enforcer.needed)
