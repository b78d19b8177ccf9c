"""One workload of the demo as a process: serves the requests of a file, or burns what it gets.

Usage: python -m mbcas_loadtest.node.workload serve ARRIVALS RESULTS | burn

It imports the standard library only, so that five of them start at once within half a second. It
says "ready" on its standard output and waits for a line with the start time (CLOCK_MONOTONIC,
seconds) on its standard input; by then the parent has put it into its cgroup. It ends when its
parent ends, however that happens.

ARRIVALS holds float64 pairs: arrival in seconds since the start, CPU seconds. RESULTS gets a
float64 for each request that is done, in the same order: when, in seconds since the start. Requests
are served one at a time, first come first served. Work is CPU time of this thread: everything that
it does between two requests counts, so its use is the sum of the work, no more.
"""

import os
import sys
import time
from array import array

from mbcas_loadtest.node.tether import die_with_parent


def main() -> None:
    """Runs until the parent ends it."""
    die_with_parent()
    match sys.argv[1:]:
        case ["burn"]:
            _await_start()
            _burn()
        case ["serve", arrivals_path, results_path]:
            requests = _read_requests(arrivals_path)
            results_fd = os.open(results_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            _serve(requests, results_fd, _await_start())
        case _:
            sys.exit("usage: workload serve ARRIVALS RESULTS | burn")


def _await_start() -> float:
    os.write(sys.stdout.fileno(), b"ready\n")
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)  # The parent is gone or has thought better of it.
    return float(line)


def _read_requests(path: str) -> "array[float]":
    requests = array("d")
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib would double the start-up time.
        requests.frombytes(file.read())
    return requests


def _serve(requests: "array[float]", results_fd: int, start_seconds: float) -> None:
    cpu_due = _cpu_seconds()
    for index in range(0, len(requests), 2):
        wait_seconds = start_seconds + requests[index] - _now_seconds()
        if wait_seconds > 0:
            time.sleep(wait_seconds)  # noqa: TID251 - a real process on the real clock.
        # What waiting and writing cost is taken out of the work; a debt does not pile up.
        cpu_due = max(cpu_due + requests[index + 1], _cpu_seconds())
        while _cpu_seconds() < cpu_due:
            pass
        # Written at once: the parent may end this process at any moment.
        os.write(results_fd, array("d", [_now_seconds() - start_seconds]).tobytes())
    sys.stdin.read()  # Stays, idle, until the parent ends it.


def _burn() -> None:
    while True:
        pass


def _now_seconds() -> float:
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def _cpu_seconds() -> float:
    return time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)


if __name__ == "__main__":
    main()
