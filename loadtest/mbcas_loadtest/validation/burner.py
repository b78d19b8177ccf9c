"""One server of a queue of requests as a process, which measures what each of them really cost.

Usage: python -m mbcas_loadtest.validation.burner REQUESTS RESULTS QUEUE_FD

A container of two threads is two of these in one cgroup: they take the numbers of the requests
from one pipe, so each request goes to the server that is free first, first come first served.

It says "ready" on its standard output and waits for a line with the start time (CLOCK_MONOTONIC,
seconds) on its standard input. REQUESTS holds float64 pairs: arrival in seconds since the start,
CPU seconds. At the end of the pipe RESULTS gets a float64 triple for each request served here:
its number, when it was done in seconds since the start, and the CPU seconds that this process used
since its last request, so that the costs add up to all that it used.

It imports the standard library only and allocates nothing while it measures.
"""

import gc
import os
import sys
import time
from array import array

from mbcas_loadtest.node.tether import die_with_parent

_NUMBER_BYTES = 4


def main() -> None:
    """Serves until the queue is empty."""
    die_with_parent()
    requests_path, results_path, queue = sys.argv[1:]
    requests = array("d")
    with open(requests_path, "rb") as file:  # noqa: PTH123 - pathlib would double the start-up time.
        requests.frombytes(file.read())
    os.write(sys.stdout.fileno(), b"ready\n")
    line = sys.stdin.readline()
    if not line:
        return  # The parent is gone or has thought better of it.
    gc.disable()
    results = _serve(requests, int(queue), float(line))
    with open(results_path, "wb") as file:  # noqa: PTH123 - as above.
        file.write(results.tobytes())


def _serve(requests: "array[float]", queue: int, start_seconds: float) -> "array[float]":
    results = array("d")
    cpu, wall = time.CLOCK_THREAD_CPUTIME_ID, time.CLOCK_MONOTONIC
    now, read, sleep = time.clock_gettime, os.read, time.sleep  # noqa: TID251 - the real clock.
    paid = now(cpu)  # What starting up cost belongs to no request.
    while number_bytes := read(queue, _NUMBER_BYTES):
        number = int.from_bytes(number_bytes, sys.byteorder)
        wait_seconds = start_seconds + requests[2 * number] - now(wall)
        if wait_seconds > 0:
            sleep(wait_seconds)
        due = paid + requests[2 * number + 1]
        while (spent := now(cpu)) < due:
            pass
        results.extend((number, now(wall) - start_seconds, spent - paid))
        paid = spent
    return results


if __name__ == "__main__":
    main()
