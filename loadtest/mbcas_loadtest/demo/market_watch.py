"""Asks the server for the node's market while the demo runs: prices, needs, reasons."""

import threading
from collections.abc import Callable

import grpc

from mbcas.v1 import market_pb2, market_pb2_grpc
from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.demo.daemons import NODE_NAME

POLL_SECONDS = 0.25
CALL_SECONDS = 2.0

_NO_DECISION = {market_pb2.REASON_UNSPECIFIED, market_pb2.REASON_OBSERVING, market_pb2.REASON_STALE}


class MarketWatch:
    """A thread that keeps the newest picture of the market and the time of each first target."""

    def __init__(self, address: str, clock: Callable[[], float] = monotonic_seconds) -> None:
        self.latest: market_pb2.NodeMarket | None = None
        self.first_target_seconds: dict[str, float] = {}
        """By container: when its first target with a reason was seen."""
        self.failed_call_count = 0
        self._address = address
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="market-watch", daemon=True)

    def start(self) -> None:
        """Starts to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread. May be called again."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def container(self, name: str) -> market_pb2.ContainerMarket | None:
        """Returns the newest picture of one container."""
        market = self.latest
        rows = market.containers if market is not None else ()
        return next((row for row in rows if row.container == name), None)

    def take_in(self, market: market_pb2.NodeMarket) -> None:
        """Remembers a picture of the market."""
        self.latest = market
        now_seconds = self._clock()
        for row in market.containers:
            has_target = row.ceiling.HasField("target_millicores") or row.reservation.HasField(
                "target_millicores"
            )
            if has_target and row.reason not in _NO_DECISION:
                self.first_target_seconds.setdefault(row.container, now_seconds)

    def _run(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            market = market_pb2_grpc.MarketStub(channel)
            while not self._stop.wait(POLL_SECONDS):
                try:
                    request = market_pb2.GetMarketRequest(node=NODE_NAME)
                    self.take_in(market.GetMarket(request, timeout=CALL_SECONDS))
                except grpc.RpcError:
                    self.failed_call_count += 1  # Before the node is known, and as it goes.


def reason_text(reason: market_pb2.Reason.ValueType) -> str:
    """Writes a reason for people: "within band"."""
    name = market_pb2.Reason.Name(reason)
    return name.removeprefix("REASON_").lower().replace("_", " ")
