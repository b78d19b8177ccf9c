"""Why a run ends early. It imports nothing, so that a command line can be quick to answer."""

EXIT_INTERRUPTED = 130  # As a shell reports a program that Ctrl-C ended.


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


class SimulationError(Exception):
    """What was asked for cannot be simulated or read; the message says why and what to do."""


class EvaluationError(Exception):
    """The evaluation cannot be made as asked; the message says why and what to do."""


class Interrupted(Exception):  # noqa: N818 - it is a wish, not an error.
    """Somebody asked the run to stop."""
