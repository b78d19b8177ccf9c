from collections.abc import Callable

import pytest

from tests.kube.contract import CASES
from tests.kube.fake_kube import FakeKube
from tests.kube.kube import Kube


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_fake(case: Callable[[Kube], None], kube: FakeKube) -> None:
    case(kube)
