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
        self.invariant_violations = Counter(
            "mbcas_invariant_violations",
            "Times a rule that must always hold did not, by its number",
            ["rule"],
            registry=registry,
        )
        for rule in range(1, 7):
            self.invariant_violations.labels(rule=rule)
        self.resizes = Counter(
            "mbcas_resizes",
            "Orders that ended, by how and by why they were given",
            ["result", "reason"],
            registry=registry,
        )
        self.notices = Counter(
            "mbcas_server_notices", "Notices of the core, by event", ["event"], registry=registry
        )
        self.reports = Counter(
            "mbcas_server_reports",
            "Reports of shims: taken, duplicate, malformed, bad_samples, awaiting_inventory",
            ["result"],
            registry=registry,
        )
        self.report_bytes = Counter(
            "mbcas_server_report_bytes", "Size of all reports", registry=registry
        )
        self.reports_slowed = Counter(
            "mbcas_server_reports_slowed",
            "Reports that were read later because their shim sends too many",
            registry=registry,
        )
        self.samples_dropped = Counter(
            "mbcas_server_samples_dropped",
            "Batches of samples that gave way to newer ones before a tick",
            registry=registry,
        )
        self.slices_dropped = Counter(
            "mbcas_server_slices_dropped",
            "Slices of 100 ms that shims could not read in time",
            registry=registry,
        )
        self.annotations_refused = Counter(
            "mbcas_server_annotations_refused", "Annotations left out", registry=registry
        )
        self.streams_ended = Counter(
            "mbcas_server_streams_ended",
            "Streams of shims that ended, by why",
            ["reason"],
            registry=registry,
        )
        self.connected_nodes = Gauge(
            "mbcas_server_connected_nodes", "Nodes whose shim is connected", registry=registry
        )
        self.directives = Counter(
            "mbcas_server_directives", "Messages to shims", ["kind"], registry=registry
        )
        self.orders_dropped = Counter(
            "mbcas_server_orders_dropped",
            "Orders that never left: their shim was gone or too slow",
            registry=registry,
        )
        self.inventory_requests = Counter(
            "mbcas_server_inventory_requests",
            "Full inventories asked for, by why",
            ["reason"],
            registry=registry,
        )
        self.watchers = Gauge("mbcas_server_watchers", "Streams of WatchMarkets", registry=registry)
        self.watchers_dropped = Counter(
            "mbcas_server_watchers_dropped", "Watchers that read too slowly", registry=registry
        )
        self.tick_seconds = Histogram(
            "mbcas_server_tick_seconds",
            "Time from the beginning to the end of a tick",
            buckets=TICK_BUCKETS,
            registry=registry,
        )
        self.ticks_missed = Counter(
            "mbcas_server_ticks_missed",
            "Ticks skipped because the one before took too long",
            registry=registry,
        )
        self.report_wait_seconds = Histogram(
            "mbcas_server_report_wait_seconds",
            "Time from a report's arrival to the end of the tick that took it in",
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self.event_failures = Counter(
            "mbcas_server_event_failures",
            "Events that the core failed on: a bug",
            ["event"],
            registry=registry,
        )
        self.last_tick_time = Gauge(
            "mbcas_server_last_tick_timestamp_seconds",
            "When the last tick was completed",
            registry=registry,
        )
