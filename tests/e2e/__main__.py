"""Runs the tests against a real Kubernetes on this machine: python -m tests.e2e [--keep] [PYTEST…].

Installs and builds what is missing, starts a cluster for each test process, runs the tests in this
folder, and takes everything down again, whatever happened.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from tests.e2e.cluster import cluster, programs

FOLDER = Path(__file__).parent
NEED_ITS_PROGRAMS = (
    FOLDER.parent / "deploy" / "test_chart_manifests.py",
    FOLDER.parent / "deploy" / "test_readme_grpcurl.py",
)
"""Tests that need no cluster, but what is built for it: elsewhere they may have been skipped."""
CLUSTER_VARIABLE = "MBCAS_E2E_CLUSTER"
EXIT_MISSING = 3
CLUSTERS = 2
"""Beside each other, each with some of the test modules: most of the time these wait."""


def main() -> int:
    """Returns the exit status of the tests."""
    parser = argparse.ArgumentParser(prog="make e2e", description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="leave one cluster up, say how to reach it"
    )
    parser.add_argument(
        "--clusters", type=int, metavar="N", help=f"default: {CLUSTERS}, with --keep 1"
    )
    parser.add_argument(
        "--prepare", action="store_true", help="only install and build what is missing"
    )
    parser.add_argument(
        "--tool",
        choices=[tool.name for tool in programs.TOOLS],
        help="only build this tool, where it is missing; needs no root",
    )
    parser.add_argument(
        "--down", type=Path, metavar="FOLDER", help="take down a cluster that was kept"
    )
    parser.add_argument("--figures", action="store_true", help="measure instead of testing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options, rest = parser.parse_known_args()
    if options.down is not None:
        cluster.take_down(options.down, _say)
        return 0
    if options.tool is None and os.geteuid() != 0:
        _say("a kubelet needs root: run this as root")
        return EXIT_MISSING
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _prepare(options.tool)
    except programs.MissingProgramError as error:
        _say(str(error))
        return EXIT_MISSING
    if options.prepare or options.tool is not None:
        return 0
    if options.figures:
        return _measure(options.json)
    return _run(
        rest, keep=options.keep, count=options.clusters or (1 if options.keep else CLUSTERS)
    )


def _prepare(tool: str | None) -> None:
    steps = list(programs.missing() if tool is None else programs.missing_tools(tool))
    if steps:
        minutes = sum(step.minutes for step in steps)
        _say(f"{len(steps)} things are missing; getting them takes about {minutes:.0f} minutes")
    log = programs.cache_folder() / "build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    for number, step in enumerate(steps, start=1):
        began = time.perf_counter()
        _say(f"[{number}/{len(steps)}] {step.what}, about {step.minutes:g} min ...")
        programs.take(step, log)
        _say(f"[{number}/{len(steps)}] done in {time.perf_counter() - began:.0f} s")


def _run(arguments: list[str], *, keep: bool, count: int) -> int:
    began = time.perf_counter()
    running: list[cluster.Cluster] = []
    try:
        running += (cluster.bring_up(_say) for _ in range(count))
        _say(f"up after {time.perf_counter() - began:.1f} s")
        tests = [str(path) for path in (FOLDER, *NEED_ITS_PROGRAMS)]
        workers = (f"--numprocesses={count if count > 1 else 0}", "--dist=loadfile")
        command = [sys.executable, "-m", "pytest", *tests, *workers, *arguments]
        folders = os.pathsep.join(str(each.folder) for each in running)
        environment = os.environ | {CLUSTER_VARIABLE: folders}
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        for each in reversed(running):  # The first knows how the machine was before all of them.
            _end(each, keep=keep)


def _measure(path: Path | None) -> int:
    from tests.e2e import figures  # noqa: PLC0415 - needs what tests need, which takes a second.

    running = cluster.bring_up(_say)
    try:
        figures.report(figures.measure(running, _say), path, _say)
    finally:
        cluster.take_down(running.folder, _say)
    return 0


def _end(running: cluster.Cluster, *, keep: bool) -> None:
    if keep:
        kubectl = programs.find("kubectl")
        _say(f"the cluster stays: {kubectl} --kubeconfig {running.kubeconfig} get nodes")
        _say(f'take it down with: make e2e ARGS="--down {running.folder}"')
    else:
        cluster.take_down(running.folder, _say)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(f"e2e: {line}", flush=True)  # noqa: T201 - a command's output.


if __name__ == "__main__":
    sys.exit(main())
