"""What was declared, for ever; and the same with weights alone.

`static` keeps request = limit = the declared number; its knob multiplies it, so that the frontier
shows what people get who declare more or less. `weights-only` has no limit: requests as declared
decide who gets how much of a full node, and nobody is throttled by a quota.
"""

import numpy as np

from mbcas_loadtest.rivals.one_number import declared_millicores, one_number
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import Declared


class Fixed:
    """Wants the same settings always; they are there before the world starts."""

    interval_periods = 600
    actuation = Actuation.DIRECT

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def step(self, seen: Seen) -> Settings | None:
        """Returns its settings."""
        del seen  # It looks at nothing.
        return self._settings


def _static(declared: Declared, knob: float) -> Fixed:
    return Fixed(one_number(declared_millicores(declared) * knob))


def _weights_only(declared: Declared, knob: float) -> Fixed:
    del knob  # It has none.
    request = declared.request_millicores.astype(np.float64)
    return Fixed(
        Settings(
            request_millicores=request,
            limit_millicores=np.full(request.shape, np.inf),
            burst_millicores=np.zeros(request.shape),
        )
    )


STATIC = Rival(
    name="static",
    make=_static,
    knob="times what was declared",
    default=1.0,
    sweep=(3.0, 2.0, 1.5, 1.25, 1.0, 0.8, 0.65, 0.5),
    source="evaluation.md, section 3, no. 1",
)
WEIGHTS_ONLY = Rival(
    name="weights-only",
    make=_weights_only,
    source="evaluation.md, section 3, no. 1b; arXiv 2510.10747 argues for it",
    goods=2,
)
