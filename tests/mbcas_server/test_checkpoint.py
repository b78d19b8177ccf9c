"""What was learned outlives the server; a file that cannot be used is named and left alone."""

import logging
from pathlib import Path

import numpy as np
import pytest

from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds
from mbcas_server.checkpoint import Checkpoint, IgnoredError, read_file, write_file
from mbcas_server.core import Core, RoundsCore
from mbcas_server.core_thread import CoreThread
from mbcas_server.leadership import Alone
from mbcas_server.metrics import Metrics
from tests.mbcas_server.fakes import FakeCore, Inline, VirtualClock, server

ARRAYS = {"version": np.array([1]), "names": np.array(["web", "db"]), "need": np.array([1.5, 2.5])}


def checkpoint(path: Path, core: Core) -> Checkpoint:
    return Checkpoint(
        path=path,
        period_seconds=60.0,
        core=CoreThread(core, Inline()),
        leadership=Alone(1),
        clock=VirtualClock(),
        metrics=Metrics(),
    )


def counted(found: Checkpoint, result: str) -> float:
    value: float = found.metrics.checkpoints.labels(result=result)._value.get()
    return value


def reason_of(path: Path) -> str:
    with pytest.raises(IgnoredError) as caught:
        read_file(path)
    return caught.value.reason


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "learned"
    write_file(path, ARRAYS)

    found = read_file(path)

    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["learned"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_named_so(tmp_path: Path, share: float) -> None:
    path = tmp_path / "learned"
    write_file(path, ARRAYS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    assert reason_of(path) in {"truncated", "corrupt"}


def test_each_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "learned"
    write_file(path, ARRAYS)
    content = path.read_bytes()

    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        assert reason_of(path) in {"corrupt", "truncated", "newer", "refused"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "corrupt"),
        (b"something else\n", "corrupt"),
        (b"mbcas-checkpoint 2 whatever comes\n", "newer"),
        (b"mbcas-checkpoint 0 10 abc\n", "refused"),
        (b"mbcas-checkpoint 1 10\n", "corrupt"),
        (b"mbcas-checkpoint 1 10 abc\n12345", "truncated"),
        (b"x" * 10_000, "corrupt"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "learned"
    path.write_bytes(content)

    assert reason_of(path) == reason


def test_objects_are_never_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "learned"
    write_file(path, {"evil": np.array([{"a": 1}], dtype=object)})

    assert reason_of(path) == "corrupt"


def test_a_folder_or_nothing_there_is_named(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "nowhere") == "missing"
    assert reason_of(tmp_path) == "unreadable"


async def test_the_core_takes_in_what_the_last_server_wrote(tmp_path: Path) -> None:
    path = tmp_path / "learned"
    first = checkpoint(path, RoundsCore(Rounds(Parameters())))
    await first.read()
    await first.write()

    second = checkpoint(path, RoundsCore(Rounds(Parameters())))
    await second.read()

    assert counted(first, "missing") == 1
    assert counted(first, "written") == 1
    assert counted(second, "read") == 1


async def test_what_the_core_refuses_is_ignored_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "learned"
    write_file(path, {"version": np.array([99])})
    found = checkpoint(path, RoundsCore(Rounds(Parameters())))

    with caplog.at_level(logging.INFO):
        await found.read()

    assert counted(found, "refused") == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "version: is 99" in caplog.text


async def test_nothing_is_written_before_it_was_read_nor_by_a_standby(tmp_path: Path) -> None:
    path = tmp_path / "learned"
    found = checkpoint(path, FakeCore())
    await found.write()
    assert not path.exists()

    await found.read()
    found.leadership.leads = False  # type: ignore[misc] # As a server that stands by.
    await found.write()
    assert not path.exists()


async def test_a_full_disk_leaves_the_old_file_and_the_server_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "learned"
    found = checkpoint(path, FakeCore())
    await found.read()

    await found.write()

    assert counted(found, "failed") == 1


async def test_a_server_writes_at_its_end_and_reads_at_its_start(tmp_path: Path) -> None:
    path = tmp_path / "learned"
    core = FakeCore()
    core.arrays = {"version": np.array([7])}
    async with server(core, checkpoint_path=path):
        assert not path.exists()

    core = FakeCore()
    async with server(core, checkpoint_path=path):
        assert core.arrays["version"].tolist() == [7]


async def test_a_damaged_file_does_not_keep_a_server_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "learned"
    path.write_bytes(b"mbcas-checkpoint 1 10 abc\n12345")

    async with server(checkpoint_path=path) as world:
        assert world.running.metrics.checkpoints.labels(result="truncated")._value.get() == 1
