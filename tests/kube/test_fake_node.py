"""The fake's node: its cgroups as files, its silence, and how its server may be reached."""

import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.kube.fake_cluster import FakeCluster
from tests.kube.fake_kube import FakeKube
from tests.kube.kube import status_of
from tests.kube.resources import Pod
from tests.kube.shapes import BURSTABLE, GUARANTEED, single

TOP = "cpu,cpuacct/kubepods"


def folder_of(root: Path, pod: Pod, qos: str) -> Path:
    name = str(status_of(pod)["containerID"]).removeprefix("containerd://")
    return root / TOP / qos / f"pod{pod['metadata']['uid']}" / name


def ready(kube: FakeKube) -> str:
    node = kube.call("GET", "/api/v1/nodes/fake-node")
    return str(node.body["status"]["conditions"][0]["status"])


def test_a_container_has_the_files_of_a_cgroup_until_its_pod_goes(tmp_path: Path) -> None:
    with FakeCluster(cgroups=tmp_path) as cluster:
        kube = FakeKube(cluster)
        burstable = kube.create_pod(single("web", BURSTABLE))
        guaranteed = kube.create_pod(single("db", GUARANTEED))
        folder = folder_of(tmp_path, burstable, "burstable")
        assert (folder / "cpu.cfs_quota_us").read_text() == "50000\n"
        assert (folder / "cpuacct.usage").read_text() == "0\n"
        assert (folder_of(tmp_path, guaranteed, "") / "cpu.shares").read_text() == "51\n"
        kube.resize("web", {"main": {"limits": {"cpu": "300m"}}})
        kube.wait(lambda: kube.settled("web"))
        assert (folder / "cpu.cfs_quota_us").read_text() == "30000\n"
        kube.delete("web")
        assert not folder.parent.exists()


def test_a_restarted_container_has_another_folder_with_nothing_used(tmp_path: Path) -> None:
    with FakeCluster(cgroups=tmp_path) as cluster:
        kube = FakeKube(cluster)
        before = folder_of(tmp_path, kube.create_pod(single("web", BURSTABLE)), "burstable")
        (before / "cpuacct.usage").write_text("7\n")
        kube.end_container("web", "main", exit_code=1)
        kube.wait(lambda: status_of(kube.get("web"))["restartCount"] == 1)
        after = folder_of(tmp_path, kube.get("web"), "burstable")
        assert not before.exists()
        assert (after / "cpuacct.usage").read_text() == "0\n"


def test_a_silent_kubelet_makes_its_node_unknown_after_fifty_seconds(kube: FakeKube) -> None:
    kube.stop_kubelet()
    kube.let_pass(49.0)
    assert ready(kube) == "True"
    kube.let_pass(2.0)
    assert ready(kube) == "Unknown"
    kube.start_kubelet()
    assert ready(kube) == "True"


def test_a_pod_does_not_go_while_its_kubelet_is_silent(kube: FakeKube) -> None:
    kube.create_pod(single("web", BURSTABLE, terminationGracePeriodSeconds=2))
    kube.stop_kubelet()
    kube.call("DELETE", f"{kube.pods}/web")
    kube.let_pass(60.0)
    assert kube.get("web")["status"]["phase"] == "Running"
    kube.start_kubelet()
    kube.wait(lambda: kube.call("GET", f"{kube.pods}/web").code == 404)


def test_a_server_that_is_down_answers_nothing_and_comes_back_as_it_was(kube: FakeKube) -> None:
    kube.create_pod(single("web", BURSTABLE))
    kube.cluster.set_down(is_down=True)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        kube.get("web")
    kube.cluster.set_down(is_down=False)
    assert kube.get("web")["metadata"]["name"] == "web"


def test_the_server_may_be_reached_over_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate}"
    options = "-days 2 -subj /CN=fake -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), *options.split()], check=True, capture_output=True)
    with FakeCluster(tls=(certificate, key)) as cluster:
        context = ssl.create_default_context(cafile=str(certificate))
        with urllib.request.urlopen(f"{cluster.server}/readyz", context=context) as answer:  # noqa: S310 - loopback.
            assert answer.status == 200
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(f"{cluster.server}/readyz")  # noqa: S310 - loopback.


def test_what_is_put_there_is_seen_as_it_is(kube: FakeKube) -> None:
    pod = single("far", BURSTABLE, nodeName="another-node")
    pod["metadata"]["namespace"] = kube.namespace
    kube.cluster.put("pods", pod | {"status": {"phase": "Running"}})
    assert kube.get("far")["status"] == {"phase": "Running"}
    assert kube.get("far")["metadata"]["uid"]
