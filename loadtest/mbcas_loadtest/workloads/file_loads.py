"""The loads of a scenario file: those of `loads`, with numbers that may be drawn."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from mbcas_loadtest.workloads import loads
from mbcas_loadtest.workloads.amounts import Amount, Closed, Number

SPREAD_MAX = 3.0


def _to_tuple(given: object) -> object:
    return tuple(given) if isinstance(given, list) else given


def _require_positive(amount: Amount, name: str) -> None:
    if amount.least <= 0:
        raise ValueError(f"{name} must be above 0")


def _require_order(shorter: Amount, longer: Amount, names: str) -> None:
    if shorter.most > longer.least:
        raise ValueError(f"{names}: the first must not exceed the second, whatever is drawn")


class ConstantLoad(Closed):
    """`loads.Constant`."""

    kind: Literal["constant"]
    mean_millicores: Amount


class RampLoad(Closed):
    """`loads.Ramp`."""

    kind: Literal["ramp"]
    from_millicores: Amount
    to_millicores: Amount
    start_seconds: Amount
    rise_seconds: Amount
    fall_start_seconds: Amount | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _require_positive(self.rise_seconds, "rise_seconds")
        return self


class PeriodicLoad(Closed):
    """`loads.Periodic`."""

    kind: Literal["periodic"]
    low_millicores: Amount
    high_millicores: Amount
    period_seconds: Amount
    peak_seconds: Amount
    phase_seconds: Amount = Amount(choose=(0.0,))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _require_positive(self.period_seconds, "period_seconds")
        _require_order(self.peak_seconds, self.period_seconds, "peak_seconds, period_seconds")
        return self


class BurstsLoad(Closed):
    """`loads.Bursts`."""

    kind: Literal["bursts"]
    low_millicores: Amount
    high_millicores: Amount
    shortest_seconds: Amount
    longest_seconds: Amount
    gap_mean_seconds: Amount

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _require_positive(self.gap_mean_seconds, "gap_mean_seconds")
        _require_positive(self.shortest_seconds, "shortest_seconds")
        _require_order(
            self.shortest_seconds, self.longest_seconds, "shortest_seconds, longest_seconds"
        )
        return self


class LevelsLoad(Closed):
    """`loads.Levels`."""

    kind: Literal["levels"]
    mean_millicores: Amount
    spread: Amount
    shortest_seconds: Amount
    longest_seconds: Amount

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _require_positive(self.shortest_seconds, "shortest_seconds")
        _require_order(
            self.shortest_seconds, self.longest_seconds, "shortest_seconds, longest_seconds"
        )
        if self.spread.most > SPREAD_MAX:
            raise ValueError(f"spread must be at most {SPREAD_MAX:g}")
        return self


class WaveLoad(Closed):
    """`loads.Wave`."""

    kind: Literal["wave"]
    mean_millicores: Amount
    amplitude: Amount
    period_seconds: Amount
    phase_seconds: Amount = Amount(choose=(0.0,))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _require_positive(self.period_seconds, "period_seconds")
        if self.amplitude.most > 1:
            raise ValueError("amplitude is a share of the mean, at most 1")
        return self


class StepsLoad(Closed):
    """`loads.Steps`."""

    kind: Literal["steps"]
    from_seconds: Annotated[tuple[Number, ...], BeforeValidator(_to_tuple), Field(min_length=1)]
    millicores: Annotated[tuple[Number, ...], BeforeValidator(_to_tuple), Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.from_seconds[0] != 0:
            raise ValueError("from_seconds must begin with 0")
        if any(a >= b for a, b in zip(self.from_seconds, self.from_seconds[1:], strict=False)):
            raise ValueError("from_seconds must ascend")
        if len(self.millicores) != len(self.from_seconds):
            raise ValueError("from_seconds and millicores must be of one length")
        return self


KINDS: dict[type[Closed], type[loads.Load]] = {
    ConstantLoad: loads.Constant,
    RampLoad: loads.Ramp,
    PeriodicLoad: loads.Periodic,
    BurstsLoad: loads.Bursts,
    LevelsLoad: loads.Levels,
    WaveLoad: loads.Wave,
    StepsLoad: loads.Steps,
}
FileLoad = Annotated[
    ConstantLoad | RampLoad | PeriodicLoad | BurstsLoad | LevelsLoad | WaveLoad | StepsLoad,
    Field(discriminator="kind"),
]


def draw_load(given: FileLoad, generator: np.random.Generator) -> loads.Load:
    """Returns the load with its numbers drawn, in the order of its fields."""
    fields = {name: getattr(given, name) for name in type(given).model_fields if name != "kind"}
    drawn = {
        name: value.draw(generator) if isinstance(value, Amount) else value
        for name, value in fields.items()
        if value is not None
    }
    return KINDS[type(given)](**drawn)
