"""What a server wrote down is decided again, byte for byte; what is no recording is refused."""

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.effects import Effect
from mbcas_core.events import Event, Mode, Policy
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds
from mbcas_loadtest.commands import app
from mbcas_loadtest.errors import SimulationError
from mbcas_loadtest.simulation.recording import replay_decisions
from mbcas_server.recorder import RecordingCore
from tests.mbcas_core import world
from tests.mbcas_server import fakes

SEED, SECONDS = 10, 40
AUTO = Parameters(mode=Mode.AUTO, policy=Policy.HARD_QUOTA, startup_grace_seconds=0.0)


class Listener(Rounds):
    """A core that keeps what it is told."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.told: list[Event] = []

    def handle(self, event: Event) -> list[Effect]:
        self.told.append(event)
        return super().handle(event)


@cache
def events() -> tuple[Parameters, list[Event]]:
    """What the core of a simulated cluster is told in some troubled seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "Rounds", Listener)
        cluster = world.World(SEED)
        for _ in range(SECONDS):
            cluster.second()
    assert isinstance(cluster.rounds, Listener)
    return cluster.rounds.parameters, cluster.rounds.told


def recorded(path: Path, *, count: int = 30, max_bytes: int = 1 << 30) -> Path:
    """A recording of the first of those events."""
    parameters, told = events()
    core = RecordingCore(Rounds(parameters), path, max_bytes=max_bytes)
    for event in told[:count]:
        core.handle(event)
    core.close()
    return path


def tampered(path: Path, change: Callable[[list[str]], None]) -> Path:
    lines = recorded(path).read_text().splitlines()
    change(lines)
    path.write_text("".join(line + "\n" for line in lines))
    return path


async def test_a_live_run_is_decided_again_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    core = RecordingCore(Rounds(AUTO), path, max_bytes=1 << 30)
    async with fakes.server(core) as server:  # type: ignore[arg-type] # The real one does as well.
        shim = fakes.Shim(server.channel)
        for number in range(1, 6):
            usage = 400_000 * number
            await shim.send(fakes.report(sequence=number, samples=sampled(number, usage)))
            await fakes.eventually(partial(ticked, core, 3 * number))
        await shim.read_until("orders")
    core.close()

    replayed = replay_decisions(path)

    assert replayed.difference == ""
    assert replayed.events > 15
    assert replayed.orders >= 1


def ticked(core: RecordingCore, count: int) -> bool:
    return core.tick_count > count


def sampled(second: int, usage: int) -> pb.Samples:
    return fakes.samples((1,), usage=usage, seconds=second)


def test_a_troubled_cluster_is_decided_again_byte_for_byte(tmp_path: Path) -> None:
    replayed = replay_decisions(recorded(tmp_path / "run.jsonl", count=10_000))

    assert replayed.difference == ""
    assert replayed.orders > 5


def test_the_first_other_decision_is_shown_with_its_line(tmp_path: Path) -> None:
    path = recorded(tmp_path / "run.jsonl", count=10_000)
    lines = path.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if '"order_id"' in line.split('"effects"')[-1])
    head, effects = lines[number].split('"effects"')
    lines[number] = head + '"effects"' + effects.replace('"order_id":', '"order_id":9', 1)
    path.write_text("\n".join(lines) + "\n")

    answer = CliRunner().invoke(app, ["replay-decisions", str(path)])

    assert answer.exit_code == 1
    assert f"line {number + 1}" in answer.output


def test_a_recording_ends_at_its_bound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = recorded(tmp_path / "run.jsonl", max_bytes=20_000)

    assert path.stat().st_size <= 20_000
    assert caplog.text.count("recording ended") == 1
    assert replay_decisions(path).difference == ""


def test_a_line_that_was_cut_off_is_the_end(tmp_path: Path) -> None:
    path = recorded(tmp_path / "run.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])

    cut = replay_decisions(path)

    path.write_bytes(whole)
    assert cut.events == replay_decisions(path).events - 1


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ({"event": {"is": "TickDue", "time_seconds": "soon"}, "effects": []}, "event.time_seconds"),
        ({"event": {"is": "Earthquake"}, "effects": []}, "event.is"),
        ({"event": {"is": "TickDue"}, "effects": []}, "event.time_seconds"),
        ({"event": {"is": "TickDue", "time_seconds": 1.0, "x": 1}, "effects": []}, "event.x"),
        ({"effects": []}, "event"),
        ({"learned": {"version": [1]}}, "learned.version"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(
    tmp_path: Path, line: dict[str, object], field: str
) -> None:
    def change(lines: list[str]) -> None:
        lines[4] = json.dumps(line)

    path = tampered(tmp_path / "run.jsonl", change)

    with pytest.raises(SimulationError, match=rf"run.jsonl, line 5: {field}"):
        replay_decisions(path)


@pytest.mark.parametrize(
    "first", ["", "[]", "no json", '{"format":"mbcas-recording","version":99,"parameters":{}}']
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, first: str) -> None:
    path = tmp_path / "other.txt"
    path.write_text(first + "\n" if first else "")

    with pytest.raises(SimulationError, match="line 1"):
        replay_decisions(path)
