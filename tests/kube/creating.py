"""How objects come: what the server and its plugins set of them, and where they refuse."""

import uuid
from typing import Any

from tests.kube import pod_rules
from tests.kube.errors import ApiError, invalid
from tests.kube.kinds import Kinds
from tests.kube.requests import Target
from tests.kube.store import Object, Store


def complete(store: Store, kinds: Kinds, target: Target, new: Object) -> None:
    """Sets what a client does not, or refuses.

    Raises:
        ApiError: 403 or 422.
    """
    check_name(new["metadata"]["name"])
    if target.resource == "pods":
        pod_rules.prepare(store, new)
    elif target.resource == "resourcequotas":
        new["status"] = {"hard": new["spec"]["hard"]}
    elif target.resource == "events":
        _check_event(new)
    elif target.resource == "customresourcedefinitions":
        kinds.define(new)
    elif target.kind.custom and target.kind.has_status:
        new.pop("status", None)


def make_namespace(store: Store, name: str) -> None:
    """Makes a namespace that a test did not care to make; a real server refuses (404)."""
    if not store.has("namespaces", "", name):
        metadata = {"name": name, "uid": str(uuid.uuid4())}
        status = {"phase": "Active"}
        item = {"kind": "Namespace", "apiVersion": "v1", "metadata": metadata, "status": status}
        store.put("namespaces", item)
        make_default_account(store, name)


def make_default_account(store: Store, namespace: str) -> None:
    """Makes the account that pods of a namespace have where they name none."""
    if not store.has("serviceaccounts", namespace, "default"):
        metadata = {"name": "default", "namespace": namespace, "uid": str(uuid.uuid4())}
        store.put("serviceaccounts", {"metadata": metadata})


def check_name(name: str) -> None:
    """Raises where a name has not the form of one.

    Raises:
        ApiError: 422.
    """
    if (
        len(name) > 253
        or not name.replace("-", "").replace(".", "").isalnum()
        or name != name.lower()
    ):
        cause = invalid("metadata.name", "a lowercase RFC 1123 subdomain")
        raise ApiError(422, "is invalid", causes=(cause,))


def _check_event(event: Object) -> None:
    about: dict[str, Any] = event.get("involvedObject") or event.get("regarding") or {}
    if about.get("namespace", "") != event["metadata"].get("namespace"):
        cause = invalid("involvedObject.namespace", "does not match event.namespace")
        raise ApiError(422, "is invalid", causes=(cause,))
