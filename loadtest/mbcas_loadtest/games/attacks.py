"""The attacks of the incentive suite, each one lie told throughout a game.

Burning is the only way to lie to an agent that measures: use beyond the demand costs the owner
what waste costs (it is charged as CPU that served nothing), and buys a higher forecast, a higher
remembered peak or another class.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_core.units import FloatArray
from mbcas_loadtest.games.attackers import Admission, Attacker, Seen, Truthful, Use, burn


class Misreport(Truthful):
    """Reports a multiple of its need."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.name = f"report {factor:g}x the need"

    def report(self, seen: Seen) -> FloatArray:
        return self.factor * seen.need_millicores


class SleepThenReport(Truthful):
    """Donates for some rounds by asking for nothing, then asks for more than it needs."""

    name = "sleeper on needs"

    def __init__(self, donate_rounds: int = 5, ask_rounds: int = 15, factor: float = 2.0) -> None:
        super().__init__()
        self.donate_rounds, self.ask_rounds, self.factor = donate_rounds, ask_rounds, factor

    def report(self, seen: Seen) -> FloatArray:
        asleep = seen.round % (self.donate_rounds + self.ask_rounds) < self.donate_rounds
        return (0.0 if asleep else self.factor) * seen.need_millicores


class PumpPrice(Truthful):
    """The second of two pods asks for a lot, so that the price drives the rivals off."""

    name = "price pump on needs"

    def __init__(self, factor: float = 3.0) -> None:
        super().__init__(pods=2)
        self.factor = factor

    def report(self, seen: Seen) -> FloatArray:
        need = seen.need_millicores.copy()
        need[:, 1] *= self.factor
        return need


class CollectPairwise(Truthful):
    """Two pods take turns: one asks for nothing so that the other, asking for more, gets it."""

    name = "two pods take turns on needs"

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__(pods=2)
        self.factor = factor

    def report(self, seen: Seen) -> FloatArray:
        need = seen.need_millicores.copy()
        asking = seen.round % 2
        need[:, asking] *= self.factor
        need[:, 1 - asking] = 0.0
        return need


class Burner(Truthful):
    """Burns what a rule says, from what it sees and from what was admitted."""

    def __init__(
        self, name: str, rule: Callable[[Seen, Admission], FloatArray], *, pods: int = 1
    ) -> None:
        super().__init__(pods=pods)
        self.name = name
        self._rule = rule

    def admit(self, honest: Admission) -> Admission:
        self._admission = honest
        return honest

    def use(self, seen: Seen) -> Use:
        return burn(self._rule(seen, self._admission))


def burn_up_to(share: float) -> Attacker:
    """Never uses less than a share of its admitted request."""

    def rule(seen: Seen, admission: Admission) -> FloatArray:
        return share * admission.request_millicores - seen.demand_millicores

    return Burner(f"burn up to {share:g}x the request", rule)


def burn_more(share: float) -> Attacker:
    """Burns a share of its demand on top of it, always."""

    def rule(seen: Seen, _: Admission) -> FloatArray:
        return share * seen.demand_millicores

    return Burner(f"burn {share:g}x the demand on top", rule)


def burn_before_bursts(ahead: float = 1.0) -> Attacker:
    """Where its demand will rise within a round, uses already now what it will need then."""

    def rule(seen: Seen, _: Admission) -> FloatArray:
        rises = seen.coming_millicores > 1.3 * seen.demand_millicores
        return np.where(rises, ahead * seen.coming_millicores - seen.demand_millicores, 0.0)

    return Burner("burn before own bursts", rule)


def burn_in_bursts(*, length: int, period: int, factor: float) -> Attacker:
    """Sharp bursts of worthless work, to be remembered as a bursty container."""

    def rule(seen: Seen, admission: Admission) -> FloatArray:
        top = factor * np.maximum(admission.request_millicores, seen.demand_millicores)
        return (seen.second % period < length) * (top - seen.demand_millicores)

    return Burner(f"bursts of {length} s every {period} s", rule)


def pump_price() -> Attacker:
    """The second of two pods burns three times its request, so that CPU is dear for the rivals."""

    def rule(seen: Seen, admission: Admission) -> FloatArray:
        wish = 3.0 * admission.request_millicores - seen.demand_millicores
        wish[:, 0] = 0.0
        return wish

    return Burner("price pump", rule, pods=2)


