import statistics
from dataclasses import dataclass, field

import numpy as np
import pytest

from mbcas_loadtest.rivals.captain import CAPTAIN_API, Captain, CaptainApi
from mbcas_loadtest.simulation.run import RunSettings, simulate
from mbcas_loadtest.simulation.world import World
from tests.mbcas_loadtest.rivals.little_worlds import declare, see


@dataclass
class OneCaptain:
    """One container, in plain Python: `call` is what the original does every 100 ms, in cores."""

    target: float
    limit: float
    most: float
    margin: float = 3.0
    before: float = 0.0
    is_cut: bool = False
    usage: list[float] = field(default_factory=lambda: [0.0] * 50)
    throttled: list[int] = field(default_factory=list)
    calls: int = 0

    def call(self, usage: float, throttled: int) -> float:
        self.usage = [*self.usage[1:], usage]
        self.throttled.append(throttled)
        self.calls += 1
        ratio = sum(self.throttled) / 10
        if self.is_cut and ratio > 3 * self.target:
            self.limit = self.bounded(2 * self.before - self.limit)
            self.margin += ratio - self.target
            self.throttled, self.is_cut = [], False
        if self.calls % 10 == 0:
            self.second()
        return self.limit

    def second(self) -> None:
        ratio = sum(self.throttled) / 10
        self.before, self.is_cut, self.throttled = self.limit, False, []
        self.margin = max(0.0, self.margin + ratio - self.target)
        if ratio > 3 * self.target:
            self.limit *= 1 + ratio - 3 * self.target
        else:
            proposal = max(self.usage) + statistics.stdev(self.usage) * self.margin
            if proposal <= 0.9 * self.limit:
                self.limit, self.is_cut = max(0.5 * self.limit, proposal), True
        self.limit = self.bounded(self.limit)

    def bounded(self, limit: float) -> float:
        return min(max(limit, 0.01), self.most)


def live_a_second(
    captain: Captain, second: int, usage_millicores: float, throttled: int
) -> list[float]:
    """Returns one container's limit after each period, the first of which are throttled."""
    limits = []
    for index in range(10):
        seen = see(
            10 * second + index + 1,
            np.full((1, 1, 1), usage_millicores),
            np.full((1, 1, 1), index < throttled),
            captain.limit_millicores,
        )
        captain.step(seen)
        limits.append(captain.limit_millicores.item())
    return limits


def test_a_cut_halves_at_most_and_is_repaid_in_the_period_that_shows_it_was_wrong() -> None:
    captain = Captain(declare([1000]), 0.1)

    # 40 periods of 0 and ten of 200m: deviation 80.8m, margin 2.9, proposal 434m, half is 500m.
    assert live_a_second(captain, 0, 200.0, throttled=0)[8:] == [1000.0, 500.0]
    assert captain.margin.item() == pytest.approx(2.9)
    # The fourth throttled period is more than three times the target.
    assert live_a_second(captain, 1, 500.0, throttled=4)[2:4] == [500.0, 1500.0]
    # 2.9 + 0.4 - 0.1, then a second of which nothing counts any more: - 0.1.
    assert captain.margin.item() == pytest.approx(3.1)


def test_without_a_cut_before_it_throttling_raises_the_limit_in_proportion() -> None:
    captain = Captain(declare([1000]), 0.1)

    limits = live_a_second(captain, 0, 1000.0, throttled=7)

    # 1 + 0.7 - 0.3.
    assert limits[8:] == [1000.0, pytest.approx(1400.0)]
    assert captain.margin.item() == pytest.approx(3.6)


def test_the_target_zero_takes_any_throttling_for_too_much() -> None:
    captain = Captain(declare([1000]), 0.0)

    assert live_a_second(captain, 0, 1000.0, throttled=1)[-1] == pytest.approx(1100.0)


def test_no_limit_falls_below_ten_millicores_or_rises_above_the_node() -> None:
    idle, busy = Captain(declare([100]), 0.1), Captain(declare([1500], cpus=2), 0.1)

    for second in range(12):
        live_a_second(idle, second, 0.0, throttled=0)
        live_a_second(busy, second, 1500.0, throttled=10)

    assert idle.limit_millicores.item() == 10.0
    assert busy.limit_millicores.item() == 2000.0


def ask(captain: CaptainApi, second: int, limit: float, throttled: int) -> float:
    """Returns what it wants after a second at 200m under a limit that was in force at its end."""
    own = np.zeros((10, 1, 1), np.bool_)
    own[:throttled] = True
    seen = see(10 * second, np.full((10, 1, 1), 200.0), own, np.array([[limit]]))
    wanted = captain.step(seen)
    assert wanted is not None
    return wanted.limit_millicores.item()


def test_through_the_api_a_cut_is_undone_after_it_came_into_force() -> None:
    captain = CaptainApi(declare([1000]), 0.1)

    assert ask(captain, 1, 1000.0, throttled=0) == 500.0
    # Not in force yet, so there is nothing to undo: 200 + (2.9 + 0.2) x 99.0, in whole millicores.
    assert ask(captain, 2, 1000.0, throttled=3) == 507.0
    assert ask(captain, 3, 500.0, throttled=4) == 1500.0


