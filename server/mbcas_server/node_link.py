"""One stream of NodeLink: reads reports into the inbox, writes directives from the outbox."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import grpc

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.errors import FieldError, InvalidInputError
from mbcas_core.events import Enforcement
from mbcas_server.annotations import PriorityBounds
from mbcas_server.answers import duration
from mbcas_server.auth import Caller
from mbcas_server.clock import Clock
from mbcas_server.convert import ParsedReport, parse_report, read_node_name
from mbcas_server.inbox import Inbox
from mbcas_server.leadership import Leadership
from mbcas_server.links import Link, Links
from mbcas_server.logs import LimitedLog
from mbcas_server.metrics import Metrics
from mbcas_server.outbox import Outbox
from mbcas_server.settings import Settings
from mbcas_server.status import Context, RefusedError, begin
from mbcas_server.surroundings import Alone, Surroundings

FAILSAFE_SPREAD_MAX_SECONDS = 600.0
RESTORES_PER_SECOND = 20.0  # What the API server is asked to take when a server dies.
SPACING_SLACK = 1.5
"""What shims are told bounds a server gone wild. The server keeps the spacing between decisions;
gate and network may bring two orders closer together, and that is no reason to refuse one."""
BURST_SECONDS = 2.0  # A shim may send this many seconds' worth of reports at once.

logger = logging.getLogger(__name__)


class _StreamOverError(Exception):
    """The shim ended its side."""


@dataclass(eq=False, slots=True, kw_only=True)
class NodeLinks:
    """Serves the streams of all shims."""

    links: Links
    settings: Settings
    clock: Clock
    metrics: Metrics
    leadership: Leadership
    surroundings: Surroundings = field(default_factory=Alone)
    _log: LimitedLog = field(init=False)
    _priorities: PriorityBounds = field(init=False)

    def __post_init__(self) -> None:
        self._priorities = self.settings.priority_bounds()
        self._log = LimitedLog(logger, self.clock)

    async def serve(self, context: Context, caller: Caller) -> None:
        """Serves one stream until either side ends it; the caller is checked at its beginning.

        Raises:
            InvalidInputError: The first report is unusable.
            RefusedError: The server ends the stream, with this status.
        """
        first = await self._first_report(context, caller)
        link = Link(
            node=first.node,
            instance=first.instance,
            inbox=Inbox(samples_max=self.settings.inbox_samples_max),
            outbox=Outbox(
                server_epoch=self.leadership.epoch, orders_max=self.settings.outbox_orders_max
            ),
        )
        await begin(context)
        self.links.admit(link)
        self.metrics.connected_nodes.set(self.links.connected_count)
        link.outbox.put_settings(self._shim_settings(first))
        self._take(link, first)
        reason, refused = "shim", None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(link, context), name=f"write {link.node}")
                group.create_task(_wait_ended(link), name=f"end {link.node}")
                group.create_task(self._read(link, context), name=f"read {link.node}")
        except* _StreamOverError:
            pass
        except* RefusedError as group_error:
            refused = next(_leaves(group_error))
            reason = refused.reason.lower() or refused.code.name.lower()
        finally:
            self.links.release(link)
            self.metrics.connected_nodes.set(self.links.connected_count)
            self.metrics.streams_ended.labels(reason=reason).inc()
            self.metrics.orders_dropped.inc(link.outbox.orders_dropped)
        if refused is not None:
            raise refused  # Python before 3.11.4 makes a group of what is raised in `except*`.

    async def _first_report(self, context: Context, caller: Caller) -> ParsedReport:
        try:
            async with asyncio.timeout(self.settings.first_report_seconds):
                message = await context.read()
        except TimeoutError as error:
            raise RefusedError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"no report within {self.settings.first_report_seconds:g} s of connecting",
            ) from error
        if not isinstance(message, bytes):
            raise InvalidInputError([FieldError("report", "must come before the stream ends")])
        # To read a report has the cluster asked what it says: not for just anybody.
        await caller.check_shim_of(read_node_name(message))
        report = self._parse(message)
        _check_first(report)
        if report.node_facts is not None and not report.node_facts.allocatable_millicores:
            raise RefusedError(
                grpc.StatusCode.UNAVAILABLE,
                f"the Node object of {report.node!r} is not known yet: connect again",
                reason="NODE_UNKNOWN",
            )
        return report

    async def _read(self, link: Link, context: Context) -> None:
        spacing_seconds = 1.0 / self.settings.reports_per_second_max
        credit_seconds = BURST_SECONDS
        last_seconds = self.clock.now_seconds()
        while True:
            message = await context.read()
            if not isinstance(message, bytes):
                raise _StreamOverError
            now_seconds = self.clock.now_seconds()
            credit_seconds = min(
                BURST_SECONDS, credit_seconds + now_seconds - last_seconds - spacing_seconds
            )
            last_seconds = now_seconds
            self._take_message(link, message)
            if credit_seconds < 0:
                self.metrics.reports_slowed.inc()
                await self.clock.sleep_until(now_seconds - credit_seconds)

    def _take_message(self, link: Link, message: bytes) -> None:
        try:
            report = self._parse(message)
            _check_same(report, link)
        except InvalidInputError as error:
            self.metrics.reports.labels(result="malformed").inc()
            self._warn("report refused", link.node, str(error))
            link.inbox.skip_refused()
            self.links.mark_due(link)
        else:
            self._take(link, report)

    def _parse(self, message: bytes) -> ParsedReport:
        self.metrics.report_bytes.inc(len(message))
        report = parse_report(
            message,
            unix_seconds=self.clock.unix_seconds(),
            priorities=self._priorities,
            surroundings=self.surroundings,
        )
        facts = report.node_facts
        if facts is None or facts.allocatable_millicores:
            return report
        # Where the Node object has gone since, what it said last goes on to count.
        known = self.surroundings.allocatable_millicores(report.node)
        if known is not None:
            facts = replace(facts, allocatable_millicores=known)
        return replace(report, node_facts=facts if known or report.sequence == 1 else None)

    def _take(self, link: Link, report: ParsedReport) -> None:
        inbox = link.inbox
        dropped = inbox.samples_dropped
        result = inbox.put(report)
        self.metrics.reports.labels(result=result).inc()
        if inbox.samples_dropped != dropped:
            self.metrics.samples_dropped.inc(inbox.samples_dropped - dropped)
        if report.slices_dropped:
            self.metrics.slices_dropped.inc(report.slices_dropped)
        if report.samples_error is not None:
            self.metrics.reports.labels(result="bad_samples").inc()
            self._warn("samples refused", link.node, str(report.samples_error))
        if report.annotation_refusals:
            self.metrics.annotations_refused.inc(len(report.annotation_refusals))
            for refusal in report.annotation_refusals:
                self._warn("annotation left out", link.node, refusal)
        if link.arrived_seconds is None:
            link.arrived_seconds = self.clock.now_seconds()
        self.links.mark_due(link)

    def _warn(self, event: str, node: str, reason: str) -> None:
        self._log.log(logging.WARNING, event, f"node={node} reason={reason[:500]!r}")

    async def _write(self, link: Link, context: Context) -> None:
        while True:
            await link.outbox.wait_filled()
            while (taken := link.outbox.take(now_seconds=self.clock.now_seconds())) is not None:
                kind, directive = taken
                try:
                    async with asyncio.timeout(self.settings.write_stall_seconds):
                        await context.write(directive.SerializeToString())
                except TimeoutError as error:
                    raise RefusedError(
                        grpc.StatusCode.UNAVAILABLE,
                        f"nothing was read for {self.settings.write_stall_seconds:g} s: "
                        "connect again",
                        reason="STALLED",
                    ) from error
                self.metrics.directives.labels(kind=kind).inc()

    def _shim_settings(self, first: ParsedReport) -> pb.Settings:
        settings = self.settings
        patches = (
            first.node_facts is not None and first.node_facts.enforcement is Enforcement.RESIZE
        )
        return pb.Settings(
            hot_interval=duration(settings.hot_interval_seconds),
            busy_interval=duration(settings.busy_interval_seconds),
            calm_interval=duration(settings.calm_interval_seconds),
            hot_usage_ratio=settings.hot_usage_ratio,
            calm_usage_ratio=settings.calm_usage_ratio,
            calm_after=duration(settings.calm_after_seconds),
            failsafe_after=duration(settings.failsafe_after_seconds),
            failsafe_spread=duration(self._failsafe_spread_seconds(patches=patches)),
            pod_orders_per_second=SPACING_SLACK / settings.emergency_spacing_seconds
            if patches and settings.emergency_spacing_seconds
            else 0.0,
        )

    def _failsafe_spread_seconds(self, *, patches: bool) -> float:
        if self.settings.failsafe_spread_seconds is not None:
            return self.settings.failsafe_spread_seconds
        if not patches:
            return 0.0
        return min(FAILSAFE_SPREAD_MAX_SECONDS, self.links.container_count / RESTORES_PER_SECOND)


def _check_first(report: ParsedReport) -> None:
    errors = [] if report.samples_error is None else [report.samples_error]
    if not report.full_inventory:
        errors.append(FieldError("full_inventory", "must be true in a stream's first report"))
    if report.sequence != 1:
        errors.append(
            FieldError("sequence", f"is {report.sequence}, must be 1 in a stream's first report")
        )
    if report.node_facts is None:
        errors.append(FieldError("node_facts", "must be there in a stream's first report"))
    if errors:
        raise InvalidInputError(errors)


def _check_same(report: ParsedReport, link: Link) -> None:
    for field_name, given, first in (
        ("node_name", report.node, link.node),
        ("instance", report.instance, link.instance),
    ):
        if given != first:
            reason = f"is {given!r}, must stay {first!r} for as long as the stream lasts"
            raise InvalidInputError([FieldError(field_name, reason)])


async def _wait_ended(link: Link) -> None:
    await link.ended.wait()
    assert link.ending is not None, "an end has a reason"
    raise link.ending.again()


def _leaves(group: BaseExceptionGroup[RefusedError]) -> Iterator[RefusedError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
