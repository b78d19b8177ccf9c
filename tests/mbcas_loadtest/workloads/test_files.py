"""Scenario files: what they draw, and how a mistake in one is named."""

import inspect
import textwrap
from pathlib import Path

import numpy as np
import pytest

from mbcas_loadtest.workloads import files
from mbcas_loadtest.workloads.files import read_scenario
from mbcas_loadtest.workloads.scenario import draw_world
from mbcas_loadtest.workloads.yaml_lines import ScenarioFileError

GOOD = """
scenario: my-shop
node_cpus: 4
containers:
  - name: web
    request_millicores: 500
    load: {kind: constant, mean_millicores: {from: 100, to: 300}}
    noise: {kind: gamma, cv: 0.1}
"""


def _read(folder: Path, text: str) -> str:
    path = folder / "shop.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioFileError) as refusal:
        read_scenario(path)
    return str(refusal.value)


def test_the_example_of_the_docstring_is_drawn(tmp_path: Path) -> None:
    text = inspect.getdoc(files) or ""
    example = text[text.index("    scenario:") : text.index("Any number of a load")]
    path = tmp_path / "shop.yaml"
    path.write_text(textwrap.dedent(example))

    world = draw_world(read_scenario(path), [0, 1], seconds=60)

    assert world.declared.names == ("web-0", "web-1", "cron")
    assert world.declared.cpus == 8
    assert (world.arrivals_usec.mean(axis=0) > 0).all()


def test_amounts_are_drawn_for_each_container_and_seed(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(GOOD.replace("name: web", "name: web\n    count: 3"))

    world = draw_world(read_scenario(path), range(5), seconds=60)

    means = world.arrivals_usec.mean(axis=0) / 100
    assert np.unique(means.round()).size == 15
    assert ((means > 95) & (means < 305)).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("mean_millicores:", "mean_cores:"), "shop.yaml:7: containers[0].load.mean_cores: is not"),
        (("500", "500m"), "shop.yaml:6: containers[0].request_millicores: Input should be a valid"),
        (("500", "0.5"), "shop.yaml:6: containers[0].request_millicores: Input should be a valid"),
        (("500", "-500"), "shop.yaml:6: containers[0].request_millicores: Input should be greater"),
        (("cv: 0.1", "cv: .nan"), "shop.yaml:8: containers[0].noise.cv: Input should be a finite"),
        (("cv: 0.1", "cv: -1"), "shop.yaml:8: containers[0].noise.cv: Input should be greater"),
        (("cv: 0.1", "cv: 100%"), "shop.yaml:8: containers[0].noise.cv: Input should be a valid"),
        (("from: 100", "from: 900"), "shop.yaml:7: containers[0].load.mean_millicores: from 900"),
        (("gamma", "normal"), "shop.yaml:8: containers[0].noise: Input tag 'normal'"),
        (("node_cpus: 4", "node_cpu: 4"), "shop.yaml:3: node_cpu: is not known here; is node_cpus"),
        (("node_cpus: 4\n", ""), "shop.yaml:2: the file: has no node_cpus"),
        (("name: web", "name: Web"), "shop.yaml:5: containers[0].name: String should match"),
        (("node_cpus: 4", "seconds: 60\nseconds: 70"), "shop.yaml:4: seconds: is there twice"),
        (("node_cpus: 4", "node_cpus: 4\nseconds: 300"), "warmup_seconds is 600, must be below"),
        (("web", "web\n    limit_millicores: 400"), "limit_millicores is 400, below"),
        (("node_cpus: 4", "node_cpus: " + "9" * 5_000), "shop.yaml:3: node_cpus: has 5000 digits"),
        (("node_cpus: 4", "node_cpus: " + "9" * 40), "shop.yaml:3: node_cpus: Input should be"),
        (("cv: 0.1", "cv: " + "9" * 40), "shop.yaml:8: containers[0].noise.cv: Input should be"),
        (("node_cpus: 4", "node_cpus: \u0664"), "shop.yaml:3: node_cpus: Input should be"),
        (("node_cpus: 4", "node_cpus: 1_0"), "shop.yaml:3: node_cpus: Input should be"),
        (("node_cpus: 4", "node_cpus: 4\nfaults: {deferred_ratio: 5}"), "faults.deferred_ratio:"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_field(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    assert change[0] in GOOD

    assert said in _read(tmp_path, GOOD.replace(*change))


def test_yaml_surprises_are_refused(tmp_path: Path) -> None:
    assert "is an alias" in _read(tmp_path, "a: &x [1]\nb: *x\n")
    assert "has more than" in _read(tmp_path, "#" * (1 << 20) + "\na: 1")
    assert "is nested deeper" in _read(tmp_path, "[" * 50 + "]" * 50)
    assert "is empty" in _read(tmp_path, "# nothing\n")
    # YAML 1.1 would read 1:30 as ninety.
    minutes = GOOD + "seconds: 1:30\n"
    assert "seconds: Input should be a valid integer" in _read(tmp_path, minutes)
    assert "shop.yaml:2: is not YAML: " in _read(tmp_path, "a: [1\nb: 2")
    with pytest.raises(ScenarioFileError, match="cannot be read"):
        read_scenario(tmp_path / "absent.yaml")


@pytest.mark.parametrize("character", [b"\xff", b"\x01"])
def test_the_line_of_what_is_no_text_is_named(tmp_path: Path, character: bytes) -> None:
    path = tmp_path / "shop.yaml"
    path.write_bytes(GOOD.encode() + "# é\n".encode() + b"# " + character + b"\n")

    with pytest.raises(ScenarioFileError, match=r"shop.yaml:10: is not YAML: [^\n]*$"):
        read_scenario(path)


def test_of_many_mistakes_the_first_are_named(tmp_path: Path) -> None:
    said = _read(tmp_path, GOOD + "".join(f"x{i}: 1\n" for i in range(500)))

    assert len(said.splitlines()) == files.REASONS_MAX + 1
    assert said.endswith("and 480 mistakes more")
