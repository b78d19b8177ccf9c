"""`mbcas-loadtest`: the demo and the benchmarks."""

import signal


def main() -> None:
    """Runs the command line."""
    # Until a command has something to clean up, Ctrl-C just ends the process: left to Python, it
    # would print the place in the imports where it was.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mbcas_loadtest.commands import app  # noqa: PLC0415 - it imports too much to come first.

    app()


if __name__ == "__main__":
    main()
