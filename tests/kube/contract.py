"""What MBCAS relies on of Kubernetes, as cases that run on the fake and on a real cluster alike.

Each was seen on Kubernetes 1.35.4. Refusals are matched by code, reason, cause and field: their
sentences vary by release. Each case starts in a namespace without pods.
"""

from collections.abc import Callable

from tests.kube import contract_api, contract_refusals, contract_resize
from tests.kube.kube import Kube

CASES: tuple[Callable[[Kube], None], ...] = (
    *contract_resize.CASES,
    *contract_refusals.CASES,
    *contract_api.CASES,
)
