"""What Helm makes of the chart; skipped where there is no Helm (`make e2e` builds one)."""

from pathlib import Path
from typing import Any

import pytest

from tests.deploy import chart

pytestmark = pytest.mark.skipif(
    chart.find_helm() is None, reason="there is no helm: make e2e builds it, with Go"
)
NONE = chart.VALUES / "none.yaml"
WRITING = {"create", "update", "patch", "delete", "deletecollection", "*"}


def find(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = (o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))
    return found


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = manifest["spec"]["template"]["spec"]["containers"]
    return found


@pytest.mark.parametrize("values", sorted(chart.VALUES.glob("*.yaml")), ids=lambda path: path.stem)
def test_rendered_manifests_are_those_of_the_snapshot(values: Path) -> None:
    rendered = chart.render(values)
    snapshot = chart.SNAPSHOTS / values.name
    if chart.is_to_be_written():
        snapshot.write_text(rendered)

    assert rendered == snapshot.read_text(), "MBCAS_GOLDEN=write writes the snapshots anew"


def test_the_linter_has_nothing_to_say() -> None:
    done = chart.helm("lint", "--strict", str(chart.CHART))

    assert "0 chart(s) failed" in done.stdout


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("server.settings.mod=auto", "mod"),
        ("server.settings.mode=on", "mode"),
        ("server.settings.kubernetes=false", "kubernetes"),
        ("server.replica=2", "replica"),
        ("shim.cgroup.version=3", "version"),
        ("shim.cgroup.hostPath=sys/fs/cgroup", "hostPath"),
        ("shim.cgroup.hostPath=/sys/fs/cgroup/..", "hostPath"),
        ("shim.cgroup.hostPath=/sys/../etc", "hostPath"),
        ("shim.cgroup.kubeletRoot=kubelet", "kubeletRoot"),
        ("shim.cgroup.kubeletRoot=/..", "kubeletRoot"),
        ("shim.cgroup.kubeletRoot=/kubelet/../../../etc/", "kubeletRoot"),
        ("shim.burst.podsFolder=..", "podsFolder"),
        ("shim.burst.podsFolder=kubepods/../..", "podsFolder"),
        ("shim.settings.insecure=true", "insecure"),
        ("tls.source=letsencrypt", "source"),
        ("tls.source=existing", "tls.existingSecret"),
        ("networkPolicy.apiPorts={0}", "apiPorts"),
        ("server.podAnnotations.mbcas\\.io/mode=auto", "mbcas.io/mode"),
        ("shim.podLabels.app\\.kubernetes\\.io/name=mine", "app.kubernetes.io/name"),
        ("server.ports.http=7443", "server.ports"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(given: str, words: str) -> None:
    said = chart.render(None, given, check=False)

    assert "Error:" in said
    assert words in said


@pytest.mark.parametrize("root", ["/", "/kubelet", "/kubelet.slice/", "/a/..b/.c"])
def test_a_cgroup_root_of_the_kubelet_is_taken_as_given(root: str) -> None:
    objects = chart.objects(chart.render(None, f"shim.cgroup.kubeletRoot={root}"))

    (container,) = containers(find(objects, "DaemonSet", "mbcas-shim"))
    assert f"--kubelet-cgroup-root={root}" in container["args"]


def test_without_values_nothing_is_ever_resized() -> None:
    config = find(chart.objects(chart.render()), "ConfigMap", "mbcas-server")

    assert config["data"]["server.yaml"].strip() == "{}"
    assert chart.SETTINGS["server"].model_fields["mode"].default == "recommend"


def test_nothing_runs_as_root_or_can_write_where_it_was_not_told_to() -> None:
    for manifest in chart.objects(chart.render()):
        if manifest["kind"] not in ("Deployment", "DaemonSet", "Job"):
            continue
        pod = manifest["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        paths = {v["name"] for v in pod["volumes"] if "hostPath" in v}
        writable = {m["name"] for m in container["volumeMounts"] if not m.get("readOnly")}
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not paths & writable
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_on_cgroup_v1_the_shim_sees_the_cpu_controllers_and_no_other() -> None:
    objects = chart.objects(chart.render(chart.VALUES / "cgroup-v1.yaml"))
    pod = find(objects, "DaemonSet", "mbcas-shim")["spec"]["template"]["spec"]

    folders = [v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v]

    assert folders == ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct"]


def test_with_burst_credit_root_may_write_the_folder_of_all_pods_and_nothing_else() -> None:
    objects = chart.objects(chart.render(None, "shim.burst.enabled=true"))
    pod = find(objects, "DaemonSet", "mbcas-shim")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    writable = {m["name"] for m in container["volumeMounts"] if not m.get("readOnly")}
    folders = {v["name"]: v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v}

    assert {name: folders[name] for name in writable} == {"pods": "/sys/fs/cgroup/kubepods.slice"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "--burst-credit" in containers(find(objects, "Deployment", "mbcas-server"))[0]["args"]


def test_the_shim_may_change_pods_by_resize_only_and_the_server_not_at_all() -> None:
    objects = chart.objects(chart.render())

    writes = {
        name: {
            resource
            for rule in find(objects, "ClusterRole", name)["rules"]
            if WRITING & set(rule["verbs"])
            for resource in rule["resources"]
        }
        for name in ("mbcas-shim", "mbcas-server", "mbcas-release")
    }

    assert writes["mbcas-shim"] == {"pods/resize"}
    assert writes["mbcas-release"] == {"podallocations"}
    assert writes["mbcas-server"] == {
        "events",
        "podallocations",
        "podallocations/status",
        "subjectaccessreviews",
        "tokenreviews",
    }


def test_a_name_of_the_release_is_in_every_name_that_the_cluster_shares() -> None:
    objects = chart.objects(chart.render(None, "fullnameOverride=second"))

    shared = [o for o in objects if "namespace" not in o["metadata"]]

    names = {o["metadata"]["name"] for o in shared if o["kind"] != "CustomResourceDefinition"}
    assert names == {"second-server", "second-shim", "second-release", "second-viewer"}


def test_changed_settings_replace_the_pods_that_read_them() -> None:
    before, after = (
        find(chart.objects(chart.render(None, *sets)), "Deployment", "mbcas-server")
        for sets in ((), ("server.settings.mode=auto",))
    )

    assert before["spec"]["template"] != after["spec"]["template"]
