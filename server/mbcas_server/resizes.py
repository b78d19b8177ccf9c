"""Which orders are on their way, to count how each one ends and why it was given."""

from mbcas_core.effects import Order, Reason
from mbcas_core.events import OrderResult
from mbcas_server.metrics import Metrics

IN_FLIGHT_MAX = 200_000  # 100 orders a second, each answered or given up long before this many.


class Resizes:
    """Counts `mbcas_resizes_total`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._reasons: dict[int, Reason] = {}

    def sent(self, orders: tuple[Order, ...]) -> None:
        for order in orders:
            self._reasons[order.order_id] = order.reason
        while len(self._reasons) > IN_FLIGHT_MAX:
            del self._reasons[next(iter(self._reasons))]

    def ended(self, results: tuple[OrderResult, ...]) -> None:
        for result in results:
            reason = self._reasons.pop(result.order_id, None)
            self._metrics.resizes.labels(
                result=result.outcome.name.lower(),
                reason="unknown" if reason is None else reason.name.lower(),
            ).inc()