def take_turns() -> Attacker:
    """Two pods burn up to their requests in turn, a round each."""

    def rule(seen: Seen, admission: Admission) -> FloatArray:
        wish = admission.request_millicores - seen.demand_millicores
        wish[:, seen.round % 2] = 0.0
        return wish

    return Burner("two pods burn in turn", rule, pods=2)


class BurnWhenIdle(Truthful):
    """Holds its use at a share of the highest demand it has had, so that nothing is forgotten."""

    def __init__(self, share: float = 0.8) -> None:
        super().__init__()
        self.share = share
        self.name = f"burn when idle, {share:g}x the peak"

    def admit(self, honest: Admission) -> Admission:
        self._peak = np.zeros(honest.request_millicores.shape)
        return honest

    def use(self, seen: Seen) -> Use:
        self._peak = np.maximum(self._peak, seen.demand_millicores)
        return burn(self.share * self._peak - seen.demand_millicores)


class Sleeper(Truthful):
    """Gives up half of its demand for a while, then burns up to twice its request."""

    name = "sleeper"

    def __init__(self, donate_rounds: int = 4, burn_rounds: int = 16) -> None:
        super().__init__()
        self.donate_rounds, self.burn_rounds = donate_rounds, burn_rounds

    def admit(self, honest: Admission) -> Admission:
        self._request = honest.request_millicores
        return honest

    def use(self, seen: Seen) -> Use:
        if seen.round % (self.donate_rounds + self.burn_rounds) < self.donate_rounds:
            none = np.zeros_like(seen.demand_millicores)
            return Use(burn_millicores=none, withheld_ratio=np.full_like(none, 0.5))
        return burn(2.0 * self._request - seen.demand_millicores)


class Declare(Truthful):
    """Lies at admission only."""

    def __init__(self, name: str, lie: Callable[[Admission], Admission]) -> None:
        super().__init__()
        self.name = name
        self._lie = lie

    def admit(self, honest: Admission) -> Admission:
        return self._lie(honest)


def claim_critical() -> Attacker:
    """Claims the highest priority."""
    return Declare(
        "claim critical", lambda honest: replace(honest, priority_class=PriorityClass.CRITICAL)
    )


def refuse_always() -> Attacker:
    """Declares twice its request as the least it accepts, so that it is refused all the time."""
    return Declare(
        "false min-acceptable",
        lambda honest: replace(honest, min_acceptable_millicores=2 * honest.request_millicores),
    )


def split(replicas: int) -> Attacker:
    """Becomes several pods of the same total."""
    return Declare(f"split into {replicas} pods", lambda honest: replace(honest, replicas=replicas))


def inflate_request(factor: float) -> Attacker:
    """Asks for more at admission, as far as the scheduler has room."""

    def lie(honest: Admission) -> Admission:
        wished = np.ceil((factor - 1.0) * honest.request_millicores).astype(np.int64)
        more = np.minimum(wished, honest.room_millicores[:, None])
        request = honest.request_millicores + more
        limit = np.maximum(honest.limit_millicores, request)
        return replace(honest, request_millicores=request, limit_millicores=limit)

    return Declare(f"request {factor:g}x at admission", lie)


def on_needs() -> list[Attacker]:
    """Every attack of a game on reported needs."""
    return [
        Misreport(0.5),
        Misreport(0.8),
        Misreport(1.1),
        Misreport(1.5),
        Misreport(3.0),
        SleepThenReport(),
        PumpPrice(),
        CollectPairwise(),
        refuse_always(),
        claim_critical(),
        split(2),
        split(3),
        inflate_request(1.5),
    ]


def on_core() -> list[Attacker]:
    """Every attack of a game on the real core."""
    return [
        burn_up_to(1.0),
        burn_more(0.2),
        burn_more(1.0),
        BurnWhenIdle(),
        burn_before_bursts(),
        burn_in_bursts(length=4, period=60, factor=1.5),
        burn_in_bursts(length=3, period=300, factor=2.0),
        Sleeper(),
        pump_price(),
        take_turns(),
        refuse_always(),
        claim_critical(),
        split(2),
        split(3),
        inflate_request(1.5),
    ]
