"""What the shell needs of the core, in one place, so that tests can put a small one there."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mbcas_core import explain, learned
from mbcas_core.effects import Effect
from mbcas_core.events import Event
from mbcas_core.market.allocate import LiveMarket
from mbcas_core.rounds import Rounds
from mbcas_core.views import DecisionView, MarketView


class Core(Protocol):
    """The state machine and what it shows; see `mbcas_core.rounds` and `mbcas_core.explain`."""

    @property
    def counters(self) -> Mapping[str, int]: ...

    @property
    def tick_count(self) -> int: ...

    def handle(self, event: Event) -> list[Effect]: ...

    def node_names(self) -> list[str]: ...

    def changed_nodes(self, since_tick: int) -> list[str]: ...

    def market_view(self, node: str, *, include_containers: bool) -> MarketView: ...

    def explain_pod(self, namespace: str, name: str) -> list[DecisionView]: ...

    def live_markets(self) -> dict[str, LiveMarket]: ...

    def release_progress(self, namespace: str, pod: str) -> tuple[int, int]: ...

    def learned(self) -> Mapping[str, NDArray[np.generic]]: ...

    def restore_learned(self, arrays: Mapping[str, NDArray[np.generic]]) -> int: ...


class RoundsCore:
    """The real one."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds

    @property
    def counters(self) -> Mapping[str, int]:
        return self._rounds.counters

    @property
    def tick_count(self) -> int:
        return self._rounds.tick_count

    def handle(self, event: Event) -> list[Effect]:
        return self._rounds.handle(event)

    def node_names(self) -> list[str]:
        return explain.node_names(self._rounds)

    def changed_nodes(self, since_tick: int) -> list[str]:
        return explain.changed_nodes(self._rounds, since_tick)

    def market_view(self, node: str, *, include_containers: bool) -> MarketView:
        return explain.market_view(self._rounds, node, include_containers=include_containers)

    def explain_pod(self, namespace: str, name: str) -> list[DecisionView]:
        return explain.explain_pod(self._rounds, namespace, name)

    def live_markets(self) -> dict[str, LiveMarket]:
        return explain.live_markets(self._rounds)

    def release_progress(self, namespace: str, pod: str) -> tuple[int, int]:
        return explain.release_progress(self._rounds, namespace, pod)

    def learned(self) -> Mapping[str, NDArray[np.generic]]:
        return learned.export(self._rounds)

    def restore_learned(self, arrays: Mapping[str, NDArray[np.generic]]) -> int:
        return learned.restore(self._rounds, arrays)
