import shutil
from dataclasses import dataclass
from pathlib import Path

from mbcas_shim.cgroup_tree import open_tree
from mbcas_shim.counters import Counters
from mbcas_shim.inventory import Cpu, Inventory, InventoryChange
from tests.mbcas_shim.fakes import VirtualClock, declare, make_inventory, make_v1, only_row


def looks(inventory: object, count: int = 10) -> InventoryChange:
    """As many looks as it takes to check every row; what they found together."""
    found = InventoryChange()
    for _ in range(count):
        change = inventory.refresh()  # type: ignore[attr-defined]  # An Inventory.
        found.appeared += change.appeared
        found.gone_handles += change.gone_handles
        found.fell_asleep += change.fell_asleep
    return found


def test_a_cgroup_that_is_not_there_yet_is_awaited_and_found_at_the_next_look(
    tmp_path: Path,
) -> None:
    make_v1(tmp_path, "other")
    inventory = make_inventory(tmp_path, declare())
    assert list(inventory.rows) == []

    make_v1(tmp_path)
    change = inventory.refresh()

    assert [row.declared.name for row in change.appeared] == ["api"]


def test_a_vanished_cgroup_leaves_the_inventory(tmp_path: Path) -> None:
    folder = make_v1(tmp_path)
    inventory = make_inventory(tmp_path, declare())
    handle = only_row(inventory).handle

    shutil.rmtree(folder)
    change = looks(inventory)

    assert change.gone_handles == [handle]
    assert list(inventory.rows) == []


def test_a_suspect_is_checked_at_the_next_look(tmp_path: Path) -> None:
    folder = make_v1(tmp_path)
    inventory = make_inventory(tmp_path, declare())
    row = only_row(inventory)

    shutil.rmtree(folder)
    row.is_suspect = True
    change = inventory.refresh()

    assert change.gone_handles == [row.handle]


def test_a_path_that_is_reused_is_a_new_container_with_the_old_handle(tmp_path: Path) -> None:
    folder = make_v1(tmp_path)
    inventory = make_inventory(tmp_path, declare())
    before = only_row(inventory)

    shutil.rmtree(folder)
    make_v1(tmp_path)
    before.is_suspect = True
    inventory.refresh()
    shutil.rmtree(folder)
    looks(inventory)
    make_v1(tmp_path)
    inventory.refresh()

    after = only_row(inventory)
    assert after.container_id != before.container_id


def test_a_container_taken_out_of_the_file_is_handed_out_to_be_released(tmp_path: Path) -> None:
    make_v1(tmp_path)
    inventory = make_inventory(tmp_path, declare())
    row = only_row(inventory)

    change = inventory.declare([])

    assert change.undeclared == [row]
    assert change.gone_handles == [row.handle]
    assert list(inventory.rows) == []


def test_a_changed_declaration_is_taken_over_without_a_new_life(tmp_path: Path) -> None:
    make_v1(tmp_path)
    inventory = make_inventory(tmp_path, declare())
    row = only_row(inventory)

    change = inventory.declare([declare(limit="500m")])

    assert change.redeclared == [row]
    assert row.admitted.limit_millicores == 500
    assert inventory.refresh().appeared == []


def test_a_container_moved_to_another_cgroup_starts_a_new_life(tmp_path: Path) -> None:
    make_v1(tmp_path, "one")
    make_v1(tmp_path, "two")
    inventory = make_inventory(tmp_path, declare(cgroup="one"))
    before = only_row(inventory)

    inventory.declare([declare(cgroup="two")])
    inventory.refresh()

    after = only_row(inventory)
    assert after.handle == before.handle
    assert after.container_id != before.container_id
    assert after.cgroup.path.name == "two"


def test_an_unreadable_cgroup_does_not_hide_the_others(tmp_path: Path) -> None:
    make_v1(tmp_path, "bad", **{"cpu.cfs_quota_us": "garbage"})
    make_v1(tmp_path, "good")

    inventory = make_inventory(tmp_path, declare("bad"), declare("good"))

    assert [row.declared.name for row in inventory.rows] == ["good"]


