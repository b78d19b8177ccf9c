"""What every test of the shim shares."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mbcas_shim.cgroup import KernelFile


@pytest.fixture(autouse=True)
def _kernel_files_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the cgroup files that a test leaves open, as the end of a shim's process does."""
    still_open: set[KernelFile] = set()
    open_file, close_file = KernelFile.__init__, KernelFile.close

    def open_noted(file: KernelFile, path: Path) -> None:
        open_file(file, path)
        still_open.add(file)

    def close_noted(file: KernelFile) -> None:
        still_open.discard(file)
        close_file(file)

    monkeypatch.setattr(KernelFile, "__init__", open_noted)
    monkeypatch.setattr(KernelFile, "close", close_noted)
    yield
    for file in still_open:
        close_file(file)
