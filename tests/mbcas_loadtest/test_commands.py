import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mbcas_loadtest.bench import commands as bench_commands
from mbcas_loadtest.commands import app
from mbcas_loadtest.errors import DemoError, Interrupted


@pytest.fixture
def surges_asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Puts fixed figures in the place of every benchmark."""
    asked: list[int] = []
    for name in ("clearing", "few_properties", "few_incentives", "server", "shim"):
        monkeypatch.setattr(bench_commands, f"_{name}", lambda name=name: {"of": name})

    def reaction(surges: int) -> dict[str, float]:
        asked.append(surges)
        return {"p95": 2}

    monkeypatch.setattr(bench_commands, "_reaction", reaction)
    return asked


def test_without_a_name_every_benchmark_is_in_one_object(
    tmp_path: Path, surges_asked: list[int]
) -> None:
    path = tmp_path / "all.json"

    result = CliRunner().invoke(app, ["bench", "--json", str(path)])

    assert result.exit_code == 0
    assert json.loads(path.read_text()) == {
        "clearing": {"of": "clearing"},
        "properties": {"of": "few_properties"},
        "incentives": {"of": "few_incentives"},
        "server": {"of": "server"},
        "shim": {"of": "shim"},
        "reaction": {"p95": 2},
    }
    assert surges_asked == [30]


def test_reactions_that_cannot_be_measured_cost_no_other_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, surges_asked: list[int]
) -> None:
    del surges_asked

    def refuse(surges: int) -> None:
        raise DemoError(f"no cgroups for {surges} surges")

    monkeypatch.setattr(bench_commands, "_reaction", refuse)
    path = tmp_path / "all.json"

    result = CliRunner().invoke(app, ["bench", "--json", str(path)])

    assert result.exit_code == 0
    assert "no cgroups for 30 surges" in result.output
    assert json.loads(path.read_text())["reaction"] is None
    assert json.loads(path.read_text())["shim"] == {"of": "shim"}


def test_a_benchmark_with_a_name_runs_alone(surges_asked: list[int]) -> None:
    result = CliRunner().invoke(app, ["bench", "reaction", "--surges", "8"])

    assert json.loads(result.output) == {"p95": 2}
    assert surges_asked == [8]


def test_an_interrupted_benchmark_ends_as_a_shell_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(surges: int) -> None:
        del surges
        raise Interrupted

    monkeypatch.setattr("mbcas_loadtest.bench.reaction.bench_reaction", interrupt)

    result = CliRunner().invoke(app, ["bench", "reaction"])

    assert result.exit_code == 130
