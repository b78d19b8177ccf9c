"""What can go wrong in the shim, one class per cause that somebody handles."""

import errno
from pathlib import Path


class ShimError(Exception):
    """The root of the shim's own errors."""


class ConfigurationError(ShimError):
    """The settings or the first version of the containers file cannot be used."""


class SupersededError(ShimError):
    """A newer shim has taken this node over: this one must end and not come back."""


class CgroupError(ShimError):
    """A cgroup's file cannot be read, or does not hold what the kernel documents."""


class CgroupGoneError(CgroupError):
    """The cgroup does not exist (any more)."""


class CgroupWriteError(CgroupError):
    """The kernel refused a write."""

    def __init__(self, path: Path, value: str, error: OSError) -> None:
        self.errno_name = errno.errorcode.get(error.errno or 0, "EUNKNOWN")
        self.file_name = path.name
        super().__init__(f"{path}: writing {value} was refused: {self.errno_name}")
