"""The table finds, adds and removes; groups agree with plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_core.fleet import Fleet, FleetFullError, Names
from mbcas_core.table import Table, column
from mbcas_core.units import FloatArray


class Notes(Table):
    """A table of some other module."""

    value: FloatArray = column(np.float64, fill=7.0)
    pair: FloatArray = column(np.float64, width=(2,))


def fleet(*, max_nodes: int = 10, max_rows: int = 500) -> tuple[Fleet, Notes]:
    notes = Notes()
    return Fleet(row_tables=[notes], max_nodes=max_nodes, max_rows=max_rows), notes


def name(pod: str, container: str = "main") -> Names:
    return Names(pod_uid=pod, namespace="shop", pod=pod, container=container, container_id="run")


def test_a_row_is_found_by_key_and_by_handle() -> None:
    table, _ = fleet()
    node = table.add_node("n1")

    row = table.add_row(node, 5, name("a"))

    assert table.find_row(node, "a", "main") == row
    assert table.row_of_handle(node, 5) == row
    assert table.rows_of_handles(node, np.array([5, 6], np.int32)).tolist() == [row, -1]


def test_a_handle_names_the_row_that_had_it_last() -> None:
    table, _ = fleet()
    node = table.add_node("n1")
    first, second = table.add_row(node, 1, name("a")), table.add_row(node, 2, name("b"))
    handles = np.array([1, 2], np.int32)
    assert table.rows_of_handles(node, handles).tolist() == [first, second]

    table.set_handle(second, 1)
    assert table.rows_of_handles(node, handles).tolist() == [second, -1]

    table.remove_row(first)  # It must not take the handle of the other one with it.
    assert table.row_of_handle(node, 1) == second
    table.forget_handles(node)
    assert table.rows_of_handles(node, handles).tolist() == [-1, -1]


def test_a_row_that_is_used_again_is_new() -> None:
    table, notes = fleet()
    node = table.add_node("n1")
    row = table.add_row(node, 1, name("a"))
    notes.value[row], notes.pair[row] = 1.0, 2.0
    table.pods.order_time[table.rows.pod[row]] = 99.0

    table.remove_row(row)
    again = table.add_row(node, 1, name("b"))

    assert again == row
    assert notes.value[row] == 7.0
    assert notes.pair[row].tolist() == [0.0, 0.0]
    assert table.pods.order_time[table.rows.pod[row]] == -np.inf


def test_growing_keeps_what_is_there() -> None:
    table, notes = fleet()
    node = table.add_node("n1")
    rows = []
    for i in range(200):
        rows.append(table.add_row(node, i, name(str(i))))
        notes.value[rows[-1]] = i

    assert notes.value[rows].tolist() == list(range(200))
    assert notes.capacity == table.rows.capacity == 256


def test_a_pod_goes_with_its_last_container() -> None:
    table, _ = fleet()
    node = table.add_node("n1")
    one, two = table.add_row(node, 1, name("a", "x")), table.add_row(node, 2, name("a", "y"))
    pod = int(table.rows.pod[one])
    assert sorted(table.rows_of_pod(one).tolist()) == sorted([one, two])

    table.remove_row(one)
    assert table.pods.alive[pod]
    table.remove_row(two)

    assert not table.pods.alive[pod]


def test_a_pod_of_the_same_uid_on_another_node_is_another_pod() -> None:
    table, _ = fleet()
    one = table.add_row(table.add_node("n1"), 1, name("a"))
    two = table.add_row(table.add_node("n2"), 1, name("a"))

    assert table.rows.pod[one] != table.rows.pod[two]


def test_the_bounds_are_kept_and_leave_the_table_as_it_was() -> None:
    table, _ = fleet(max_nodes=1, max_rows=2)
    node = table.add_node("n1")
    for i in range(2):
        table.add_row(node, i, name(str(i)))

    with pytest.raises(FleetFullError, match="there are 1 nodes"):
        table.add_node("n2")
    with pytest.raises(FleetFullError, match="there are 2 containers"):
        table.add_row(node, 9, name("c"))

    assert table.find_node("n2") is None
    assert table.find_row(node, "c", "main") is None
    assert (table.node_count, table.row_count) == (1, 2)
    table.remove_node(node)
    assert (table.node_count, table.row_count) == (0, 0)
    table.add_node("n2")


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=60),
    leavers=st.sets(st.integers(0, 59)),
    chosen=st.sets(st.integers(0, 4), min_size=1),
)
def test_a_selection_agrees_with_plain_loops(
    arrivals: list[tuple[int, int]], leavers: set[int], chosen: set[int]
) -> None:
    table, _ = fleet()
    nodes = [table.add_node(f"n{i}") for i in range(5)]
    rows = [
        table.add_row(nodes[node], i, name(f"p{pod}", f"c{i}"))
        for i, (node, pod) in enumerate(arrivals)
    ]
    there = {}
    for i, (node, pod) in enumerate(arrivals):
        if i in leavers:
            table.remove_row(rows[i])
        else:
            there[rows[i]] = (nodes[node], f"p{pod}")

    found = table.select(np.array(sorted(chosen)))

    assert sorted(found.rows.tolist()) == sorted(r for r, (n, _) in there.items() if n in chosen)
    for row, node, pod in zip(found.rows, found.node_of_row, found.pod_of_row, strict=True):
        assert found.nodes[node] == there[int(row)][0]
        assert table.names[int(row)].pod_uid == there[int(row)][1]
        assert found.node_of_pod[pod] == node
        assert found.pods[pod] == table.rows.pod[row]
    assert (np.diff(found.node_of_row) >= 0).all()
    assert (np.diff(found.pod_of_row) >= 0).all()
    assert len(set(found.pods.tolist())) == found.pods.size
