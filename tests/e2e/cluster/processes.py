"""Starts programs, remembers their ids, and ends exactly those."""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import tenacity

STOP_SECONDS = 15
_STARTED: list[subprocess.Popen[bytes]] = []
"""What outlives whoever started it, a test among them: it is ended by its recorded id."""


class ProcessDiedError(Exception):
    """A program of the cluster ended by itself; the message has the end of its log."""


class Processes:
    """The programs of one cluster; their ids and start times are kept in a file of its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._record = folder / "processes.json"
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str | Path]) -> None:
        """Starts a program in a session of its own; its output goes to NAME.log."""
        log = self.log(name)
        with log.open("ab") as output:
            child = subprocess.Popen(
                [str(part) for part in command],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._children[name] = child
        _STARTED.append(child)
        known = _read(self._record) | {name: (child.pid, _start_time(child.pid))}
        self._record.write_text(json.dumps(known))

    def log(self, name: str) -> Path:
        """Where a program's output is."""
        return self._folder / f"{name}.log"

    def check(self) -> None:
        """Raises where a program ended.

        Raises:
            ProcessDiedError: one did.
        """
        for name, child in self._children.items():
            if child.poll() is not None:
                tail = self.log(name).read_text(errors="replace").splitlines()[-15:]
                raise ProcessDiedError("\n".join([f"{name} ended ({child.returncode}):", *tail]))

    def stop(self, name: str, *, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends a program and waits until it is gone; kills it when that takes too long."""
        known = _read(self._record)
        if name not in known:
            return
        pid, started = known.pop(name)
        child = self._children.pop(name, None)
        if _is_running(pid, started):
            os.kill(pid, how)
            if not _wait_gone(pid, started, child):
                os.kill(pid, signal.SIGKILL)
                _wait_gone(pid, started, child)
        elif child is not None:
            child.wait()
        self._record.write_text(json.dumps(known))

    def names(self) -> list[str]:
        """Programs that were started and not stopped, in that order."""
        return list(_read(self._record))


def _wait_gone(pid: int, started: str, child: subprocess.Popen[bytes] | None) -> bool:
    if child is not None:
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True
    return bool(
        tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda gone: not gone),
            wait=tenacity.wait_fixed(0.1),
            stop=tenacity.stop_after_delay(STOP_SECONDS),
            retry_error_callback=lambda _: False,
        )(lambda: not _is_running(pid, started))
    )


def _read(record: Path) -> dict[str, tuple[int, str]]:
    if not record.exists():
        return {}
    return {name: (pid, started) for name, (pid, started) in json.loads(record.read_text()).items()}


def _is_running(pid: int, started: str) -> bool:
    return _start_time(pid) == started


def _start_time(pid: int) -> str:
    """Says when a process started, in the kernel's words, so that a reused id is told apart."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
