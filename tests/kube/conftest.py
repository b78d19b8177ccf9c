from collections.abc import Iterator

import pytest

from tests.kube.fake_cluster import FakeCluster
from tests.kube.fake_kube import FakeKube


@pytest.fixture
def kube() -> Iterator[FakeKube]:
    with FakeCluster() as cluster:
        yield FakeKube(cluster)
