"""The demo as a person starts it: in a process of its own, with the real server and shim."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from typer.testing import CliRunner

from mbcas_loadtest.clock import monotonic_seconds, sleep_seconds
from mbcas_loadtest.commands import app
from mbcas_loadtest.demo.host import prepare_cgroups
from mbcas_loadtest.demo.lines import LineView
from mbcas_loadtest.demo.record import DemoRecord
from mbcas_loadtest.node import cgroups
from tests.mbcas_loadtest.demo import samples

GONE_WITHIN_SECONDS = 20.0

REPORT_KEYS = {
    "schema",
    "environment",
    "seed",
    "policy",
    "burst",
    "warmup_seconds",
    "phases",
    "first_allocation_seconds",
    "reaction_seconds",
    "server",
    "shim",
}
PHASE_KEYS = {"name", "duration_seconds", "resizes", "invariant_violations", "containers"}
CONTAINER_KEYS = {
    "name",
    "role",
    "usage_core_seconds",
    "reserved_core_seconds",
    "ceiling_core_seconds",
    "throttled_fraction",
    "delay_p50_ms",
    "delay_p99_ms",
}


@contextlib.contextmanager
def demo(
    folder: Path,
    *flags: str,
    seconds: float = 2,
    interpreter: Sequence[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[subprocess.Popen[str]]:
    """Starts the demo with short phases; its files, and all its processes, name the folder."""
    command = [sys.executable, *interpreter, "-m", "mbcas_loadtest", "demo", "--headless"]
    command += ["--duration", str(seconds), "--warmup", "0.5"]
    command += ["--json", str(folder / "report.json"), "--html", str(folder / "report.html")]
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    with subprocess.Popen(
        [*command, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), **environment},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Returns what the demo wrote up to a line that matches."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            break
    else:
        pytest.fail(f"no line matches {pattern!r}:\n{''.join(lines)}")
    return "".join(lines)


def processes_of(folder: Path) -> list[int]:
    """Returns the processes whose environment names the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(folder / "tmp").encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # It ended as we looked.
    return found


def assert_nothing_is_left(folder: Path, process: subprocess.Popen[str]) -> None:
    assert processes_of(folder) == []
    assert list((folder / "tmp").iterdir()) == []
    assert groups_of(process.pid) == []


def groups_of(pid: int) -> list[Path]:
    pattern = f"{cgroups.PREFIX}{pid}-*"
    try:
        hierarchy = cgroups.find_hierarchy(Path("/proc/self/mounts").read_text())
    except cgroups.CgroupsUnavailableError:
        return []
    return [path for root in hierarchy.roots for path in root.glob(pattern)]


def needs_cgroups() -> None:
    try:
        prepare_cgroups()
    except cgroups.CgroupsUnavailableError as error:
        pytest.skip(f"no CPU cgroups here: {error}")


def test_a_short_run_on_the_model_writes_the_promised_report(tmp_path: Path) -> None:
    flags = ["--model", "--policy", "hard-quota", "--burst", "off", "--static-burst", "on"]
    flags += ["--picture", str(tmp_path / "picture.svg")]
    with demo(tmp_path, *flags, seconds=3) as process:
        output, _ = process.communicate(timeout=120)

    assert process.returncode == 0, output
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    assert report["schema"] == "mbcas.demo/1"
    assert report.keys() >= REPORT_KEYS
    assert (report["environment"], report["policy"]) == ("model", "hard-quota")
    assert (report["burst"], report["static_burst"]) == (False, True)
    assert [phase["name"] for phase in report["phases"]] == ["static", "mbcas"]
    for phase in report["phases"]:
        assert phase.keys() >= PHASE_KEYS
        assert phase["duration_seconds"] == 2.5
        assert phase["invariant_violations"] == 0
        names = [container["name"] for container in phase["containers"]]
        assert names == ["api", "checkout", "search", "reports", "batch"]
        for container in phase["containers"]:
            assert container.keys() >= CONTAINER_KEYS
            assert container["usage_core_seconds"] > 0
            assert 0 <= container["throttled_fraction"] <= 1
    assert report["first_allocation_seconds"] is None or report["first_allocation_seconds"] > 0
    # The idle container is never short of CPU, so equal arrivals make for equal use.
    static, mbcas = (phase["containers"][3]["usage_core_seconds"] for phase in report["phases"])
    assert static == pytest.approx(mbcas, abs=0.01)
    assert report["server"]["rss_bytes"] > 0
    assert (tmp_path / "report.html").read_text().startswith("<!")
    assert (tmp_path / "picture.svg").read_text().startswith("<svg")
    assert_nothing_is_left(tmp_path, process)


