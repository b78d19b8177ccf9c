"""The properties of the mechanism, by name, in the order in which the mechanism lists them.

Each is a function of many markets at once that says, for each of them, by how much the property is
missed. It opens with the statement, the proof, and what rounding to whole quanta costs; `verdicts`
says why both reals and integers are checked.
"""

from mbcas_loadtest.mechanism import properties_audits as audits
from mbcas_loadtest.mechanism import properties_changes as changes
from mbcas_loadtest.mechanism import properties_reports as reports
from mbcas_loadtest.mechanism import properties_shares as shares
from mbcas_loadtest.mechanism import properties_splitting as splitting
from mbcas_loadtest.mechanism.verdicts import Property

PROPERTIES: dict[str, Property] = {
    "rounding": shares.rounding,
    "own-cap-form": reports.own_cap_form,
    "strategy-proof": reports.strategy_proof,
    "no-pair-gains": reports.no_pair_gains,
    "individually-rational": shares.individually_rational,
    "pareto": shares.pareto,
    "surplus-envy-free": shares.surplus_envy_free,
    "sharing-incentive": shares.sharing_incentive,
    "monotone": changes.monotone,
    "consistent": changes.consistent,
    "non-bossy": changes.non_bossy,
    "splitting-into-pods": splitting.splitting_into_pods,
    "splitting-into-containers": splitting.splitting_into_containers,
    "scale-free": changes.scale_free,
    "audited": audits.audited,
    "orders": audits.orders,
}
