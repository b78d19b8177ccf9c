"""The server's entry point."""

import asyncio
import logging
import sys

from mbcas_server.app import CannotStartError, DisplacedError, run
from mbcas_server.settings import SettingsInvalidError, load_settings

EXIT_SETTINGS = 2
EXIT_DISPLACED = 3


def main() -> None:
    """Runs the server until SIGTERM or SIGINT.

    Exits with 0 after an orderly end, 1 where it cannot start, 2 where its settings are unusable, 3
    once another server decides.
    """
    try:
        settings = load_settings(sys.argv[1:])
    except SettingsInvalidError as error:
        sys.stderr.write(f"mbcas-server: the settings cannot be used:\n{error}\n")
        sys.exit(EXIT_SETTINGS)
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    try:
        asyncio.run(run(settings))
    except CannotStartError as error:
        sys.stderr.write(f"mbcas-server: cannot start: {error}\n")
        sys.exit(1)
    except DisplacedError as error:
        sys.stderr.write(f"mbcas-server: ended: {error}; start it again to stand by\n")
        sys.exit(EXIT_DISPLACED)


if __name__ == "__main__":
    main()
