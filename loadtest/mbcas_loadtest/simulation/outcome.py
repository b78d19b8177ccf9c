"""What came of a run: sums for each container, for the warm-up and for what follows it apart.

All of it is what an observer with the truth counts, and none of it what the system says of itself.
Arrays have the shape (m, n): node i is the draw of `seeds[i]`, so outcomes of two systems on one
world are paired entry by entry. Ratios are left to whoever reads this, who knows over what to sum.
"""

import io
import json
import zipfile
import zlib
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import FloatArray
from mbcas_loadtest.errors import SimulationError
from mbcas_loadtest.pages.files import write_atomically

VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Phase:
    """Sums over one part of a run, (m, n) each, over the seconds in which a container is there."""

    seconds: FloatArray
    """How long it was there."""
    usage_core_seconds: FloatArray
    limit_core_seconds: FloatArray
    """The allocation of one number: its limit, counted up to the node's CPUs."""
    request_core_seconds: FloatArray
    """The reservation."""
    idle_core_seconds: FloatArray
    """Reserved and not used in the same second."""
    wall_periods: FloatArray
    """Ten a second, whether or not the kernel's timer ran."""
    throttled_periods: FloatArray
    throttled_seconds: FloatArray
    """Summed over CPUs, as the kernel does."""
    demand_core_seconds: FloatArray
    """Work that arrived."""
    useful_core_seconds: FloatArray
    """Served, of each second at most what arrived in it."""
    possible_core_seconds: FloatArray
    """Its part of min(CPUs, sum of demand), second by second: what could have been useful."""
    entitled_core_seconds: FloatArray
    """Of each second's demand what the declared request covers, scaled down where the requests of a
    node exceed its CPUs."""
    denied_core_seconds: FloatArray
    """What of that was not served within its second."""
    unsent_core_seconds: FloatArray
    """What a closed loop did not send because too much was waiting."""
    starved_core_seconds: FloatArray
    """Runnable within its quota, and not run because the node's CPUs were busy."""
    delay_p50_seconds: FloatArray
    """Of work, from its arrival to its end, by quantity of work; NaN where none arrived."""
    delay_p99_seconds: FloatArray
    changes: FloatArray
    """Settings that reached the kernel, each container's own."""
    patches: FloatArray
    """PATCHes that were sent, at each pod's first container; 0 where written directly."""
    unfunded_seconds: FloatArray
    """Time for which a change waited for the resize budget."""
    refused: FloatArray
    """PATCHes that were answered with an error."""
    deferred: FloatArray
    """PATCHes that the kubelet put off."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Series:
    """One node, second by second, (seconds, n) each, in millicores unless said otherwise."""

    node: int
    usage_millicores: NDArray[np.float32]
    demand_millicores: NDArray[np.float32]
    limit_millicores: NDArray[np.float32]
    """In force at the end of the second; inf where there is none."""
    request_millicores: NDArray[np.float32]
    throttled_ratio: NDArray[np.float32]
    """Share of the second's periods."""
    backlog_core_seconds: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Outcome:
    """One system at one value of its knob in one world."""

    scenario: str
    system: str
    knob: float
    seeds: tuple[int, ...]
    cpus: int
    warmup: Phase
    measured: Phase
    settling_seconds: FloatArray
    """(m, n) milestones.md 1.4: first second from which the limit stays within 10 % of what it was
    then for five minutes, with throttling at most tau in them; NaN where that never happens. Not
    meant for loads that change for good: time counts from the world's start."""
    peak_throttled_ratio: FloatArray
    """(m, n) evaluation.md F.4: throttled share of the periods in the tenth of the measured seconds
    in which most work arrives for the container, and in all that equal the least of them; NaN where
    it was never there. What a closed loop did not send counts as arrived, so that all systems are
    judged by the same seconds."""
    counts: dict[str, int] = field(default_factory=dict)
    """What else was counted, by name, such as `violation-1` of MBCAS's own rules."""
    series: Series | None = None

    def save(self, path: Path) -> None:
        """Writes the file at once or not at all.

        Raises:
            OSError: It cannot be written.
        """
        arrays = {
            "settling_seconds": self.settling_seconds,
            "peak_throttled_ratio": self.peak_throttled_ratio,
        }
        for name, part in (("warmup", self.warmup), ("measured", self.measured)):
            arrays |= {f"{name}.{key.name}": getattr(part, key.name) for key in fields(Phase)}
        if self.series is not None:
            arrays |= {
                f"series.{key.name}": getattr(self.series, key.name)
                for key in fields(Series)
                if key.name != "node"
            }
        head = {
            "version": VERSION,
            "scenario": self.scenario,
            "system": self.system,
            "knob": self.knob,
            "seeds": self.seeds,
            "cpus": self.cpus,
            "counts": self.counts,
            "series_node": None if self.series is None else self.series.node,
        }
        content = io.BytesIO()
        np.savez_compressed(content, head=np.array(json.dumps(head)), **arrays)  # type: ignore[arg-type] # Its stub takes no names but its own.
        write_atomically(path, content.getvalue())


_DAMAGE = (
    AttributeError,
    EOFError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What a file that is no stored outcome raises; RuntimeError: it seems to be encrypted or packed in
a way that is not known."""


def load(path: Path) -> Outcome:
    """Reads what `Outcome.save` wrote.

    Raises:
        SimulationError: The file is none of these, or of another version; run it anew.
        OSError: It cannot be read.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = dict(file)
        head = json.loads(str(arrays.pop("head")))
        if head["version"] != VERSION:
            found = f"it is of version {head['version']}, not {VERSION}"
            raise SimulationError(f"{path}: {found}; remove it, and it is run anew")
        seeds = tuple(int(seed) for seed in head["seeds"])
        node = head["series_node"]
        outcome = Outcome(
            scenario=str(head["scenario"]),
            system=str(head["system"]),
            knob=float(head["knob"]),
            seeds=seeds,
            cpus=int(head["cpus"]),
            warmup=Phase(**_part(arrays, "warmup", len(seeds))),
            measured=Phase(**_part(arrays, "measured", len(seeds))),
            settling_seconds=arrays["settling_seconds"],
            peak_throttled_ratio=arrays["peak_throttled_ratio"],
            counts={str(name): int(count) for name, count in head["counts"].items()},
            series=None if node is None else _series(arrays, int(node)),
        )
    except _DAMAGE as error:
        message = f"{path}: it is no stored outcome ({error}); remove it, and it is run anew"
        raise SimulationError(message) from error
    return outcome


def _part(arrays: dict[str, FloatArray], name: str, nodes: int) -> dict[str, FloatArray]:
    """Returns the arrays of a phase, checked to be of one shape."""
    part = {key.name: arrays[f"{name}.{key.name}"] for key in fields(Phase)}
    shapes = {array.shape for array in part.values()}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2 or shape[0] != nodes:  # noqa: PLR2004 - (m, n).
        raise ValueError(f"{name}: arrays of {nodes} seeds have the shapes {shapes}")
    return part


def _series(arrays: dict[str, FloatArray], node: int) -> Series:
    known = {
        key.name: arrays[f"series.{key.name}"].astype(np.float32)
        for key in fields(Series)
        if key.name != "node"
    }
    return Series(node=node, **known)