def test_the_files_are_written_before_the_result_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: LineView, record: DemoRecord) -> None:
        del self, record
        raise BrokenPipeError

    monkeypatch.setattr("mbcas_loadtest.demo.run.run_demo", lambda *_: samples.record())
    monkeypatch.setattr(LineView, "finish", fail)
    files = ["--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]

    CliRunner().invoke(app, ["demo", "--headless", *files])

    assert json.loads((tmp_path / "a.json").read_text())["seed"] == 7
    assert (tmp_path / "a.html").stat().st_size > 0


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("^static +1 s", signal.SIGTERM),
        ("Setting up phase 2", signal.SIGINT),
        ("^mbcas +1 s", signal.SIGINT),
    ],
)
def test_a_signal_at_any_moment_leaves_nothing_behind(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    flags = [] if "static" in moment else ["--model"]
    with demo(tmp_path, *flags, seconds=1 if "phase" in moment else 2) as process:
        read_until(process, moment)

        process.send_signal(number)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 130, output
    assert "no report was written" in output
    assert not (tmp_path / "report.json").exists()
    assert_nothing_is_left(tmp_path, process)


@pytest.mark.parametrize("module", ["typer", "numpy"])
def test_an_interrupt_during_the_imports_ends_it_without_a_trace(
    tmp_path: Path, module: str
) -> None:
    with demo(tmp_path, interpreter=["-X", "importtime"]) as process:
        read_until(process, rf"\| +{module}\.")

        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)

    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in output
    assert_nothing_is_left(tmp_path, process)


def test_after_a_kill_its_processes_end_and_the_next_run_removes_the_rest(tmp_path: Path) -> None:
    needs_cgroups()
    with demo(tmp_path) as process:
        read_until(process, "^mbcas +1 s")

        process.kill()
        process.wait()

    deadline = monotonic_seconds() + GONE_WITHIN_SECONDS
    while processes_of(tmp_path) and monotonic_seconds() < deadline:
        sleep_seconds(0.1)
    assert processes_of(tmp_path) == []
    # Who removes the groups is chance: every run that starts on this machine does.
    with demo(tmp_path) as following:
        read_until(following, "Setting up phase 1")
        following.send_signal(signal.SIGINT)
        output, _ = following.communicate(timeout=60)
    assert following.returncode == 130, output
    assert_nothing_is_left(tmp_path, process)


def test_a_shim_that_dies_ends_the_demo_with_a_reason(tmp_path: Path) -> None:
    with demo(tmp_path, "--model", seconds=1) as process:
        read_until(process, "Setting up phase 2")
        os.kill(shim_of(tmp_path), signal.SIGKILL)

        output, _ = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "the shim ended with status -9" in output
    assert_nothing_is_left(tmp_path, process)


def test_a_program_that_cannot_start_is_noticed_before_the_first_phase(tmp_path: Path) -> None:
    broken = tmp_path / "mbcas_server"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('half installed')")

    with demo(tmp_path, "--model", environment={"PYTHONPATH": str(tmp_path)}) as process:
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "half installed" in output
    assert "Setting up phase 1" not in output
    assert_nothing_is_left(tmp_path, process)


def shim_of(folder: Path) -> int:
    """Waits for the shim to be there, and returns its process."""
    deadline = monotonic_seconds() + 20
    while monotonic_seconds() < deadline:
        for pid in processes_of(folder):
            with contextlib.suppress(OSError):  # It ended as we looked.
                if b"mbcas_shim\0--server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        sleep_seconds(0.02)
    pytest.fail("no shim was started")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--warmup", "200"], "--warmup"),
        (["--json", "/nowhere/report.json"], "/nowhere/report.json"),
        (["--policy", "anything"], "--policy"),
        (["--burst", "maybe"], "--burst"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_an_unusable_flag_is_refused_by_its_name(
    tmp_path: Path, flags: list[str], words: str
) -> None:
    files = ["--json", str(tmp_path / "report.json"), "--html", str(tmp_path / "report.html")]

    result = CliRunner().invoke(app, ["demo", *files, *flags])

    assert result.exit_code == 2
    assert words in re.sub(r"\x1b\[[0-9;]*m", "", result.output)
