"""The node's containers: what was declared of each, joined with its cgroup while that exists."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from mbcas_shim.cgroup import Bandwidth, CgroupTree, CpuCgroup, Identity
from mbcas_shim.counters import Counters
from mbcas_shim.errors import CgroupError, CgroupGoneError

MAX_HANDLE = 1_000_000  # The wire's bound.
MAX_CONTAINERS = 1000  # As many as a server takes from one node.
_LOOKS_FOR_ALL = 10  # Each look checks a tenth of the rows that raise no suspicion.

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cpu:
    """A request and a limit in millicores; None where there is none."""

    request_millicores: int | None = None
    limit_millicores: int | None = None


class Declared(Protocol):
    """A container as the node's source of containers has it; equal ones say the same."""

    @property
    def pod_uid(self) -> str: ...

    @property
    def name(self) -> str:
        """The container's, which with the pod's uid is the row's key."""

    @property
    def cgroup(self) -> str:
        """Its path below the cpu controller's mount; empty while it has none."""

    @property
    def run_id(self) -> str:
        """Which run of it that cgroup belongs to; empty where only the cgroup tells."""

    @property
    def admitted(self) -> Cpu | None:
        """What was admitted; None where the server keeps that, and its orders say it."""

    @property
    def is_restored_exactly(self) -> bool:
        """True where the fail-safe must not leave more than what was admitted."""

    @property
    def is_managed(self) -> bool:
        """True where the shim may write without being ordered to."""

    @property
    def outlives_cgroup(self) -> bool:
        """True where the row stays while the container is restarted."""


@dataclass(slots=True, eq=False)
class Row:
    """One container that is there. The kernel keeps its limit; its request only the shim knows."""

    handle: int
    declared: Declared
    cgroup: CpuCgroup
    container_id: str
    bandwidth: Bandwidth
    request_millicores: int | None
    admitted: Cpu
    restores_exactly: bool
    is_written: bool = False
    """True once anything of it was changed."""
    is_suspect: bool = False
    """True where reading found the cgroup gone: the next look at the cgroups decides."""
    is_asleep: bool = False
    """True while the container is restarted: its cgroup is gone, and it is not sampled."""
    _sent: tuple[Bandwidth, int] | None = field(default=None, repr=False)

    @property
    def is_managed(self) -> bool:
        """True where the shim may write without being ordered to: give back, take burst away."""
        return self.is_written or self.declared.is_managed

    def in_force(self) -> Cpu:
        """What the spec would say: what was last asked for, while the kernel enforces that."""
        limit = self.bandwidth.limit_millicores()
        if self._sent is not None and self._sent[0][:2] == self.bandwidth[:2]:
            limit = self._sent[1]
        return Cpu(self.request_millicores, limit)

    def note_sent(self, limit_millicores: int) -> None:
        """Remembers a limit as it was asked for, which the quota may have rounded."""
        self._sent = (self.bandwidth, limit_millicores)

    def read_bandwidth(self) -> bool:
        """Reads what the kernel enforces; true where that changed."""
        before, self.bandwidth = self.bandwidth, self.cgroup.bandwidth()
        return self.bandwidth != before

    def adopt(self, declared: Declared) -> None:
        """Takes over a new declaration of the same container."""
        self.declared = declared
        if declared.admitted is not None:
            self.admitted = declared.admitted
            self.restores_exactly = declared.is_restored_exactly


@dataclass(slots=True)
class InventoryChange:
    """What one look at the cgroups found."""

    appeared: list[Row] = field(default_factory=list)
    """New rows, and rows whose cgroup was replaced: their counters start anew."""
    redeclared: list[Row] = field(default_factory=list)
    undeclared: list[Row] = field(default_factory=list)
    """Rows no longer declared whose cgroup may live on; to be closed by the caller."""
    fell_asleep: list[Row] = field(default_factory=list)
    gone_handles: list[int] = field(default_factory=list)


