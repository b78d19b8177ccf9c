"""The core in virtual time, for the nodes of several worlds at once.

A round costs little more for four hundred nodes than for ten, so worlds are simulated side by side:
each is a cluster of its own, with its resize budget, its namespace and its images, and fares as it
would alone.
"""

from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import Protocol

import numpy as np

from mbcas_core import learned
from mbcas_core.effects import Effect, PodNotice
from mbcas_core.events import Event, Samples, SamplesArrived, TickDue
from mbcas_core.rounds import Rounds
from mbcas_loadtest.errors import SimulationError
from mbcas_loadtest.simulation.mbcas import CoreSystem

START_SECONDS = 1000.0
"""The server's clock at the start of the worlds."""
TICK_SECONDS = 0.1
"""After the second that was reported."""


class Client(Protocol):
    """The shims of one world."""

    def take(self, effect: Effect) -> None:
        """Takes what the core wants done on one of its nodes."""
        ...


class Server:
    """One core and its clock."""

    def __init__(
        self, system: CoreSystem, *, rate_per_second: float, audit_share: float, is_shared: bool
    ) -> None:
        """Starts without nodes.

        Args:
            system: The core's parameters, and who shares.
            rate_per_second: The resize budget of each world.
            audit_share: Of the core's rounds.
            is_shared: Several worlds may join: it does not restart.
        """
        self._rate_per_second, self._is_shared = rate_per_second, is_shared
        self._system = replace(
            system,
            parameters=replace(
                system.parameters,
                audit_share=audit_share,
                resize_budget_per_second=rate_per_second,
            ),
        )
        self.nodes: dict[str, tuple[str, ...]] = {}
        """The names of each world's nodes, in their order."""
        self._cluster_of: dict[str, int] = {}
        self._clients: list[Client] = []
        self._by_namespace: dict[str, Client] = {}
        self._sampled: dict[tuple[float, float], list[SamplesArrived]] = {}
        self.is_down = False
        self.rounds = self._begin()

    @property
    def burst_credit(self) -> bool:
        return self._system.parameters.burst_credit

    def serves(self, rate_per_second: float) -> bool:
        """True where a world with this resize budget may join."""
        return self._is_shared and rate_per_second == self._rate_per_second

    def join(self, client: Client, nodes: tuple[str, ...], namespace: str) -> None:
        """Makes room for the nodes of a world.

        Raises:
            SimulationError: There are such nodes already.
        """
        if namespace in self._by_namespace or self._cluster_of.keys() & set(nodes):
            raise SimulationError(f"{namespace}: there is such a world already; give it a name")
        self.nodes[namespace] = nodes
        self._cluster_of |= dict.fromkeys(nodes, len(self._clients))
        self._clients.append(client)
        self._by_namespace[namespace] = client

    def handle(self, event: Event) -> None:
        """Tells the core, and its clients what it answers."""
        for effect in self.rounds.handle(event):
            if isinstance(effect, PodNotice):
                self._by_namespace[effect.namespace].take(effect)
            else:
                self._clients[self._cluster_of[effect.node]].take(effect)

    def sample(self, event: SamplesArrived) -> None:
        """Tells the core at the next tick: what worlds measured at one time is one event."""
        key = (event.time_seconds, event.samples.node_time_seconds)
        self._sampled.setdefault(key, []).append(event)

    def tick(self, seconds: float) -> None:
        """Lets the core decide."""
        sampled, self._sampled = self._sampled, {}
        for events in sampled.values():
            self.handle(_join(events))
        if not self.is_down:
            self.handle(TickDue(time_seconds=START_SECONDS + seconds + TICK_SECONDS))

    def restart(self, checkpoint: learned.Arrays | None) -> None:
        """Begins anew with what a checkpoint says."""
        assert not self._is_shared, "a world that loses its server has one of its own"
        self.is_down = False
        self.rounds = self._begin()
        if checkpoint is not None:
            learned.restore(self.rounds, checkpoint)

    def count(self, client: Client) -> Counter[str]:
        """Returns what the core counted; all of it is told to the first of its clients."""
        if client is not self._clients[0]:
            return Counter()
        return Counter({f"core-{name}": count for name, count in self.rounds.counters.items()})

    def _begin(self) -> Rounds:
        return Rounds(
            self._system.parameters,
            share=self._system.share,
            cluster_of=self._cluster_of.__getitem__,
        )


def _join(events: list[SamplesArrived]) -> SamplesArrived:
    """Returns the samples of different nodes as one event."""
    if len(events) == 1:
        return events[0]
    starts = np.cumsum([0, *(len(event.nodes) for event in events[:-1])])
    samples = [event.samples for event in events]
    return SamplesArrived(
        nodes=tuple(chain.from_iterable(event.nodes for event in events)),
        node=np.concatenate([e.node + start for e, start in zip(events, starts, strict=True)]),
        time_seconds=events[0].time_seconds,
        samples=Samples(
            node_time_seconds=samples[0].node_time_seconds,
            handles=np.concatenate([each.handles for each in samples]),
            counters=np.concatenate([each.counters for each in samples], axis=1),
            detail_seconds=np.concatenate([each.detail_seconds for each in samples]),
            slice_millicores=np.concatenate([each.slice_millicores for each in samples]),
            second_throttled=np.concatenate([each.second_throttled for each in samples]),
        ),
    )
