"""Carries out orders by writing the cgroup's own files.

The kernel refuses a quota below the burst (EINVAL), and any write to the quota refills it at once,
even one that changes nothing. So what is in force is read first, only what differs is written,
burst credit goes down before the quota and up after it.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.cgroup import Bandwidth, CpuCgroup
from mbcas_shim.counters import Counters
from mbcas_shim.errors import CgroupError, CgroupGoneError, CgroupWriteError
from mbcas_shim.inventory import Cpu, Inventory, Row
from mbcas_shim.orders import Order, result

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WriteQuota:
    """Sets the quota; None removes it."""

    quota_usec: int | None


@dataclass(frozen=True, slots=True)
class WriteBurst:
    """Sets the burst credit."""

    burst_usec: int


Write = WriteQuota | WriteBurst


def plan_writes(now: Bandwidth, *, quota_usec: int | None, burst_usec: int | None) -> list[Write]:
    """Orders the writes that lead from what is in force to a quota and a burst credit.

    Args:
        now: What is in force.
        quota_usec: The quota to reach; None for no quota.
        burst_usec: The burst to reach; None to keep it. Either is cut to the quota.
    """
    held_usec = now.burst_usec or 0
    wanted_usec = held_usec if burst_usec is None else burst_usec
    if quota_usec is not None:
        wanted_usec = min(wanted_usec, quota_usec)
    writes: list[Write] = []
    if wanted_usec < held_usec:
        writes.append(WriteBurst(wanted_usec))
    if quota_usec != now.quota_usec:
        writes.append(WriteQuota(quota_usec))
    if wanted_usec > held_usec:
        writes.append(WriteBurst(wanted_usec))
    return writes


class AncestorQuotaError(CgroupError):
    """A group that this one lies in has less than it is to get."""


class CgroupEnforcer:
    """Writes cgroups of version 1 or 2."""

    kind = pb.ENFORCEMENT_CGROUP

    def __init__(
        self,
        inventory: Inventory,
        counters: Counters,
        *,
        allocatable_millicores: Callable[[], int],
        on_change: Callable[[Row], None],
    ) -> None:
        self._inventory = inventory
        self._counters = counters
        self._allocatable_millicores = allocatable_millicores
        self._on_change = on_change

    async def apply(self, orders: Sequence[Order]) -> list[pb.OrderResult]:
        results: list[pb.OrderResult] = []
        is_cut_refused = False
        for order, is_raise in sorted(map(self._with_direction, orders), key=lambda pair: pair[1]):
            if is_raise and is_cut_refused:
                answer = result(order.order_id, pb.OUTCOME_REFUSED, cause="CutRefused")
            else:
                answer = self._apply(order)
            is_cut_refused |= not is_raise and answer.outcome == pb.OUTCOME_REFUSED
            results.append(answer)
        return results

    async def restore(self, is_needed: Callable[[], bool] = lambda: True) -> int:
        del is_needed  # It is done at once.
        rows = [row for row in self._inventory.rows if row.is_managed]
        changes = [(row, self._restored(row)) for row in rows]
        self._fit_requests(changes)
        # Cuts come first, so that nothing is raised beside what has not been given back yet.
        changes.sort(key=lambda change: _is_above(change[1].limit_millicores, _limit(change[0])))
        return sum(not self._restore(row, cpu) for row, cpu in changes)

    async def zero_bursts(self) -> int:
        rows = [row for row in self._inventory.rows if row.is_managed]
        return sum(not self.zero_burst(row) for row in rows)

    async def leave(self) -> int:
        """Gives back what was admitted: nobody else would."""
        return await self.restore() + await self.zero_bursts()

    def zero_burst(self, row: Row) -> bool:
        """Takes a row's burst credit; true where it has none now."""
        try:
            row.read_bandwidth()
            if row.bandwidth.burst_usec:
                row.cgroup.write_burst(0)
                self._settle(row)
        except CgroupError as error:
            return self._failed("burst_left_behind", error)
        return True

    def admit(self, row: Row) -> None:
        """Prepares a row that appeared: no burst credit, and its declared limit if it has none.

        Giving a container its declared values is the kubelet's task elsewhere; here nobody else
        does it. Rows that are not in mode auto are left alone.
        """
        if not row.declared.is_managed or not self.zero_burst(row):
            return
        is_unset = row.bandwidth.quota_usec is None and row.admitted.limit_millicores is not None
        if is_unset and self._restore(row, row.admitted):
            _log.info("declared values set cgroup=%s", row.declared.cgroup)

    def release(self, row: Row) -> None:
        """Gives back what was admitted to a row that is no longer declared."""
        if row.is_managed and self._restore(row, self._restored(row)):
            self.zero_burst(row)

    def _with_direction(self, order: Order) -> tuple[Order, bool]:
        row = self._inventory.find(order.pod_uid, order.container)
        is_raise = row is not None and order.desired.limit_millicores is not None
        return order, is_raise and _is_above(order.desired.limit_millicores, _limit(row))

    def _apply(self, order: Order) -> pb.OrderResult:
        row = self._inventory.find(order.pod_uid, order.container)
        if row is None:
            return result(order.order_id, pb.OUTCOME_STALE, cause="UnknownContainer")
        if order.expected_generation:
            return result(order.order_id, pb.OUTCOME_STALE, cause="Generation")
        if order.admitted is not None:
            row.admitted = order.admitted
        row.restores_exactly = order.restores_exactly
        try:
            is_changed = self._change(row, order.desired, order.burst_usec)
        except CgroupGoneError:
            return result(order.order_id, pb.OUTCOME_STALE, cause="CgroupGone")
        except CgroupError as error:
            self._counters.count("order_refused", error)
            cause, field = _cause(error)
            return result(
                order.order_id,
                pb.OUTCOME_REFUSED,
                cause=cause,
                field=field,
                actual=row.in_force(),
            )
        outcome = pb.OUTCOME_APPLIED if is_changed else pb.OUTCOME_UNCHANGED
        return result(order.order_id, outcome, actual=row.in_force())

    def _change(self, row: Row, desired: Cpu, burst_usec: int | None) -> bool:
        """Writes what differs; true where anything was written."""
        group, limit_millicores = row.cgroup, desired.limit_millicores
        row.read_bandwidth()
        quota_usec = row.bandwidth.quota_usec
        if limit_millicores is not None:
            quota_usec = row.bandwidth.quota_for(limit_millicores)
            if _is_above(limit_millicores, _limit(row)):
                _check_ancestors(group, limit_millicores)
        writes = plan_writes(row.bandwidth, quota_usec=quota_usec, burst_usec=burst_usec)
        try:
            is_weight_written = _write_weight(row, desired.request_millicores)
            for write in writes:
                row.is_written = True
                _carry_out(group, write)
        finally:
            if writes:
                self._settle(row)
        if limit_millicores is not None:
            row.note_sent(limit_millicores)
        if is_weight_written and not writes:
            self._on_change(row)
        return bool(writes) or is_weight_written

    def _settle(self, row: Row) -> None:
        """Reads back what is in force after writing."""
        row.read_bandwidth()
        self._on_change(row)

    def _restored(self, row: Row) -> Cpu:
        """What the fail-safe brings a row to."""
        current, admitted = row.in_force(), row.admitted
        if row.restores_exactly:
            return admitted
        limits = (current.limit_millicores, admitted.limit_millicores)
        requests = (current.request_millicores or 0, admitted.request_millicores or 0)
        return Cpu(max(requests), None if None in limits else max(filter(None, limits)))

    def _fit_requests(self, changes: list[tuple[Row, Cpu]]) -> None:
        """Keeps a request as it is where all that rise do not fit the node."""
        total = sum(min(_request(row), cpu.request_millicores or 0) for row, cpu in changes)
        allocatable = self._allocatable_millicores()
        for index, (row, cpu) in enumerate(changes):
            rise = (cpu.request_millicores or 0) - _request(row)
            if rise > 0 and total + rise > allocatable:
                changes[index] = row, Cpu(row.request_millicores, cpu.limit_millicores)
            elif rise > 0:
                total += rise

    def _restore(self, row: Row, cpu: Cpu) -> bool:
        """Brings a row to given values; a quota is removed only where this shim wrote one."""
        try:
            if cpu.limit_millicores is None and row.is_written:
                row.read_bandwidth()
                if row.bandwidth.quota_usec is not None:
                    row.cgroup.write_quota(None)
                    self._settle(row)
            self._change(row, cpu, None)
        except CgroupGoneError:
            return True
        except CgroupError as error:
            return self._failed("restore_failed", error)
        return True

    def _failed(self, name: str, error: CgroupError) -> bool:
        if isinstance(error, CgroupGoneError):
            return True  # Nothing is left that could be in anybody's way.
        self._counters.count(name, error)
        return False


