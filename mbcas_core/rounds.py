"""The state machine: `handle(event) -> effects`."""

from dataclasses import dataclass

from mbcas_core.effects import Effect
from mbcas_core.events import Event
from mbcas_core.market.allocate import AllocateAnswer, Bid
from mbcas_core.parameters import Parameters
from mbcas_core.views import DecisionView, MarketView


class Rounds:
    """Every node, pod and container this server knows, and what is decided about them."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    def handle(self, event: Event) -> list[Effect]:
        """Applies one event and returns what the caller must now do, in order."""
        raise AssertionError
