"""What the server says, checked and handed to whom it concerns."""

import logging
import math

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.counters import Counters
from mbcas_shim.failsafe import Failsafe
from mbcas_shim.order_queue import OrderQueue
from mbcas_shim.outbox import Outbox
from mbcas_shim.sampling import MAX_DETAIL_SECONDS, Cadence, Sampler

_log = logging.getLogger(__name__)

_INTERVAL_SECONDS = (0.5, float(MAX_DETAIL_SECONDS))
_CALM_AFTER_SECONDS = (0.0, 3600.0)
_FAILSAFE_AFTER_SECONDS = (1.0, 86_400.0)
_FAILSAFE_SPREAD_SECONDS = (0.0, 3600.0)


class Directives:
    """Takes directives in, from whichever stream they come."""

    def __init__(
        self,
        *,
        sampler: Sampler,
        outbox: Outbox,
        orders: OrderQueue,
        failsafe: Failsafe,
        counters: Counters,
    ) -> None:
        self._sampler = sampler
        self._outbox = outbox
        self._orders = orders
        self._failsafe = failsafe
        self._counters = counters
        self._server_epoch = 0

    async def begin_stream(self) -> None:
        """Prepares for a stream's first report.

        Orders of the last stream are void; the one being written is awaited, so that the inventory
        tells what it did.
        """
        await self._orders.void()
        self._outbox.begin_stream()

    def stream_ended(self, words: str) -> None:
        self._counters.count("stream_ended", words)

    def take_in(self, directive: pb.NodeDirective) -> bool:
        """Acts on one; false where it comes from a server that no longer owns the node."""
        if directive.server_epoch < self._server_epoch:
            self._counters.count(
                "directive_of_an_old_server",
                f"epoch {directive.server_epoch}, seen {self._server_epoch}",
            )
            return False
        self._server_epoch = directive.server_epoch
        self._failsafe.heard()
        match directive.WhichOneof("body"):
            case "heartbeat":
                if directive.heartbeat.inventory_requested:
                    self._outbox.request_inventory()
            case "orders":
                self._orders.put(directive.orders)
            case "settings":
                self._set(directive.settings)
            case _:
                self._counters.count("directive_unknown", "the server may be newer")
        return True

    def _set(self, settings: pb.Settings) -> None:
        cadence = self._sampler.cadence
        self._sampler.cadence = Cadence(
            hot_interval_seconds=self._seconds(
                settings, "hot_interval", cadence.hot_interval_seconds, _INTERVAL_SECONDS
            ),
            busy_interval_seconds=self._seconds(
                settings, "busy_interval", cadence.busy_interval_seconds, _INTERVAL_SECONDS
            ),
            calm_interval_seconds=self._seconds(
                settings, "calm_interval", cadence.calm_interval_seconds, (0.5, 60.0)
            ),
            hot_usage_ratio=self._ratio("hot_usage_ratio", settings.hot_usage_ratio),
            calm_usage_ratio=self._ratio("calm_usage_ratio", settings.calm_usage_ratio),
            calm_after_seconds=self._seconds(
                settings, "calm_after", cadence.calm_after_seconds, _CALM_AFTER_SECONDS
            ),
        )
        self._failsafe.after_seconds = self._seconds(
            settings, "failsafe_after", self._failsafe.after_seconds, _FAILSAFE_AFTER_SECONDS
        )
        self._failsafe.spread_seconds = self._seconds(
            settings, "failsafe_spread", 0.0, _FAILSAFE_SPREAD_SECONDS
        )
        rate = settings.pod_orders_per_second
        self._orders.pod_orders_per_second = rate if math.isfinite(rate) and rate > 0 else 0.0

    def _seconds(
        self, settings: pb.Settings, field: str, default: float, bounds: tuple[float, float]
    ) -> float:
        """Reads one duration; what is absent or out of bounds leaves what there was."""
        value = getattr(settings, field)
        seconds: float = value.seconds + value.nanos / 1e9
        if not settings.HasField(field):  # type: ignore[arg-type]  # The caller names a duration.
            return default
        if not bounds[0] <= seconds <= bounds[1]:
            self._counters.count("setting_out_of_range", f"{field}: {seconds} s")
            return default
        return seconds

    def _ratio(self, field: str, value: float) -> float:
        if 0 <= value <= 1:
            return value
        self._counters.count("setting_out_of_range", f"{field}: {value}")
        default: float = getattr(self._sampler.cadence, field)
        return default
