"""The shim's command: `mbcas-shim` or `python -m mbcas_shim`.

Exit codes: 0 after an orderly stop, 1 after a failure that is a bug or the machine's (with its
traceback), 2 for settings or a containers file that cannot be used, 3 where a newer shim of the
node took over.
"""

import asyncio
import logging
import random  # noqa: TID251  # The process's one source of chance, made here and passed down.
import sys

from mbcas_shim.app import App
from mbcas_shim.clock import MonotonicClock
from mbcas_shim.errors import CgroupError, ConfigurationError, SupersededError
from mbcas_shim.settings import Settings, read_settings

EXIT_CONFIGURATION = 2
EXIT_SUPERSEDED = 3

_log = logging.getLogger("mbcas_shim")


def main() -> None:
    """Runs the shim with the process's arguments and environment."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs the shim; returns its exit code."""
    chance = random.SystemRandom()
    try:
        settings = read_settings(arguments)
        _log_to_stderr(settings)
        app = App(
            settings,
            clock=MonotonicClock(),
            uniform=chance.random,
            nonce=chance.getrandbits(64),
        )
    except (ConfigurationError, CgroupError) as error:
        sys.stderr.writelines(f"mbcas-shim: {line}\n" for line in str(error).splitlines())
        return EXIT_CONFIGURATION
    _log.info(
        "reads cgroups, reports to the server, carries out its orders; settings: %s", settings
    )
    try:
        asyncio.run(app.run())
    except SupersededError as error:
        _log.error("%s", error)  # An expected end: its traceback says nothing.
        return EXIT_SUPERSEDED
    except BaseExceptionGroup:
        _log.exception("the shim failed; it left as in order where that was possible")
        return 1
    return 0


def _log_to_stderr(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )


if __name__ == "__main__":
    main()
