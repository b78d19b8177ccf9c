"""Which differences between target and applied are worth an order.

Up: at least `band_millicores`, and either more than `band_ratio` above what is applied or a row
that is throttled above its target. No dwell upward. Down: more than the band below, and not before
the row has rested for the dwell since its last change. Up to what a row is owed only the relative
band applies, or an idle container would be patched for every millicore its need moves; up to the
admitted limit none does.
"""

import numpy as np

from mbcas_core.units import BoolArray, FloatArray, IntArray


def worth_raising(
    applied: IntArray,
    target: IntArray,
    *,
    owed: IntArray,
    admitted: IntArray,
    throttled: BoolArray,
    band_ratio: float,
    band_millicores: int,
) -> BoolArray:
    """True where the target is worth a raise.

    Args:
        applied: What is in force, in millicores, shape (n,) as the rest.
        target: What the market says.
        owed: Up to this only the relative band applies.
        admitted: Up to this no band applies.
        throttled: True where throttling has been above its target.
        band_ratio: Width of the band.
        band_millicores: Its least width.
    """
    beyond = target > (1.0 + band_ratio) * applied
    worth: BoolArray = (target - applied >= band_millicores) & (beyond | throttled)
    return worth | (beyond & (applied < owed)) | ((target > applied) & (applied < admitted))


def worth_cutting(
    applied: IntArray, target: IntArray, *, band_ratio: float, band_millicores: int
) -> BoolArray:
    """True where the target is worth a cut, in time."""
    worth: BoolArray = (target < (1.0 - band_ratio) * applied) & (
        applied - target >= band_millicores
    )
    return worth


def limit_cut(applied: IntArray, target: IntArray, *, cut_max_ratio: float) -> IntArray:
    """The target, or the most that one round may take away where that is less of a cut."""
    least: FloatArray = np.ceil(applied * (1.0 - cut_max_ratio))
    return np.maximum(target, least.astype(np.int64))
