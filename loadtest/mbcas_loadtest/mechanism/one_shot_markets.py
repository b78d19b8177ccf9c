"""Random markets of bidders whose payoffs are known: what the incentive suite attacks.

Demand follows gamma and lognormal laws of random spread, as a histogram of samples: half of the
bidders have atoms (a service that is quiet or in a burst), half have contiguous bins (a smooth
load); with `atoms_only` all have atoms, so that values are piecewise linear exactly. Probabilities
are drawn from a Dirichlet law, which gives rare peaks as well as flat histograms.

Admitted requests miss the mean demand by a factor of up to four either way, in the round numbers
that people write; one in seven asks for nothing. Three markets in four are rationed with floors
that fit, one in ten has room for everybody, the rest cannot keep its floors. Each market has one
attacker and one accomplice, drawn at random.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_core.market.clearing import Bids, sum_by
from mbcas_core.parameters import Parameters
from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.mechanism.payoffs import Demand, Payoffs, scale_payoffs

MOST_PODS = 12
BINS = 6
LEAST_REQUEST_MILLICORES = 10
ROUND_REQUEST_MILLICORES = 25
CLASSES = (PriorityClass.CRITICAL, PriorityClass.NORMAL, PriorityClass.LOW)
CLASS_SHARES = (0.2, 0.5, 0.3)
CAPACITY_SHARES = (0.75, 0.1, 0.15)
"""Of markets that are rationed, that have room for everybody, that cannot keep their floors."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OneShotMarkets:
    """m markets of n bidders; `bids` are truthful."""

    bids: Bids
    capacity_millicores: IntArray
    payoffs: Payoffs
    priority_factor: FloatArray
    """(n,) that of the bidder's own class."""
    attacker: IntArray
    """(m,) the row of each market's attacker."""
    accomplice: IntArray
    """(m,) the row of somebody else."""
    least_weight: float
    """What a pod without a request weighs, before its factor."""

    def floors_fit(self) -> BoolArray:
        """Returns which markets can keep all floors, shape (m,)."""
        counted = np.minimum(self.bids.floor_millicores, self.bids.need_millicores)
        floors = sum_by(self.bids.market, counted, self.capacity_millicores.size)
        fit: BoolArray = floors <= self.capacity_millicores
        return fit


def draw_markets(
    generator: np.random.Generator, markets: int, *, scale: int = 1, atoms_only: bool = False
) -> OneShotMarkets:
    """Draws markets of 2 to 12 pods.

    Args:
        generator: Source of all randomness.
        markets: How many, at least 1.
        scale: All amounts are multiplied by this, which makes rounding to quanta so much finer.
        atoms_only: Whether every bidder's demand has finitely many values.
    """
    pods = generator.integers(2, MOST_PODS + 1, markets)
    market: IntArray = np.repeat(np.arange(markets), pods)
    rows = market.size
    mean = np.exp(generator.uniform(np.log(30.0), np.log(2000.0), rows))
    priority = generator.choice(len(CLASSES), rows, p=CLASS_SHARES)
    payoffs = Payoffs(
        demand=_draw_demand(generator, mean, atoms_only=atoms_only),
        throttling_target_ratio=_of_class(Parameters().tau, priority),
        elasticity=_of_class(Parameters().elasticity, priority),
    )
    factor = _of_class(Parameters().priority_factor, priority)
    wished = mean * np.exp(generator.uniform(-np.log(4.0), np.log(4.0), rows))
    request = np.ceil(wished / ROUND_REQUEST_MILLICORES).astype(np.int64) * ROUND_REQUEST_MILLICORES
    request[generator.random(rows) < 1 / 7] = 0

    payoffs = scale_payoffs(payoffs, scale)
    request *= scale
    need = payoffs.find_need()
    bids = Bids(
        market=market,
        need_millicores=need,
        floor_millicores=request,
        weight=np.maximum(request, LEAST_REQUEST_MILLICORES * scale) * factor,
    )
    first = np.cumsum(pods) - pods
    attacker = generator.integers(0, pods)
    accomplice = (attacker + generator.integers(1, pods)) % pods
    return OneShotMarkets(
        bids=bids,
        capacity_millicores=_draw_capacity(generator, bids, markets),
        payoffs=payoffs,
        priority_factor=factor,
        attacker=first + attacker,
        accomplice=first + accomplice,
        least_weight=float(LEAST_REQUEST_MILLICORES * scale),
    )


def _of_class(table: dict[PriorityClass, float], priority: IntArray) -> FloatArray:
    values: FloatArray = np.array([table[name] for name in CLASSES])[priority]
    return values


def _draw_demand(generator: np.random.Generator, mean: FloatArray, *, atoms_only: bool) -> Demand:
    """Draws histograms of about these means."""
    rows = mean.size
    spread = generator.uniform(0.1, 1.2, rows)[:, None]
    shape = (rows, BINS + 1)
    gamma = generator.gamma(1.0 / spread**2, spread**2, shape)
    lognormal = np.exp(generator.normal(0.0, 1.0, shape) * spread - spread**2 / 2.0)
    is_gamma = generator.integers(0, 2, (rows, 1)) == 0
    ends = np.sort(np.where(is_gamma, gamma, lognormal), axis=1) * mean[:, None]
    ends = np.rint(np.clip(ends, 1.0, 50.0 * mean[:, None]))
    concentration = generator.choice([0.3, 1.0, 5.0], (rows, 1))
    mass = generator.gamma(concentration, 1.0, (rows, BINS)) + 1e-6
    is_atom = generator.integers(0, 2, (rows, 1)) == 0
    is_atom |= atoms_only
    return Demand(
        low_millicores=ends[:, :-1],
        high_millicores=np.where(is_atom, ends[:, :-1], ends[:, 1:]),
        probability=mass / mass.sum(axis=1, keepdims=True),
    )


def _draw_capacity(generator: np.random.Generator, bids: Bids, markets: int) -> IntArray:
    """Draws what each market can hand out."""
    counted = np.minimum(bids.floor_millicores, bids.need_millicores)
    floors = sum_by(bids.market, counted, markets)
    wished = sum_by(bids.market, bids.need_millicores, markets) - floors
    fit = np.stack(
        [
            floors + generator.random(markets) * wished,
            floors + generator.uniform(1.0, 1.3, markets) * wished,
            generator.uniform(0.4, 1.0, markets) * floors,
        ]
    )
    kind = generator.choice(len(fit), markets, p=CAPACITY_SHARES)
    capacity = fit[kind, np.arange(markets)]
    whole: IntArray = np.maximum(capacity, 1.0).astype(np.int64)
    return whole
