"""Units and array types.

CPU is counted in whole millicores (1000 = one core), time in float seconds. Kernel counters keep
the kernel's name and unit until one of the conversions here.
"""

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MILLICORES_PER_CORE = 1000
USEC_PER_SECOND = 1_000_000
CPU_PERIOD_USEC = 100_000  # The kernel's default, cgroup-v2.rst, cpu.max.
CPU_PERIOD_SECONDS = 0.1
SLICES_PER_SECOND = 10  # A slice is as long as the kernel's default period.
MIN_CEILING_MILLICORES = 10  # The kernel's least quota is 1 ms of a 100 ms period.
MAX_MILLICORES = 10_000_000  # 10,000 cores: far above any machine, far below int64 trouble.
