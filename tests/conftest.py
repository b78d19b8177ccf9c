"""What holds for all tests: how Hypothesis searches, and that no arithmetic goes wrong silently."""

import os

import numpy as np
from hypothesis import settings

# `ci` tries the same cases each time: a red test stays red. `explore` looks for new ones.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=5_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

np.seterr(all="raise")

# These need a Kubernetes, which `make e2e` starts and names.
collect_ignore = [] if "MBCAS_E2E_CLUSTER" in os.environ else ["e2e"]
