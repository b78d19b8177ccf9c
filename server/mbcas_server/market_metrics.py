"""Metrics read from the core's views when somebody scrapes.

Per container there are at most `metrics_containers_max` rows, in the order of node, namespace, pod
and container: a large cluster's would fill the scraper.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from mbcas_core.errors import UnknownNodeError, UnknownPodError
from mbcas_core.views import DecisionView, MarketView
from mbcas_server.clock import Clock
from mbcas_server.core import Core
from mbcas_server.core_thread import LONG_BREATH_SECONDS, Breaths, CoreThread

CONTAINER_LABELS = ("node", "namespace", "pod", "container")
GOOD_LABELS = ("node", "good")


@dataclass(frozen=True, slots=True, eq=False)
class _Families:
    shadow_price: GaugeMetricFamily = field(
        default_factory=lambda: GaugeMetricFamily(
            "mbcas_shadow_price",
            "Weight per core of every rationed bid; 0 while the market is not rationed",
            labels=GOOD_LABELS,
        )
    )
    shadow_price_normalized: GaugeMetricFamily = field(
        default_factory=lambda: GaugeMetricFamily(
            "mbcas_shadow_price_normalized", "The shadow price from 0 to 1", labels=GOOD_LABELS
        )
    )
    shortage: GaugeMetricFamily = field(
        default_factory=lambda: GaugeMetricFamily(
            "mbcas_shortage", "max(0, 1 - capacity / total need)", labels=GOOD_LABELS
        )
    )
    refusing_pods: GaugeMetricFamily = field(
        default_factory=lambda: GaugeMetricFamily(
            "mbcas_refusing_pods",
            "Pods that get less than they declared acceptable, and need it",
            labels=("node",),
        )
    )
    compliance: GaugeMetricFamily = field(
        default_factory=lambda: GaugeMetricFamily(
            "mbcas_compliance_level",
            "Share of what its pod takes at the least that it gets, where it declared that",
            labels=CONTAINER_LABELS,
        )
    )
    weight: GaugeMetricFamily = field(
        default_factory=lambda: GaugeMetricFamily(
            "mbcas_effective_weight", "The pod's weight in its market", labels=CONTAINER_LABELS
        )
    )
    lag: GaugeMetricFamily = field(
        default_factory=lambda: GaugeMetricFamily(
            "mbcas_allocation_lag_seconds",
            "From the last order to its being applied",
            labels=CONTAINER_LABELS,
        )
    )
    predicted: GaugeMetricFamily = field(
        default_factory=lambda: GaugeMetricFamily(
            "mbcas_predicted_usage_milli",
            "Forecast of demand for the next round, in millicores",
            labels=CONTAINER_LABELS,
        )
    )
    classification: GaugeMetricFamily = field(
        default_factory=lambda: GaugeMetricFamily(
            "mbcas_workload_classification",
            "Containers of each class, among those with metrics of their own",
            labels=("class",),
        )
    )
    hysteresis_skips: CounterMetricFamily = field(
        default_factory=lambda: CounterMetricFamily(
            "mbcas_hysteresis_skips", "Moves held back by band, dwell or spacing"
        )
    )
    bursts_detected: CounterMetricFamily = field(
        default_factory=lambda: CounterMetricFamily(
            "mbcas_burst_detected", "Bursts that agents remembered the height of"
        )
    )
    refusals: CounterMetricFamily = field(
        default_factory=lambda: CounterMetricFamily(
            "mbcas_refusals", "Times that a pod began to refuse what it is allocated"
        )
    )
    fastloop_seconds: GaugeMetricFamily = field(
        default_factory=lambda: GaugeMetricFamily(
            "mbcas_fastloop_active_duration_seconds",
            "How long the fast loop has held the container up",
            labels=CONTAINER_LABELS,
        )
    )
    core_events: CounterMetricFamily = field(
        default_factory=lambda: CounterMetricFamily(
            "mbcas_server_core_events", "What the core counts, by name", labels=("event",)
        )
    )

    def all(self) -> list[Metric]:
        return [getattr(self, name) for name in self.__dataclass_fields__]


class MarketMetrics:
    """Reads the views; `gather` must run where the driver runs."""

    def __init__(self, core: CoreThread, clock: Clock, *, containers_max: int) -> None:
        self._core = core
        self._clock = clock
        self._containers_max = containers_max

    async def gather(self) -> list[Metric]:
        """Returns the families with their samples."""
        families = _Families()
        rows: list[DecisionView] = []
        nodes = await self._core.read(lambda core: core.node_names())
        for node in nodes:
            await self._core.read(partial(self._add_node, families, rows, node))
        counters = await self._core.read(lambda core: dict(core.counters))
        await asyncio.to_thread(self._add_containers, families, rows)
        families.hysteresis_skips.add_metric((), counters.get("hysteresis_skips", 0))
        families.bursts_detected.add_metric((), counters.get("bursts_detected", 0))
        families.refusals.add_metric((), counters.get("refusals", 0))
        for name, count in sorted(counters.items()):
            families.core_events.add_metric((name,), count)
        return families.all()

    def _add_node(
        self, families: _Families, rows: list[DecisionView], node: str, core: Core
    ) -> None:
        breaths = Breaths(self._clock, breath_seconds=LONG_BREATH_SECONDS)
        rows_left = self._containers_max - len(rows)
        with suppress(UnknownNodeError):  # It may have gone since the names were read.
            view = core.market_view(node, include_containers=rows_left > 0)
            _add_prices(families, view)
            families.refusing_pods.add_metric((view.node,), view.refusing_pods)
            rows += itertools.islice(_decisions(core, view, breaths), rows_left)

    def _add_containers(self, families: _Families, rows: list[DecisionView]) -> None:
        now_seconds = self._clock.now_seconds()
        for decision in rows:
            labels = _add_container(families, decision)
            since_seconds = decision.container.emergency_since_seconds
            if since_seconds is not None:
                families.fastloop_seconds.add_metric(labels, now_seconds - since_seconds)
        classes = Counter(decision.headroom.workload_class for decision in rows)
        for name, count in sorted(classes.items()):
            families.classification.add_metric((name,), count)


def _decisions(core: Core, view: MarketView, breaths: Breaths) -> Iterable[DecisionView]:
    pods = dict.fromkeys((row.namespace, row.pod) for row in view.containers)
    for namespace, pod in pods:
        breaths.take()
        try:
            decisions = core.explain_pod(namespace, pod)
            # A pod of this name may be on other nodes too, and has its series there.
            yield from (item for item in decisions if item.node == view.node)
        except UnknownPodError:
            continue  # Two views of a moving world.


def _add_prices(families: _Families, view: MarketView) -> None:
    for good, market in (("reservation", view.reservation), ("ceiling", view.ceiling)):
        labels = (view.node, good)
        families.shadow_price.add_metric(labels, market.price.shadow_price)
        families.shadow_price_normalized.add_metric(labels, market.price.shadow_price_normalized)
        families.shortage.add_metric(labels, market.price.shortage)


def _add_container(families: _Families, decision: DecisionView) -> tuple[str, ...]:
    row = decision.container
    labels = (decision.node, row.namespace, row.pod, row.container)
    families.weight.add_metric(labels, row.weight)
    families.predicted.add_metric(labels, decision.headroom.base_millicores)
    if row.min_acceptable_millicores is not None:
        families.compliance.add_metric(labels, row.compliance_level)
    if row.lag_seconds is not None:
        families.lag.add_metric(labels, row.lag_seconds)
    return labels
