"""Scenarios as scripts: what the core answers is compared with what the script says.

`MBCAS_GOLDEN=write pytest tests/golden` writes the answers anew; read the difference before you
commit it.
"""

import os
from pathlib import Path

import pytest

from tests.golden.replay import Replay

SCRIPTS = sorted((Path(__file__).parent / "rounds").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_the_core_answers_as_the_script_says(path: Path) -> None:
    script = path.read_text(encoding="utf-8")

    answered = Replay().run(script)

    if os.environ.get("MBCAS_GOLDEN") == "write":
        path.write_text(answered, encoding="utf-8")
    else:
        assert answered.splitlines() == script.splitlines()