def _carry_out(group: CpuCgroup, write: Write) -> None:
    match write:
        case WriteQuota():
            group.write_quota(write.quota_usec)
        case WriteBurst():
            group.write_burst(write.burst_usec)


def _write_weight(row: Row, request_millicores: int | None) -> bool:
    if request_millicores is None:
        return False
    weight = row.cgroup.weight_for(request_millicores)
    is_different = weight != row.cgroup.weight()
    if is_different:
        row.is_written = True
        row.cgroup.write_weight(weight)
    row.request_millicores, before = request_millicores, row.request_millicores
    return is_different or request_millicores != before


def _check_ancestors(group: CpuCgroup, limit_millicores: int) -> None:
    most_millicores = group.tightest_ancestor_millicores()
    if most_millicores is not None and most_millicores < limit_millicores:
        raise AncestorQuotaError(
            f"{group.path}: a group it lies in has a quota of {most_millicores}m, below the "
            f"{limit_millicores}m it is to get; raise that one first"
        )


def _cause(error: CgroupError) -> tuple[str, str]:
    match error:
        case AncestorQuotaError():
            return "AncestorQuota", "limit"
        case CgroupWriteError():
            return error.errno_name, error.file_name
        case _:
            return "Unreadable", ""


def _limit(row: Row | None) -> int | None:
    return None if row is None else row.in_force().limit_millicores


def _request(row: Row) -> int:
    return row.request_millicores or 0


def _is_above(limit: int | None, other: int | None) -> bool:
    """Compares limits, of which None is above all."""
    if other is None:
        return False
    return limit is None or limit > other
