import pytest

from tests.kube.contract import CASES, Case, name_of
from tests.kube.fake_kube import FakeKube


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_fake(case: Case, kube: FakeKube) -> None:
    case(kube)
