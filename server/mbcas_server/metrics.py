"""Every number that Prometheus sees but those read from the core's views (`market_metrics`)."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

# A second series for each counter, with the time of its first count, is of no use here.
disable_created_metrics()  # type: ignore[no-untyped-call] # The library has no types for it.

TICK_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
WAIT_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class Metrics:
    """The server's own metrics, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._add_decisions()
        self._add_links()
        self._add_driver()
        self._add_kube_objects()

    def _add_decisions(self) -> None:
        """What came of decisions."""
        self.invariant_violations = self._counter(
            "mbcas_invariant_violations",
            "Times what must always hold did not: 1 to 6, or audit- and a property of the market",
            "rule",
        )
        for rule in range(1, 7):
            self.invariant_violations.labels(rule=str(rule))
        self.resizes = self._counter(
            "mbcas_resizes",
            "Orders that ended, by how and by why they were given",
            "result",
            "reason",
        )
        self.notices = self._counter(
            "mbcas_server_notices", "Notices of the core, by event", "event"
        )

    def _add_links(self) -> None:
        """Shims and watchers."""
        self.reports = self._counter(
            "mbcas_server_reports",
            "Reports of shims: taken, duplicate, malformed, bad_samples, awaiting_inventory",
            "result",
        )
        self.report_bytes = self._counter("mbcas_server_report_bytes", "Size of all reports")
        self.reports_slowed = self._counter(
            "mbcas_server_reports_slowed",
            "Reports that were read later because their shim sends too many",
        )
        self.samples_dropped = self._counter(
            "mbcas_server_samples_dropped",
            "Batches of samples that gave way to newer ones before a tick",
        )
        self.slices_dropped = self._counter(
            "mbcas_server_slices_dropped", "Slices of 100 ms that shims could not read in time"
        )
        self.annotations_refused = self._counter(
            "mbcas_server_annotations_refused", "Annotations left out"
        )
        self.streams_ended = self._counter(
            "mbcas_server_streams_ended", "Streams of shims that ended, by why", "reason"
        )
        self.connected_nodes = self._gauge(
            "mbcas_server_connected_nodes", "Nodes whose shim is connected"
        )
        self.directives = self._counter("mbcas_server_directives", "Messages to shims", "kind")
        self.orders_dropped = self._counter(
            "mbcas_server_orders_dropped", "Orders that never left: their shim was gone or too slow"
        )
        self.inventory_requests = self._counter(
            "mbcas_server_inventory_requests", "Full inventories asked for, by why", "reason"
        )
        self.watchers = self._gauge("mbcas_server_watchers", "Streams of WatchMarkets")
        self.watchers_dropped = self._counter(
            "mbcas_server_watchers_dropped", "Watchers that read too slowly"
        )
        self.certificate_reloads = self._counter(
            "mbcas_server_certificate_reloads",
            "Changes of the TLS files: taken, or refused because they do not fit each other",
            "result",
        )
        self.calls_refused = self._counter(
            "mbcas_server_calls_refused",
            "Calls of callers that are not known, or may not do what they ask for",
            "rpc",
            "code",
        )
        self.reviews = self._counter(
            "mbcas_server_reviews",
            "Questions to the API server about tokens and rights, by how they ended",
            "kind",
            "result",
        )
        self.allocations_refused = self._counter(
            "mbcas_server_allocations_refused",
            "Large Allocate requests refused because too many waited",
        )

    def _add_driver(self) -> None:
        """The loop that decides."""
        self.tick_seconds = self._histogram(
            "mbcas_server_tick_seconds",
            "Time from the beginning to the end of a tick",
            TICK_BUCKETS,
        )
        self.ticks_missed = self._counter(
            "mbcas_server_ticks_missed", "Ticks skipped because the one before took too long"
        )
        self.report_wait_seconds = self._histogram(
            "mbcas_server_report_wait_seconds",
            "Time from a report's arrival to the end of the tick that took it in",
            WAIT_BUCKETS,
        )
        self.event_failures = self._counter(
            "mbcas_server_event_failures", "Events that the core failed on: a bug", "event"
        )
        self.frozen = self._gauge(
            "mbcas_server_writes_frozen", "1 while nothing is sent to shims, whoever stopped it"
        )
        self.leading = self._gauge(
            "mbcas_server_leading", "1 while this server decides, 0 while it stands by"
        )
        self.lease_failures = self._counter(
            "mbcas_server_lease_failures", "Looks at the Lease that failed"
        )
        self.checkpoints = self._counter(
            "mbcas_server_checkpoints",
            "Files of what was learned: written, read, ignored",
            "result",
        )
        self.last_tick_time = self._gauge(
            "mbcas_server_last_tick_timestamp_seconds", "When the last tick was completed"
        )

    def _add_kube_objects(self) -> None:
        """What the server reads and writes on Kubernetes."""
        self.kube_watch_failures = self._counter(
            "mbcas_server_kube_watch_failures",
            "Lists and watches of Kubernetes objects that failed; they are tried again",
        )
        self.pod_allocations = self._gauge(
            "mbcas_server_pod_allocations", "PodAllocations that are there and can be used"
        )
        self.pod_allocations_ignored = self._counter(
            "mbcas_server_pod_allocations_ignored",
            "PodAllocations that cannot be used: changed by others, or too many",
        )
        self.pod_allocation_writes = self._counter(
            "mbcas_server_pod_allocation_writes",
            "Writes of PodAllocations, by part (spec, status) and result (written, failed)",
            "part",
            "result",
        )
        self.pods_elsewhere = self._counter(
            "mbcas_server_pods_elsewhere",
            "Orders, reports and writes left out because the pod runs on another node",
        )
        self.orders_held_seconds = self._histogram(
            "mbcas_server_orders_held_seconds",
            "Time for which orders waited until their pod's PodAllocation was written",
            WAIT_BUCKETS,
        )
        self.orders_refused = self._counter(
            "mbcas_server_orders_refused",
            "Orders that were not sent because their pod's PodAllocation could not be written",
        )
        self.template_lookups = self._counter(
            "mbcas_server_template_lookups",
            "Templates asked for admitted values that are lost: found, missing, failed, dropped",
            "result",
        )
        self.pod_events = self._counter(
            "mbcas_server_pod_events",
            "Events for pods: sent, repeated, over_budget, dropped, failed",
            "result",
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, meaning, buckets=buckets, registry=self.registry)
