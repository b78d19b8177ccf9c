"""All systems by name. A module adds its entry here, one line each."""

from mbcas_loadtest.rivals import static
from mbcas_loadtest.simulation.system import Rival

_ENTRIES: tuple[Rival, ...] = (
    static.STATIC,
    static.WEIGHTS_ONLY,
)

RIVALS: dict[str, Rival] = {rival.name: rival for rival in _ENTRIES}
assert len(RIVALS) == len(_ENTRIES), "two entries have one name"
