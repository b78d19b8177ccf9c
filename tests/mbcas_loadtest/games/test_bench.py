"""The command that plays all games."""

import json
from pathlib import Path

from typer.testing import CliRunner

from mbcas_loadtest.bench.games import MECHANISMS
from mbcas_loadtest.commands import app


def test_every_mechanism_has_a_table_with_every_attack(tmp_path: Path) -> None:
    path = tmp_path / "games.json"
    size = ["--games", "3", "--rounds", "2", "--seed", "7"]

    result = CliRunner().invoke(
        app, ["bench", "games", "--level", "needs", *size, "--json", str(path)]
    )

    assert result.exit_code == 0
    tables = json.loads(path.read_text())["needs"]["tables"]
    assert list(tables) == [mechanism.name for mechanism in MECHANISMS]
    assert all(len(table["attacks"]) >= 10 for table in tables.values())
    assert "claim critical, unbounded" in result.stdout


def test_a_level_that_there_is_not_is_named() -> None:
    result = CliRunner().invoke(app, ["bench", "games", "--level", "dreams"])

    assert result.exit_code == 2
    assert "--level dreams: must be one of needs, core" in result.output
