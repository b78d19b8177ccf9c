"""The audit passes what is right and names what is wrong: orders."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_core.market.audit_orders import ORDER_PROPERTIES
from mbcas_core.market.audit_part import Part
from mbcas_core.market.orders import Grants
from tests.mbcas_core.market.test_orders import Books, books, rows_of

EXAMPLE = Books(
    rows_of(
        reservation=([200, 100], [260, 100], [400, 150]),
        ceiling=([300, 150], [0, 0], [400, 200]),
    ),
    np.array([400]),
    np.array([500]),
)
"""Slack 100 and 50. Granted are 80 and 20 of reservations, and of ceilings what is left."""


def granted(**arrays: list[int]) -> Callable[[Grants], Grants]:
    changed = {name: np.array(values) for name, values in arrays.items()}
    return lambda right: replace(right, **changed)


BROKEN = [
    (granted(reservation_slack_millicores=[101]), "slack-wrong"),
    (granted(reservation_millicores=[81, 20]), "limit-exceeded"),
    (granted(ceiling_millicores=[50, 50]), "limit-exceeded"),
    (granted(reservation_millicores=[40, 60]), "grant-beyond-target"),
    (granted(reservation_millicores=[120, -20]), "grant-beyond-target"),
    (granted(ceiling_millicores=[-10, 60]), "grant-beyond-target"),
    (granted(reservation_millicores=[50, 50]), "owed-last"),
    (granted(reservation_millicores=[70, 20]), "slack-unspent"),
    (granted(ceiling_millicores=[20, 20]), "slack-unspent"),
]


def test_the_example_is_right() -> None:
    grants = EXAMPLE.clear()

    assert grants.reservation_millicores.tolist() == [80, 20]
    assert EXAMPLE.audit(grants) == []


@pytest.mark.parametrize(("break_it", "name"), BROKEN)
def test_broken_grants_are_found_by_the_name_of_what_is_broken(
    break_it: Callable[[Grants], Grants], name: str
) -> None:
    found = EXAMPLE.audit(break_it(EXAMPLE.clear()))

    assert name in {finding.property for finding in found}


def test_a_reservation_above_its_ceiling_is_found() -> None:
    rows = rows_of(reservation=([200], [300], [300]), ceiling=([200], [0], [300]))
    book = Books(rows, np.array([1000]), np.array([1000]))

    found = book.audit(granted(ceiling_millicores=[50])(book.clear()))

    assert "ceiling-under-reservation" in {finding.property for finding in found}


def test_every_property_of_orders_has_been_broken() -> None:
    broken = {name for _, name in BROKEN} | {"ceiling-under-reservation"}

    assert broken == set(ORDER_PROPERTIES)


def test_a_row_that_its_ceiling_holds_down_explains_what_stays_free() -> None:
    rows = rows_of(reservation=([500], [900], [900]), ceiling=([500], [0], [900]), hard_quota=True)
    book = Books(rows, np.array([1000]), np.array([550]))

    grants = book.clear()

    assert grants.reservation_millicores.tolist() == [50]
    assert book.audit(grants) == []


@given(books(), st.data())
def test_nothing_is_found_in_a_part_of_what_was_granted(book: Books, data: st.DataObject) -> None:
    nodes = book.reservation_limit.size
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=nodes, max_size=nodes)))
    part = Part.of(keep, node_of_pod=book.rows.node, pod_of_row=book.rows.pod)

    grants = book.clear()

    alone = replace(
        book,
        rows=part.order_rows(book.rows),
        reservation_limit=book.reservation_limit[part.nodes],
        ceiling_limit=book.ceiling_limit[part.nodes],
    )
    assert alone.audit(part.grants(grants)) == []
