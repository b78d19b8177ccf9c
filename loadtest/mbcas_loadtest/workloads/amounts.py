"""Numbers of a scenario file: given, or drawn for each container and seed."""

from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

AMOUNT_MAX = 1e9
Number = Annotated[float, Field(ge=0, le=AMOUNT_MAX, allow_inf_nan=False)]


class Closed(BaseModel):
    """A mapping with these fields and no others; a number is never read out of a text."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=False, hide_input_in_errors=True
    )


class Amount(Closed):
    """A number, `{from: A, to: B}` or `{choose: [A, B, C]}`."""

    from_: Number | None = Field(default=None, alias="from")
    to: Number | None = None
    choose: tuple[Number, ...] | None = Field(default=None, min_length=1, max_length=100)

    @model_validator(mode="before")
    @classmethod
    def _accept_a_number(cls, given: Any) -> Any:  # noqa: ANN401 - it is not checked yet.
        if isinstance(given, dict):
            return {**given, "choose": tuple(given["choose"])} if _has_list(given) else given
        return {"choose": (given,)}

    @model_validator(mode="after")
    def _is_one_of_the_three(self) -> Self:
        is_range = self.from_ is not None and self.to is not None
        if is_range == (self.choose is not None) or (self.from_ is None) != (self.to is None):
            raise ValueError("must be a number, {from: A, to: B} or {choose: [A, B]}")
        if is_range and self.least > self.most:
            raise ValueError(f"from {self.least:g} to {self.most:g}: must not fall")
        return self

    @property
    def least(self) -> float:
        return min(self.choose) if self.choose is not None else self.from_ or 0.0

    @property
    def most(self) -> float:
        return max(self.choose) if self.choose is not None else self.to or 0.0

    def draw(self, generator: np.random.Generator) -> float:
        """Returns the number, or a drawn one."""
        if self.choose is not None:
            return self.choose[generator.integers(len(self.choose))]
        return float(generator.uniform(self.least, self.most))


def _has_list(given: dict[Any, Any]) -> bool:
    return isinstance(given.get("choose"), list)
