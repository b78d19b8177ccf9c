"""The API servers of all supported versions of Kubernetes take what the chart renders."""

import subprocess
from pathlib import Path

import pytest

from tests.deploy import chart
from tests.e2e.cluster.kube_schemas import VERSIONS, location, schemas
from tests.e2e.cluster.programs import find

OTHERS = "Certificate,Issuer,PodMonitor"
"""Kinds of other projects, whose schemas are not part of Kubernetes."""


def conform(version: str, folder: Path) -> subprocess.CompletedProcess[str]:
    places = ["-schema-location", location(schemas(version)), "-skip", OTHERS]
    command = [str(find("kubeconform")), "-strict", "-summary", *places, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    for values in chart.VALUES.glob("*.yaml"):
        (folder / values.name).write_text(chart.render(values))
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_that_the_chart_renders_conforms(version: str, rendered: Path) -> None:
    done = conform(version, rendered)

    assert done.returncode == 0, done.stdout
    assert "Invalid: 0, Errors: 0" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("minReadySeconds: 1", "minReadySecond: 1"),
        ("minReadySeconds: 1", "minReadySeconds: soon"),
    ],
)
def test_a_wrong_field_would_be_found(right: str, wrong: str, tmp_path: Path) -> None:
    manifest = """\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: some}
spec:
  %s
  selector: {matchLabels: {a: b}}
  template: {spec: {containers: [{name: one, resources: {requests: {cpu: 1}}}]}}
"""
    codes = []
    for field in (right, wrong):
        (tmp_path / "some.yaml").write_text(manifest % field)
        codes.append(conform(VERSIONS[0], tmp_path).returncode)

    assert codes == [0, 1]
