"""All systems by name. A module adds its entry here, one line each."""

from mbcas_loadtest.oracles import churn, per_slot
from mbcas_loadtest.rivals import (
    aimd,
    autopilot,
    captain,
    escra,
    headroom,
    k8s_cpu,
    koordinator_burst,
    max_min,
    one_shot,
    parties,
    static,
    three_sigma,
    tower_lite,
    vpa,
)
from mbcas_loadtest.simulation import mbcas
from mbcas_loadtest.simulation.system import Rival

_ENTRIES: tuple[Rival, ...] = (
    *mbcas.ENTRIES,
    static.STATIC,
    static.WEIGHTS_ONLY,
    vpa.VPA,
    vpa.VPA_FAST,
    vpa.VPA_FAST_MARGIN,
    vpa.VPA_PRETRAINED,
    vpa.VPA_PRETRAINED_MARGIN,
    autopilot.WINDOW,
    autopilot.ENSEMBLE,
    three_sigma.RIVAL,
    k8s_cpu.K8S_CPU,
    k8s_cpu.K8S_CPU_FAST,
    one_shot.KRR,
    one_shot.CRANE,
    captain.CAPTAIN,
    captain.CAPTAIN_API,
    tower_lite.TOWER_LITE,
    parties.PARTIES,
    escra.ESCRA,
    koordinator_burst.KOORDINATOR_QUOTA,
    koordinator_burst.KOORDINATOR_AUTO,
    headroom.HEADROOM,
    aimd.AIMD,
    max_min.MAX_MIN,
    per_slot.ORACLE_15S,
    per_slot.ORACLE_2S,
    per_slot.ORACLE_15S_BURST,
    per_slot.ORACLE_2S_BURST,
    per_slot.ORACLE_CONTENTION,
    per_slot.ORACLE_CONTENTION_BURST,
    churn.ORACLE_CHURN_10,
    churn.ORACLE_CHURN_60,
    churn.ORACLE_CHURN_10_BURST,
)

RIVALS: dict[str, Rival] = {rival.name: rival for rival in _ENTRIES}
assert len(RIVALS) == len(_ENTRIES), "two entries have one name"
