import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbcas_loadtest.model.tree import Group


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    made = Group(tmp_path / "api", 300, burst=False)
    yield made
    made.close()


def test_a_new_group_has_what_was_declared(group: Group) -> None:
    settings, was_written = group.settings()

    assert (settings.quota_usec, settings.burst_usec) == (30_000, 0)
    assert not was_written


def test_a_write_is_seen_once_even_if_it_changes_nothing(group: Group) -> None:
    path = group.path / "cpu.max"
    path.write_text("30000 100000")
    os.utime(path, ns=(1, 1))

    first, second = group.settings()[1], group.settings()[1]

    assert (first, second) == (True, False)


def test_max_is_no_quota(group: Group) -> None:
    (group.path / "cpu.max").write_text("max 100000")

    assert group.settings()[0].quota_usec == math.inf


@pytest.mark.parametrize("text", ["", "nonsense", "-5 100000", "0 100000"])
def test_what_is_no_quota_leaves_the_last_one_in_force(group: Group, text: str) -> None:
    (group.path / "cpu.max").write_text(text)

    assert group.settings()[0].quota_usec == 30_000


def test_burst_credit_is_never_above_the_quota(group: Group) -> None:
    (group.path / "cpu.max.burst").write_text("90000")

    assert group.settings()[0].burst_usec == 30_000


def test_a_reader_with_an_open_file_sees_the_new_counters(group: Group) -> None:
    group.write_counters({"usage_usec": 1})

    with (group.path / "cpu.stat").open() as file:
        group.write_counters({"usage_usec": 22})
        text = file.read()

    assert text == "usage_usec 22\n"
