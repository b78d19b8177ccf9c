"""MBCAS installed by its chart in the cluster, for the tests that need it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.cluster.cluster import NODE, Cluster, free_ports
from tests.e2e.cluster.images_mbcas import SERVER, SHIM, load_image
from tests.e2e.cluster.programs import find

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "mbcas"
RELEASE, NAMESPACE = "mbcas", "mbcas-system"
AUDIENCE = "mbcas"
WAIT_SECONDS = 120
Values = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A release of the chart; `values` are what this machine makes necessary."""

    cluster: Cluster
    values: Values
    grpc_port: int
    http_port: int

    def upgrade(self, **more: Values) -> None:
        """Installs, or upgrades to the machine's values and these."""
        path = self.cluster.folder / "values.yaml"
        path.write_text(yaml.safe_dump(_merged(self.values, more)))
        self.helm(
            *("upgrade", RELEASE, str(CHART), "--install", "--create-namespace"),
            *("--values", str(path), "--wait", f"--timeout={WAIT_SECONDS}s"),
        )

    def uninstall(self, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.helm("uninstall", RELEASE, "--wait", *more, check=check)

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs Helm in the release's namespace; its words are in the error, where it fails."""
        command = [str(find("helm")), "--kubeconfig", str(self.cluster.kubeconfig)]
        command += ["--namespace", NAMESPACE, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, f"{done.stderr}\n{self.logs()}"
        return done

    def token(self, account: str, *, audience: str = AUDIENCE, pod: str = "") -> str:
        """Returns a token of one of the release's accounts, bound to a pod where one is named."""
        bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod}"] if pod else []
        audiences = [f"--audience={audience}"] if audience else []
        asked = ("create", "token", account, "--namespace", NAMESPACE, *audiences, *bound)
        return self.cluster.kubectl(*asked).stdout.strip()

    def pod_of(self, component: str) -> str:
        """Returns the name of a component's pod."""
        label = f"app.kubernetes.io/component={component}"
        listed = self.cluster.kubectl("get", "pods", "-n", NAMESPACE, "-l", label, "-o", "name")
        (name,) = listed.stdout.split()
        return name.removeprefix("pod/")

    def authority(self) -> Path:
        """Returns a file with the authority that the server's certificate is from."""
        path = self.cluster.folder / "server-ca.crt"
        asked = ("get", "configmap", "mbcas-server-ca", "-n", NAMESPACE, "-o", "json")
        path.write_text(json.loads(self.cluster.kubectl(*asked).stdout)["data"]["ca.crt"])
        return path

    def ctl(
        self, *arguments: str, account: str = "mbcas-server", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs mbcasctl as one of the release's accounts."""
        token = self.cluster.folder / "ctl-token"
        token.touch(mode=0o600)
        token.write_text(self.token(account))
        command = [str(Path(sys.executable).with_name("mbcasctl")), *arguments]
        command += ["--server", f"127.0.0.1:{self.grpc_port}", "--token-file", str(token)]
        command += ["--tls-ca", str(self.authority())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, f"{done.stderr}\n{self.logs()}"
        return done

    def rows(self) -> dict[str, dict[str, Any]]:
        """Returns what the server has of each container, by NAMESPACE/POD/CONTAINER."""
        markets = json.loads(self.ctl("top", "--once", "-o", "json").stdout)["markets"]
        return {
            "/".join((row["namespace"], row["pod"], row["container"])): row
            for market in markets
            for row in market.get("containers", [])
        }

    def logs(self) -> str:
        """Returns the ends of the logs of all the release's containers, as the kubelet has them."""
        files = sorted((self.cluster.folder / "pod-logs").glob(f"{NAMESPACE}_*/*/*.log"))
        tails = (path.read_text(errors="replace").splitlines()[-15:] for path in files)
        return "\n".join(
            "\n".join(
                [f"== {path.parent.parent.name.split('_')[1]}", *(line[:300] for line in tail)]
            )
            for path, tail in zip(files, tails, strict=True)
        )


@contextmanager
def install(cluster: Cluster, **more: Values) -> Iterator[Installed]:
    """Installs the chart with what this machine makes necessary, and removes it at the end."""
    grpc_port, http_port = free_ports(2)
    values = _machine_values(cluster, grpc_port, http_port)
    release = Installed(cluster=cluster, values=values, grpc_port=grpc_port, http_port=http_port)
    release.uninstall("--no-hooks", "--ignore-not-found")  # What a run that broke off has left.
    try:
        release.upgrade(**more)
        yield release
    finally:
        release.uninstall("--no-hooks", "--ignore-not-found", check=False)


def _machine_values(cluster: Cluster, grpc_port: int, http_port: int) -> Values:
    """Pods are on the node's network, nothing routes to Services, cgroups are of version 1."""

    def image(name: str) -> Values:
        repository, _, tag = name.rpartition(":")
        return {"repository": repository, "tag": tag, "pullPolicy": "Never"}

    return {
        "kubeApi": {"host": "127.0.0.1", "port": cluster.api_port},
        "server": {
            "image": image(load_image(cluster, SERVER, _say)),
            "hostNetwork": True,
            "ports": {"grpc": grpc_port, "http": http_port},
        },
        "shim": {
            "image": image(load_image(cluster, SHIM, _say)),
            "hostNetwork": True,
            "serverAddress": f"127.0.0.1:{grpc_port}",
            "cgroup": {"version": 1, "kubeletRoot": f"/{cluster.cgroup_root}"},
            "nodeSelector": {"kubernetes.io/hostname": NODE},
        },
    }


def _merged(base: Values, more: Values) -> Values:
    merged = dict(base)
    for key, value in more.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merged(old, value) if both and old is not None else value
    return merged


def _say(line: str) -> None:
    print(f"e2e: {line}", flush=True)  # noqa: T201 - what takes long is shown.
