"""The four request rates of Autothrottle (NSDI 2024; microsoft/autothrottle, traces/), as loads.

Two were at hand and are replayed. Of the other two evaluation.md (end of section 1) has statistics,
and a load is drawn to those: `diurnal-2` has 90 to 394 requests/s, mean 228, CV 0.42 and 0.99
autocorrelation at 60 s, which a sine of 45 minutes has; `noisy` has 81 to 245, mean 158, CV 0.19,
0.48 autocorrelation at 60 s and 5.8 % of the mean as standard deviation of the differences of 1 s.
With a slow part of variance s, a white part of variance w and r = exp(-1 s / T) that is

    s + w = 0.19^2,    s r^60 = 0.48 (s + w),    2 s (1 - r) + 2 w = 0.058^2,

so s = 0.186^2, T = 87 s, w = 0.036^2.

The traces are data of others and not part of this repository. They are looked for in the folder
that MBCAS_TRACES names, else beside the repository, in ../shared/traces.
"""

import functools
import os
from pathlib import Path

import numpy as np

from mbcas_loadtest.workloads.loads import Load, Samples, Wander, Wave
from mbcas_loadtest.workloads.traces import Series, TraceError, read_series

AUTOTHROTTLE = "rps_autothrottle.csv.gz"
_MEASURED = "measured: the shape of the request rate, 1 s, its end joined to its beginning"
RATES_MODELLED = {
    "bursty": _MEASURED,
    "diurnal": _MEASURED,
    "diurnal-2": "nothing is measured but the statistics that the rate was drawn to",
    "noisy": "nothing is measured but the statistics that the rate was drawn to",
}
"""The four rates, and what of each is measured."""
_ENVIRONMENT = "MBCAS_TRACES"
_REPOSITORY = Path(__file__).resolve().parents[3]


def find_traces() -> Path:
    """Returns the folder of traces, there or not."""
    named = os.environ.get(_ENVIRONMENT)
    return Path(named) if named else _REPOSITORY.parent / "shared" / "traces"


@functools.lru_cache(maxsize=32)  # A run draws the same few series for each of its seeds.
def load_series(path: Path, series_id: str) -> Series:
    """Reads a series once, gaps and all.

    Raises:
        TraceError: It cannot be used; where the file is absent it says where it is looked for.
    """
    if not path.exists():
        raise TraceError(
            f"{path}: there is no such file; set {_ENVIRONMENT} to the folder of the traces"
        )
    return read_series(path, series_id, may_gap=True)


def draw_rate(
    generator: np.random.Generator, shape: str, *, mean_millicores: float, seconds: int
) -> Load:
    """Returns a load that follows one of RATES_MODELLED, from a random offset on."""
    match shape:
        case "diurnal-2":
            return Wave(
                mean_millicores=mean_millicores,
                amplitude=0.594,
                period_seconds=2_700.0,
                phase_seconds=generator.uniform(0.0, 2_700.0),
            )
        case "noisy":
            return Wander(
                mean_millicores=mean_millicores,
                slow_spread=0.186,
                slow_seconds=87.0,
                white_spread=0.036,
                least_ratio=81.0 / 158.0,
                most_ratio=245.0 / 158.0,
            )
        case _:
            series = load_series(find_traces() / AUTOTHROTTLE, f"autothrottle/{shape}")
            return draw_offset(generator, series, mean_millicores, seconds)


def draw_offset(
    generator: np.random.Generator, series: Series, mean_millicores: float, seconds: int
) -> Samples:
    """Returns an even series, scaled to a mean, from a random offset on.

    Where it ends it goes on with its beginning.
    """
    offset = int(generator.integers(series.values.size))
    needed = int(np.ceil(seconds / series.sample_seconds))
    values = np.take(series.values, np.arange(offset, offset + needed), mode="wrap")
    return Samples(
        millicores=values * (mean_millicores / series.values.mean()),
        sample_seconds=series.sample_seconds,
    )
