"""JSON schemas of what an API server takes, from the OpenAPI document in Kubernetes' own module."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.e2e.cluster import programs

VERSIONS = ("v1.33.13", "v1.34.4", programs.KUBERNETES_VERSION, "v1.36.3")
"""The newest patch releases of each minor version that the module's registry has."""
NUMBER_TOO = {"int-or-string": ["string", "integer"], "quantity": ["string", "number"]}
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_REFERENCE = "#/definitions/"
_IDENTITY = "x-kubernetes-group-version-kind"

Schema = dict[str, Any]


def schemas(version: str) -> Path:
    """Returns a folder with a file per kind, KIND-GROUP-VERSION.json in lower case, all closed."""
    folder = programs.cache_folder() / f"schemas-{version}"
    if not folder.exists():
        definitions = _definitions(version)
        draft = Path(tempfile.mkdtemp(dir=programs.cache_folder(), prefix="schemas-"))
        for name, definition in definitions.items():
            for kind in definition.get(_IDENTITY, ()):
                group = kind["group"].split(".")[0]
                parts = (kind["kind"], *([group] if group else []), kind["version"])
                file = draft / f"{'-'.join(parts).lower()}.json"
                file.write_text(json.dumps(_standalone(name, definitions)))
        try:
            draft.rename(folder)
        except OSError:  # Another run was faster.
            shutil.rmtree(draft)
    return folder


def location(folder: Path) -> str:
    """Returns how kubeconform finds the file of a kind there."""
    return f"{folder}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"


def _definitions(version: str) -> dict[str, Schema]:
    command = [programs.go(), "mod", "download", "-json", f"k8s.io/kubernetes@{version}"]
    done = subprocess.run(
        command, cwd=tempfile.gettempdir(), capture_output=True, text=True, check=True
    )
    module = Path(json.loads(done.stdout)["Dir"])
    document = json.loads((module / "api" / "openapi-spec" / "swagger.json").read_text())
    return {name: _closed(name, schema) for name, schema in document["definitions"].items()}


def _standalone(name: str, definitions: Mapping[str, Schema]) -> Schema:
    """Returns a schema with all that it refers to."""
    needed: dict[str, Schema] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each not in needed:
            needed[each] = definitions[each]
            waiting += _references(definitions[each])
    return {"$ref": f"{_REFERENCE}{name}", "definitions": needed}


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(_REFERENCE)
        for inner in schema.values():
            yield from _references(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _references(inner)


def _closed(name: str, schema: Schema) -> Schema:
    """Refuses fields that are not there; lets numbers stand where the API takes them."""
    closed = {key: value for key, value in schema.items() if key != "description"}
    if "properties" in closed:
        closed.setdefault("additionalProperties", False)
    form = "quantity" if name == QUANTITY else str(closed.pop("format", ""))
    if form in NUMBER_TOO:
        closed["type"] = NUMBER_TOO[form]
    return closed
