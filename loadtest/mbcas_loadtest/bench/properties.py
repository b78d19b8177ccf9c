"""The long run of the mechanism's properties: each on many random markets, violations counted.

Markets come in batches, each a function of (seed, batch), and what a property perturbs in them is a
function of (seed, batch, property); so a violation names all that is needed to see it again.

A trial is a market and one draw of what is perturbed in it. With no violation in N of them, the
ratio that violates is below 3 / N with 95 % confidence (the rule of three: (1 - 3 / N)^N is e^-3,
about 0.05), for trials as they are drawn here: not for the worst that somebody could search for,
which is what `bench incentives` does. Markets of a batch share a quantum and the number of parts
that pods split into; for what depends on these, there are as many trials as batches.
"""

import math
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.mechanism.markets import Kind, Markets, draw_markets
from mbcas_loadtest.mechanism.properties import PROPERTIES
from mbcas_loadtest.mechanism.verdicts import MBCAS, Mechanism, Verdict

BATCH_MARKETS = 1000
MAX_SHOWN_VIOLATIONS = 5


@dataclass(slots=True)
class _Tally:
    """What one property showed so far."""

    markets: int = 0
    violations: int = 0
    real_miss: float = 0.0
    quanta_miss: float = 0.0
    quanta_allowed: float = 0.0
    cpu_seconds: float = 0.0
    shown: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, verdict: Verdict, markets: Markets, place: tuple[int, int]) -> None:
        claimed = verdict.claimed
        self.markets += int(claimed.sum())
        self.violations += int(verdict.violated.sum())
        self.quanta_allowed = max(self.quanta_allowed, verdict.quanta_allowed)
        if claimed.any():
            self.real_miss = max(self.real_miss, float(verdict.real_miss[claimed].max()))
            self.quanta_miss = max(self.quanta_miss, float(verdict.quanta_miss[claimed].max()))
        seed, batch = place
        for market in np.flatnonzero(verdict.violated)[: MAX_SHOWN_VIOLATIONS - len(self.shown)]:
            self.shown.append(
                {
                    "market": int(market),
                    "kind": Kind(int(markets.kind[market])).name.lower(),
                    "real_miss": _finite(float(verdict.real_miss[market])),
                    "quanta_miss": _finite(float(verdict.quanta_miss[market])),
                    "again": f"mbcas-loadtest bench properties --seed {seed} --batch {batch} "
                    f"--property {name}",
                }
            )

    def figures(self) -> dict[str, Any]:
        bound = None if self.violations or not self.markets else 3 / self.markets
        return {
            "markets": self.markets,
            "violations": self.violations,
            "violating_ratio_at_most": bound,
            "largest_real_miss": _finite(self.real_miss),
            "largest_quanta_miss": _finite(self.quanta_miss),
            "quanta_allowed": self.quanta_allowed,
            "cpu_seconds": round(self.cpu_seconds, 1),
            "seen": self.shown,
        }


def bench_properties(
    *,
    markets: int,
    seed: int,
    names: Iterable[str] = PROPERTIES,
    tell: Callable[[str], None] = lambda _: None,
    mechanism: Mechanism = MBCAS,
) -> dict[str, Any]:
    """Checks each property on at least this many markets in which it is claimed."""
    started = monotonic_seconds()
    tallies = {name: _Tally() for name in names}
    batch = 0
    while open_names := [name for name, tally in tallies.items() if tally.markets < markets]:
        drawn = draw_markets(seed=seed, batch=batch, count=BATCH_MARKETS)
        for name in open_names:
            _check(name, tallies[name], drawn, (seed, batch), mechanism)
        batch += 1
        least = min(tally.markets for tally in tallies.values())
        violations = sum(tally.violations for tally in tallies.values())
        tell(f"{least:,} of {markets:,} markets, {violations} violations")
    return _figures(tallies, seed, monotonic_seconds() - started)


def check_batch(
    *, seed: int, batch: int, names: Iterable[str] = PROPERTIES, mechanism: Mechanism = MBCAS
) -> dict[str, Any]:
    """Checks one batch again, as a violation of it asks for."""
    started = monotonic_seconds()
    tallies = {name: _Tally() for name in names}
    drawn = draw_markets(seed=seed, batch=batch, count=BATCH_MARKETS)
    for name, tally in tallies.items():
        _check(name, tally, drawn, (seed, batch), mechanism)
    return _figures(tallies, seed, monotonic_seconds() - started)


def _check(
    name: str, tally: _Tally, drawn: Markets, place: tuple[int, int], mechanism: Mechanism
) -> None:
    generator = np.random.default_rng([*place, zlib.crc32(name.encode())])
    started = time.process_time()
    verdict = PROPERTIES[name](drawn, generator, mechanism)
    tally.cpu_seconds += time.process_time() - started
    tally.add(name, verdict, drawn, place)


def _figures(tallies: dict[str, _Tally], seed: int, wall_seconds: float) -> dict[str, Any]:
    return {
        "schema": "mbcas.bench.properties/1",
        "seed": seed,
        "violations": sum(tally.violations for tally in tallies.values()),
        "wall_seconds": round(wall_seconds, 1),
        "properties": {name: tally.figures() for name, tally in tallies.items()},
    }


def _finite(value: float) -> float | str:
    """Returns the value as JSON can say it."""
    return value if math.isfinite(value) else "inf"
