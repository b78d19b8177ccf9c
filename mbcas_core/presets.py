"""Named sets of parameters.

`plan` turns on the rules of the founding plan that are off by default because each of them makes
some lie pay or takes CPU from where it is needed: needs are scaled by the price in two passes, what
idles weighs less, and refusals raise a floor. Its priority factors are the default's. Its tabular
learner has no place here yet: it comes with the learning agents.
"""

from enum import StrEnum

from mbcas_core.parameters import Parameters, PriceResponse


class Preset(StrEnum):
    """The sets, by the names that settings use."""

    DEFAULT = "default"
    PLAN = "plan"


PRESETS: dict[Preset, Parameters] = {
    Preset.DEFAULT: Parameters(),
    Preset.PLAN: Parameters(
        price_response=PriceResponse.TWO_PASS,
        class_weight={"idle": 0.3},
        refusal_floor_step=0.1,
    ),
}