@pytest.mark.parametrize(("steps", "wanted"), [(1, 1500.0), (2, 500.0 * 1.2)])
def test_through_the_api_a_cut_may_be_undone_for_two_steps(steps: int, wanted: float) -> None:
    captain = CaptainApi(declare([1000]), 0.1)
    ask(captain, 1, 1000.0, throttled=0)
    for second in range(2, 2 + steps):
        ask(captain, second, 500.0, throttled=2)

    # 1 + 0.5 - 0.3 where it is too late.
    assert ask(captain, 2 + steps, 500.0, throttled=5) == pytest.approx(wanted)


def cut_wrongly() -> CaptainApi:
    """Returns one that wants a cut from 1000m to 500m undone, after its third second."""
    captain = CaptainApi(declare([1000]), 0.1)
    ask(captain, 1, 1000.0, throttled=0)
    ask(captain, 2, 500.0, throttled=0)
    assert ask(captain, 3, 500.0, throttled=4) == 1500.0
    return captain


def test_through_the_api_undoing_a_cut_stays_wanted_for_five_seconds() -> None:
    captain = cut_wrongly()

    wanted = [ask(captain, second, 500.0, throttled=0) for second in range(4, 9)]

    assert wanted[:4] == [1500.0] * 4
    assert wanted[4] <= 500.0


def test_through_the_api_an_undone_cut_may_be_tried_again_once_that_is_in_force() -> None:
    captain = cut_wrongly()
    ask(captain, 4, 500.0, throttled=0)

    assert ask(captain, 5, 1500.0, throttled=0) == 750.0


def test_who_comes_into_a_place_has_nothing_to_undo() -> None:
    captain = cut_wrongly()
    gone = see(
        40,
        np.zeros((10, 1, 1)),
        np.zeros((10, 1, 1), np.bool_),
        np.array([[500.0]]),
        exists=np.zeros((1, 1), np.bool_),
    )
    captain.step(gone)

    # 1000m of someone who used 200m in the second of which anything is known.
    assert ask(captain, 5, 1000.0, throttled=0) == 500.0


def test_on_its_way_through_the_api_a_cut_that_proves_wrong_is_undone() -> None:
    work = np.full((200, 1, 1), 20_000.0)
    work[20:40] = 70_000.0
    shape = (1, 1)
    world = World(
        scenario="a burst on a cut",
        seeds=(0,),
        declared=declare([1000]),
        arrivals_usec=work.astype(np.float32),
        threads=np.full(shape, 4.0),
        max_backlog_usec=np.full(shape, np.inf),
        request_usec=np.full(shape, 5_000.0),
        exists=np.ones((20, 1), np.bool_),
        warmup_seconds=0,
    )

    done = simulate(world, CAPTAIN_API, 0.1, settings=RunSettings(series_node=0))

    assert done.series is not None
    limits = done.series.limit_millicores[:, 0].tolist()
    assert 500.0 in limits
    assert 1500.0 in limits[limits.index(500.0) :]


def test_who_comes_into_a_place_starts_from_what_was_declared() -> None:
    captain = Captain(declare([1000]), 0.1)
    live_a_second(captain, 0, 200.0, throttled=0)
    gone = see(
        11,
        np.zeros((1, 1, 1)),
        np.zeros((1, 1, 1), np.bool_),
        captain.limit_millicores,
        exists=np.zeros((1, 1), np.bool_),
    )

    captain.step(gone)

    assert captain.limit_millicores.item() == 1000.0
    assert captain.margin.item() == 3.0


@pytest.mark.parametrize("target", [0.0, 0.06, 0.1, 0.3])
def test_captains_of_many_containers_do_what_one_does_in_plain_python(target: float) -> None:
    generator = np.random.default_rng(3)
    declared = declare([1000, 200, 50, 2000], nodes=2)
    shape = declared.limit_millicores.shape
    captain = Captain(declared, target)
    twins = [
        [OneCaptain(target, limit / 1000, 4.0) for limit in row] for row in captain.limit_millicores
    ]
    level = np.repeat(generator.choice([20.0, 300.0, 900.0], (9, *shape)), 50, axis=0)
    demand = level * generator.gamma(6.0, 1 / 6.0, level.shape)
    rollbacks = 0

    for period in range(demand.shape[0]):
        limit = captain.limit_millicores
        usage = np.minimum(demand[period], limit)
        throttled = demand[period] > limit
        captain.step(see(period + 1, usage[np.newaxis], throttled[np.newaxis], limit))
        for (i, j), before in np.ndenumerate(limit):
            after = twins[i][j].call(usage[i, j] / 1000, int(throttled[i, j]))
            assert captain.limit_millicores[i, j] == pytest.approx(after * 1000, rel=1e-9)
            assert captain.margin[i, j] == pytest.approx(twins[i][j].margin, rel=1e-9, abs=1e-9)
            rollbacks += bool((period + 1) % 10 and after * 1000 > before * 1.001)

    assert rollbacks > 3
