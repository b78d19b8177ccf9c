"""The chart as the tests see it: rendered by Helm, and its values' schema from the settings."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from mbcas_server.settings import Settings as ServerSettings
from mbcas_shim.settings import Settings as ShimSettings
from tests.e2e.cluster import programs
from tests.tidy import repository

CHART = repository.ROOT / "deploy" / "helm" / "mbcas"
VALUES = Path(__file__).parent / "values"
SNAPSHOTS = Path(__file__).parent / "snapshots"
RELEASE, NAMESPACE = "mbcas", "mbcas-system"
MADE_ANEW = re.compile(
    r'^(  (?:ca\.crt|tls\.crt|tls\.key): |    mbcas\.io/renew-after: )[A-Za-z0-9+/="]+$'
    r"|^(    )-----BEGIN CERTIFICATE-----\n(?:    .*\n)*?    -----END CERTIFICATE-----$",
    re.MULTILINE,
)
"""What Helm makes anew each time where it sees no cluster: the certificate."""

CHART_SETS = {
    "server": {
        "burst_credit",
        "checkpoint_path",
        "config",
        "http_address",
        "insecure",
        "kubeconfig",
        "kubernetes",
        "kubernetes_namespace",
        "listen_address",
        "record_max_bytes",  # No volume of the chart is meant for it.
        "record_path",
        "server_epoch",
        "shim_service_account",
        "tls_cert",
        "tls_client_ca",
        "tls_key",
        "token_file",
    },
    "shim": {
        "burst",
        "cgroup_root",
        "config",
        "containers_file",
        "insecure",
        "kube_api",
        "kube_ca",
        "kube_token_file",
        "kubelet_cgroup_root",
        "kubernetes",
        "node_name",
        "server_address",
        "server_ca",
        "token_file",
    },
}
"""Settings that no value gives: the chart does, or they make no sense there."""
SETTINGS: dict[str, type[BaseModel]] = {"server": ServerSettings, "shim": ShimSettings}


def find_helm() -> str | None:
    """Returns Helm, where it is installed or was built for `make e2e`."""
    for found in (shutil.which("helm"), str(programs.tool_path("helm"))):
        if found and Path(found).is_file():
            return found
    return None


def helm(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs Helm, which must be there."""
    program = find_helm()
    assert program is not None, "looked for before"
    command = [program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=check)


def render(values: Path | None = None, *sets: str, check: bool = True) -> str:
    """Returns the manifests, with a placeholder for what is made anew each time."""
    files = [] if values is None else ["--values", str(values)]
    given = [part for each in sets for part in ("--set", each)]
    done = helm(
        "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--include-crds", *files, *given,
        check=False,
    )  # fmt: skip
    if done.returncode:
        if check:
            raise AssertionError(done.stderr)
        return done.stderr
    return MADE_ANEW.sub(lambda found: f"{found[1] or found[2]}MADE-ANEW", done.stdout)


def objects(manifests: str) -> list[dict[str, Any]]:
    """Returns the objects of rendered manifests."""
    return [each for each in yaml.safe_load_all(manifests) if each]


def values_schema() -> dict[str, Any]:
    """Returns the schema of values as it is in the chart."""
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


def settings_schema(component: str) -> dict[str, Any]:
    """Returns the schema of one component's settings, from the component itself."""
    given = SETTINGS[component].model_json_schema()
    assert "$defs" not in given, "a setting is a plain value, or it needs a schema of its own"
    properties = {
        name: _without_titles(setting)
        for name, setting in sorted(given["properties"].items())
        if name not in CHART_SETS[component]
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def is_to_be_written() -> bool:
    """Says whether expectations are to be written anew: MBCAS_GOLDEN=write."""
    return os.environ.get("MBCAS_GOLDEN") == "write"


def _without_titles(setting: dict[str, Any]) -> dict[str, Any]:
    kept = {key: setting[key] for key in setting if key not in ("title", "default")}
    if "description" in kept:
        kept["description"] = " ".join(str(kept["description"]).split())
    if kept.get("type") == "object" and "maxLength" in kept:
        kept["maxProperties"] = kept.pop("maxLength")
    return kept
