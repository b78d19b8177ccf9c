"""Ties a process to its parent: when the parent is gone, even by SIGKILL, the process is ended.

Usage: python -m mbcas_loadtest.node.tether SIGNAL PROGRAM ARGUMENT...

Becomes PROGRAM, which gets SIGNAL (a name such as SIGTERM) when the thread that started it ends.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Asks the kernel to send the signal when the parent ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def main() -> None:
    """Sets the signal and becomes the program, keeping the process id."""
    die_with_parent(signal.Signals[sys.argv[1]])
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is wanted.


if __name__ == "__main__":
    main()
