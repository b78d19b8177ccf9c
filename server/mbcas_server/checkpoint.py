"""What was learned, in a file that outlives the server.

A line of words (what this is, its version, length and checksum of what follows), then the core's
arrays as numpy writes them. It is replaced as a whole or not at all; what cannot be used is left
alone and named, and the server starts without it.
"""

import asyncio
import hashlib
import io
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbcas_core.errors import InvalidInputError
from mbcas_server.clock import Clock
from mbcas_server.core_thread import CoreThread
from mbcas_server.leadership import Leadership
from mbcas_server.metrics import Metrics

MAGIC = b"mbcas-checkpoint"
VERSION = 1
HEADER_MAX = 200
FILE_MAX_BYTES = 2 << 30  # 150,000 containers take a small part of it.

Arrays = Mapping[str, NDArray[Any]]
logger = logging.getLogger(__name__)


class IgnoredError(Exception):
    """A file that is left alone.

    Attributes:
        reason: One word: missing, unreadable, truncated, corrupt, newer or refused.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(eq=False, slots=True, kw_only=True)
class Checkpoint:
    """Reads the file before the first report, then writes it now and then."""

    path: Path
    period_seconds: float
    core: CoreThread
    leadership: Leadership
    clock: Clock
    metrics: Metrics
    _is_read: bool = field(init=False, default=False)
    """Until then there is nothing worth writing, and something to lose."""

    async def read(self) -> None:
        """Hands the core what the file says, if it can be used."""
        try:
            arrays = await asyncio.to_thread(read_file, self.path)
            count = await self.core.work(lambda core: core.restore_learned(arrays))
        except (IgnoredError, InvalidInputError) as error:
            reason = error.reason if isinstance(error, IgnoredError) else "refused"
            self.metrics.checkpoints.labels(result=reason).inc()
            level = logging.INFO if reason == "missing" else logging.WARNING
            logger.log(level, "checkpoint ignored reason=%s path=%s: %s", reason, self.path, error)
        else:
            self.metrics.checkpoints.labels(result="read").inc()
            logger.info("checkpoint read containers=%d path=%s", count, self.path)
        self._is_read = True

    async def run(self) -> None:
        """Writes for as long as it is let."""
        while True:
            await self.clock.sleep_until(self.clock.now_seconds() + self.period_seconds)
            await self.write()

    async def write(self) -> None:
        """Writes what is known now; does nothing while another server decides."""
        if not (self._is_read and self.leadership.leads):
            return
        arrays = await self.core.read(lambda core: core.learned())
        try:
            await asyncio.to_thread(write_file, self.path, arrays)
        except OSError as error:
            self.metrics.checkpoints.labels(result="failed").inc()
            logger.warning("checkpoint not written path=%s: %s", self.path, error)
        else:
            self.metrics.checkpoints.labels(result="written").inc()


def write_file(path: Path, arrays: Arrays) -> None:
    """Replaces the file.

    Raises:
        OSError: It cannot be; the old one is as it was.
    """
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type] # Its stub takes no names but its own.
    body = content.getvalue()
    digest = hashlib.sha256(body).hexdigest()
    header = b"%s %d %d %s\n" % (MAGIC, VERSION, len(body), digest.encode())
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(header)
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def read_file(path: Path) -> Arrays:
    """Returns what the file says.

    Raises:
        IgnoredError: There is none, or it cannot be used.
    """
    try:
        size = path.stat().st_size
        if size > FILE_MAX_BYTES:
            raise IgnoredError("refused", f"it has {size} bytes, at most {FILE_MAX_BYTES} are read")
        with path.open("rb") as file:
            header = file.readline(HEADER_MAX)
            body = file.read()
    except FileNotFoundError as error:
        raise IgnoredError("missing", "nothing was written yet") from error
    except OSError as error:
        raise IgnoredError("unreadable", str(error)) from error
    _check(header, body)
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise IgnoredError("corrupt", f"its arrays cannot be read: {error}") from error


def _check(header: bytes, body: bytes) -> None:
    words = header.split()
    if len(words) < 2 or words[0] != MAGIC or not words[1].isdigit():  # noqa: PLR2004 - the words above.
        raise IgnoredError("corrupt", "it does not begin as a checkpoint does")
    version = int(words[1])
    if version != VERSION:
        found = f"it is of version {version}, this server reads version {VERSION}"
        raise IgnoredError("newer" if version > VERSION else "refused", found)
    if len(words) != 4 or not words[2].isdigit():  # noqa: PLR2004 - as above.
        raise IgnoredError("corrupt", "its first line is damaged")
    if len(body) < int(words[2]):
        raise IgnoredError("truncated", f"it has {len(body)} of {int(words[2])} bytes")
    if hashlib.sha256(body).hexdigest().encode() != words[3]:
        raise IgnoredError("corrupt", "its checksum is another")


def _sync_folder(folder: Path) -> None:
    """Makes the new name last beyond a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