class Inventory:
    """All rows, by (pod uid, container name) and by handle."""

    def __init__(self, tree: CgroupTree, counters: Counters, *, boot_id: str) -> None:
        self._tree = tree
        self._counters = counters
        self._boot_id = boot_id
        self._by_key: dict[tuple[str, str], Row] = {}
        self._awaited: set[str] = set()
        self._lives: dict[str, int] = {}
        self._last_handle = 0
        self._wanted: dict[tuple[str, str], Declared] = {}
        self._turn = 0

    @property
    def rows(self) -> Iterable[Row]:
        return self._by_key.values()

    def find(self, pod_uid: str, container: str) -> Row | None:
        return self._by_key.get((pod_uid, container))

    def declare(self, declared: Iterable[Declared]) -> InventoryChange:
        """Takes over a new list of containers."""
        self._wanted = {(item.pod_uid, item.name): item for item in declared}
        change = InventoryChange()
        for key in [key for key in self._by_key if key not in self._wanted]:
            row = self._by_key.pop(key)
            self._lives.pop(row.declared.cgroup, None)
            change.undeclared.append(row)
            change.gone_handles.append(row.handle)
        for key, row in self._by_key.items():
            item = self._wanted[key]
            row.is_suspect |= row.declared.cgroup != item.cgroup
            if row.declared != item and not row.is_suspect:
                row.adopt(item)
                change.redeclared.append(row)
        self._awaited &= {item.cgroup for item in self._wanted.values()}
        return change

    def refresh(self) -> InventoryChange:
        """Looks for cgroups that have appeared, vanished or been replaced.

        A kernel says of an open file that its group is gone, and such rows are looked at here at
        once; the others only in turn, because a look at all of them costs as much as a reading.
        """
        change = InventoryChange()
        self._turn = (self._turn + 1) % _LOOKS_FOR_ALL
        for index, (key, item) in enumerate(self._wanted.items()):
            row = self._by_key.get(key)
            if row is not None:
                is_checked = row.is_suspect or index % _LOOKS_FOR_ALL == self._turn
                if not is_checked:
                    continue
                if self._is_alive(row, item):
                    if row.declared != item:  # It came while the row was suspected in vain.
                        row.adopt(item)
                        change.redeclared.append(row)
                    continue
            self._replace(key, item, row, change)
        return change

    def _is_alive(self, row: Row, item: Declared) -> bool:
        if row.is_asleep or row.declared.cgroup != item.cgroup:
            return False
        try:
            row.is_suspect = self._tree.identity(item.cgroup) != row.cgroup.identity
        except CgroupError as error:
            self._counters.count("cgroup_unreadable", error)
        return not row.is_suspect

    def _replace(
        self, key: tuple[str, str], item: Declared, old: Row | None, change: InventoryChange
    ) -> None:
        row = self._open(item, old)
        if row is not None:
            self._by_key[key] = row
            change.appeared.append(row)
        elif old is not None and item.outlives_cgroup:
            _put_to_sleep(old, item, change)
            return  # Its files stay open: their numbers must not become another row's meanwhile.
        elif old is not None:
            del self._by_key[key]
            change.gone_handles.append(old.handle)
            _log.info("container gone cgroup=%s", item.cgroup)
        if old is not None:
            old.cgroup.close()

    def _open(self, item: Declared, old: Row | None) -> Row | None:
        if not item.cgroup:
            return None
        try:
            cgroup = self._tree.open(item.cgroup)
        except CgroupGoneError:
            if item.cgroup not in self._awaited:
                self._awaited.add(item.cgroup)
                _log.info("waiting for a cgroup to appear cgroup=%s", item.cgroup)
            return None
        except CgroupError as error:
            self._counters.count("cgroup_unusable", error)
            return None
        try:
            bandwidth = cgroup.bandwidth()
        except CgroupError as error:
            cgroup.close()
            self._counters.count("cgroup_unusable", error)
            return None
        self._awaited.discard(item.cgroup)
        row = Row(
            handle=self._next_handle() if old is None else old.handle,
            declared=item,
            cgroup=cgroup,
            container_id=item.run_id or self._container_id(item.cgroup, cgroup.identity),
            bandwidth=bandwidth,
            request_millicores=None if item.admitted is None else item.admitted.request_millicores,
            admitted=Cpu() if old is None else old.admitted,
            restores_exactly=item.is_restored_exactly if old is None else old.restores_exactly,
        )
        row.adopt(item)
        return row

    def _container_id(self, path: str, identity: Identity) -> str:
        # A file system may give a new directory the inode of an earlier one: count the lives.
        lives = self._lives[path] = self._lives.get(path, -1) + 1
        return f"{self._boot_id}:{identity.device}:{identity.inode}:{lives}"

    def _next_handle(self) -> int:
        # Rising numbers keep a handle from being removed and given out in one report.
        if self._last_handle >= MAX_HANDLE:
            taken = {row.handle for row in self._by_key.values()}
            return next(handle for handle in range(1, MAX_HANDLE + 1) if handle not in taken)
        self._last_handle += 1
        return self._last_handle


def _put_to_sleep(row: Row, item: Declared, change: InventoryChange) -> None:
    if row.declared != item:
        row.adopt(item)
        change.redeclared.append(row)
    if not row.is_asleep:
        row.is_asleep = row.is_suspect = True
        change.fell_asleep.append(row)
