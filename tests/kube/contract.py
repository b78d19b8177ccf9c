"""What MBCAS relies on of Kubernetes, as cases that run on the fake and on a real cluster alike.

Each was seen on Kubernetes 1.35.4. Refusals are matched by code, reason, cause and field: their
sentences vary by release. What is easily believed otherwise:

- A strategic merge patch that names containers in another order than the pod is refused (422), as
  an attempt to reorder them.
- metadata.uid in the patch is a precondition: 422 with cause metadata.uid, not 409. The generation
  is none, it is ignored; a test operation of a JSON patch is one (422, no causes).
- A pod that is being deleted, or has ended, may be resized: 200.
- Items of a list of built-in kinds do not say their kind.
- What no API group serves is a 404 in plain text, no Status.
- A watch from a version that is forgotten answers 200, and says 410 as its first event.

Each case starts in a namespace without pods, and leaves the node's room to others; those of ALONE
need the node for themselves.
"""

from collections.abc import Callable

from tests.kube import (
    contract_api,
    contract_life,
    contract_objects,
    contract_owners,
    contract_refusals,
    contract_resize,
    contract_room,
)
from tests.kube.kube import Kube

Case = Callable[[Kube], None]

CASES: tuple[Case, ...] = (
    *contract_resize.CASES,
    *contract_refusals.CASES,
    *contract_api.CASES,
    *contract_owners.CASES,
    *contract_objects.CASES,
    *contract_life.CASES,
    *contract_room.CASES,
)
ALONE: tuple[Case, ...] = (*contract_resize.ALONE, *contract_room.ALONE)


def name_of(case: Case) -> str:
    """Returns the id of a case among the tests."""
    return case.__name__
