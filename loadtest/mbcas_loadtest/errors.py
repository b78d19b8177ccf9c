"""Why a run ends early. It imports nothing, so that a command line can be quick to answer."""


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


class Interrupted(Exception):  # noqa: N818 - it is a wish, not an error.
    """Somebody asked the run to stop."""
