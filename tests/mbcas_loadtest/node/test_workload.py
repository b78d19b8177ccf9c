import os
import selectors
import signal
import subprocess
import sys
from array import array
from pathlib import Path

from mbcas_loadtest.clock import monotonic_seconds

WORKLOAD = [sys.executable, "-m", "mbcas_loadtest.node.workload"]


def serve(folder: Path, *requests: tuple[float, float]) -> subprocess.Popen[bytes]:
    """Starts a workload that serves (arrival, work) pairs, and waits until it is ready."""
    (folder / "arrivals").write_bytes(array("d", [x for pair in requests for x in pair]).tobytes())
    process = subprocess.Popen(
        [*WORKLOAD, "serve", str(folder / "arrivals"), str(folder / "done")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def start(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{monotonic_seconds()!r}\n".encode())
    process.stdin.flush()


def done(folder: Path) -> list[float]:
    return list(array("d", (folder / "done").read_bytes()))


def test_every_request_is_served_in_order_and_never_before_it_arrives(tmp_path: Path) -> None:
    requests = [(0.05, 0.004), (0.05, 0.004), (0.3, 0.002)]

    with serve(tmp_path, *requests) as process:
        start(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)

    finished = done(tmp_path)
    assert len(finished) == 3
    assert finished == sorted(finished)
    assert all(end > arrival for end, (arrival, _) in zip(finished, requests, strict=True))


def test_it_uses_the_cpu_time_of_its_requests(tmp_path: Path) -> None:
    requests = [(0.0, 0.02)] * 20

    with serve(tmp_path, *requests) as process:
        before = os.times()
        start(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)
        after = os.times()

    # The children's time holds the interpreter's start, too: about 50 ms.
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    assert used >= 0.4


def test_it_ends_when_nobody_starts_it(tmp_path: Path) -> None:
    with serve(tmp_path, (0.0, 0.001)) as process:
        assert process.stdin is not None
        process.stdin.close()

        status = process.wait(20)

    assert status == 0


def test_it_ends_with_its_parent_even_if_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import subprocess, sys
child = subprocess.Popen({WORKLOAD!r} + ["burn"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
child.stdin.write(b"0\\n")
child.stdin.flush()
print(child.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        child_fd = os.pidfd_open(child)

        parent.send_signal(signal.SIGKILL)
        parent.wait()

    # A process file descriptor is readable when the process has ended.
    with selectors.DefaultSelector() as selector:
        selector.register(child_fd, selectors.EVENT_READ)
        ended = selector.select(20)
    os.close(child_fd)
    assert ended