def test_the_limit_in_force_is_the_one_sent_until_somebody_else_changes_it(tmp_path: Path) -> None:
    folder = make_v1(tmp_path, **{"cpu.cfs_quota_us": "1000", "cpu.cfs_period_us": "99999"})
    row = only_row(make_inventory(tmp_path, declare()))

    row.note_sent(7)
    sent = row.in_force().limit_millicores
    (folder / "cpu.cfs_quota_us").write_text("49999")
    row.read_bandwidth()

    assert sent == 7
    assert row.in_force().limit_millicores == 500


def test_a_row_that_was_suspected_in_vain_takes_over_what_was_declared_meanwhile(
    tmp_path: Path,
) -> None:
    make_v1(tmp_path)
    inventory = make_inventory(tmp_path, declare())
    row = only_row(inventory)
    row.is_suspect = True

    inventory.declare([declare(priority="critical")])
    change = inventory.refresh()

    assert change.redeclared == [row]
    assert row.declared == declare(priority="critical")


@dataclass(frozen=True)
class Restarting:
    """A container whose runs have cgroups of their own, as those of a pod."""

    cgroup: str
    run_id: str
    word: str = ""
    pod_uid: str = "uid"
    name: str = "main"
    admitted: Cpu | None = None
    is_restored_exactly: bool = False
    is_managed: bool = False
    outlives_cgroup: bool = True


def restarting_inventory(root: Path) -> Inventory:
    inventory = Inventory(open_tree(root), Counters(VirtualClock()), boot_id="boot")
    inventory.declare([Restarting("one", "run-1")])
    inventory.refresh()
    return inventory


def test_a_container_that_is_restarted_keeps_its_row_asleep_until_its_next_run(
    tmp_path: Path,
) -> None:
    folder = make_v1(tmp_path, "one")
    inventory = restarting_inventory(tmp_path)
    row = only_row(inventory)
    row.admitted = Cpu(100, 200)

    shutil.rmtree(folder)
    asleep = [looks(inventory), looks(inventory)]
    inventory.declare([Restarting("two", "run-2")])
    inventory.refresh()
    make_v1(tmp_path, "two")
    change = inventory.refresh()

    assert [each.fell_asleep for each in asleep] == [[row], []]
    assert [each.gone_handles for each in asleep] == [[], []]
    (after,) = change.appeared
    assert (after.handle, after.container_id) == (row.handle, "run-2")
    assert after.admitted == Cpu(100, 200)
    assert not after.is_asleep


def test_what_is_declared_of_a_sleeping_row_is_taken_over_once(tmp_path: Path) -> None:
    folder = make_v1(tmp_path, "one")
    inventory = restarting_inventory(tmp_path)
    row = only_row(inventory)
    shutil.rmtree(folder)
    looks(inventory)

    inventory.declare([Restarting("", "", word="waits")])
    changes = [inventory.refresh(), inventory.refresh()]

    assert [change.redeclared for change in changes] == [[row], []]
    assert row.container_id == "run-1"


def test_a_sleeping_row_that_is_no_longer_declared_is_gone(tmp_path: Path) -> None:
    folder = make_v1(tmp_path, "one")
    inventory = restarting_inventory(tmp_path)
    row = only_row(inventory)
    shutil.rmtree(folder)
    looks(inventory)

    change = inventory.declare([])

    assert change.undeclared == [row]
    assert change.gone_handles == [row.handle]


def test_a_container_without_a_cgroup_is_no_row(tmp_path: Path) -> None:
    make_v1(tmp_path, "one")
    inventory = Inventory(open_tree(tmp_path), Counters(VirtualClock()), boot_id="boot")

    inventory.declare([Restarting("", "")])
    inventory.refresh()

    assert list(inventory.rows) == []
