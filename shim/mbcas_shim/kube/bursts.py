"""Burst credit of containers whose quota the kubelet writes.

The kernel refuses a quota below the burst, and the kubelet then tries in vain until that is
lowered. So before a limit is cut the burst goes down, and it goes up only to what both the quota in
force and the limit in the spec allow. A pod's own group throttles its containers: it gets the sum
of their bursts. Kubernetes knows nothing of bursts and nobody else takes them away.
"""

import contextlib
import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.cgroup import MILLICORES_PER_CORE, CgroupTree, CpuCgroup
from mbcas_shim.counters import Counters
from mbcas_shim.errors import CgroupError, CgroupGoneError
from mbcas_shim.inventory import Cpu, Inventory, Row
from mbcas_shim.orders import Order

Specs = Mapping[str, Cpu]
"""By container name."""


class Bursts:
    """Keeps burst credit where orders want it, as far as quotas allow."""

    def __init__(self, inventory: Inventory, tree: CgroupTree, counters: Counters) -> None:
        self._inventory = inventory
        self._tree = tree
        self._counters = counters
        self._wanted: dict[tuple[str, str], int] = {}

    def note(self, orders: Iterable[Order]) -> None:
        """Takes over what orders want; giving back admitted values gives back the burst too."""
        for order in orders:
            burst_usec = 0 if order.lane == pb.LANE_RELEASE else order.burst_usec
            if burst_usec is not None:
                self._wanted[order.pod_uid, order.container] = burst_usec

    def settle(self, specs_of: Callable[[str], Specs | None]) -> None:
        """Looks at all pods that are to have burst credit, and forgets those that have gone."""
        by_pod: dict[str, list[Row]] = defaultdict(list)
        for row in self._inventory.rows:
            by_pod[row.declared.pod_uid].append(row)
        for uid in {uid for uid, _ in self._wanted}:
            specs = specs_of(uid)
            if specs is None or uid not in by_pod:
                self._wanted = {key: usec for key, usec in self._wanted.items() if key[0] != uid}
            else:
                self._settle(by_pod[uid], specs)

    def settle_pod(self, uid: str, specs: Specs) -> set[str] | None:
        """Brings one pod to where it may be with given limits.

        Returns the names of containers whose burst changed, or None where one could not be lowered
        and a limit below it would be beyond the kubelet.
        """
        return self._settle([row for row in self._inventory.rows if _is_of(row, uid)], specs)

    def zero(self, rows: Sequence[Row] | None = None) -> int:
        """Takes all burst credit of some rows, or of all; returns how many kept theirs."""
        failed = 0
        for row in list(self._inventory.rows) if rows is None else rows:
            self._wanted.pop((row.declared.pod_uid, row.declared.name), None)
            if row.is_asleep:
                continue  # Its group is gone.
            moves = {self._bring(row.cgroup, 0), self._bring_pod(row, 0)}
            failed += _Move.HELD in moves
        return failed

    def _settle(self, rows: Sequence[Row], specs: Specs) -> set[str] | None:
        moves: dict[str, _Move] = {}
        total_usec = 0
        rows = [row for row in rows if not row.is_asleep]
        for row in rows:
            name = row.declared.name
            target_usec = self._target_usec(row, specs.get(name, Cpu()))
            total_usec += target_usec
            moves[name] = self._bring(row.cgroup, target_usec)
        if rows:
            limits = [specs.get(row.declared.name, Cpu()).limit_millicores for row in rows]
            later_millicores = None if None in limits else sum(filter(None, limits))
            pod = self._bring_pod(rows[0], total_usec, later_millicores=later_millicores)
            if _Move.HELD in (pod, *moves.values()):
                return None
        return {name for name, move in moves.items() if move == _Move.MOVED}

    def _target_usec(self, row: Row, spec: Cpu) -> int:
        try:
            now = row.cgroup.bandwidth()
        except CgroupError:
            return 0  # It is gone, or whoever samples it says what is wrong.
        if now.quota_usec is None or spec.limit_millicores is None:
            return 0  # What has no quota is never throttled.
        key = row.declared.pod_uid, row.declared.name
        wanted_usec = self._wanted.get(key, now.burst_usec or 0)
        return min(wanted_usec, now.quota_usec, now.quota_for(spec.limit_millicores))

    def _bring_pod(
        self, row: Row, burst_usec: int, *, later_millicores: int | None = None
    ) -> "_Move":
        """Brings the pod of a row to a burst, as far as its quotas, now and later, allow."""
        try:
            group = self._tree.open(str(PurePosixPath(row.declared.cgroup).parent))
        except CgroupError:
            return _Move.NONE  # It is gone.
        with contextlib.closing(group):
            now = group.bandwidth()
            allowed_usec = now.quota_usec or 0
            if later_millicores is not None:
                later_usec = later_millicores * now.period_usec // MILLICORES_PER_CORE
                allowed_usec = min(allowed_usec, later_usec)
            return self._bring(group, min(burst_usec, allowed_usec))

    def _bring(self, group: CpuCgroup, burst_usec: int) -> "_Move":
        """Writes one burst where it differs."""
        before_usec = None
        try:
            before_usec = group.bandwidth().burst_usec
            if before_usec is None or before_usec == burst_usec:
                return _Move.NONE
            group.write_burst(burst_usec)
        except CgroupGoneError:
            return _Move.NONE
        except CgroupError as error:
            self._counters.count("burst_refused", error)
            is_above = before_usec is not None and before_usec > burst_usec
            return _Move.HELD if is_above else _Move.NONE
        return _Move.MOVED


class _Move(enum.Enum):
    """What became of one burst."""

    NONE = enum.auto()
    """It stays as it is, and is in nobody's way."""
    MOVED = enum.auto()
    HELD = enum.auto()
    """It could not be lowered."""


def _is_of(row: Row, uid: str) -> bool:
    return row.declared.pod_uid == uid
