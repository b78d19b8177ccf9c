"""What an API server answers, without the network: objects, patches, refusals, rights, faults.

Pods have rules of their own; every other resource is a named object that is stored as it comes.
"""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.kube import admission, patching, validation
from tests.kube.errors import ApiError, invalid
from tests.kube.resources import Pod, qos_of, request_millicores, set_defaults
from tests.kube.reviews import DEFAULT_AUDIENCE, REVIEWS, User, reviewed
from tests.kube.store import Object, Store

ADMIN_TOKEN = "admin"  # noqa: S105 - of a fake.
MADE_AT = "2026-01-01T00:00:00Z"
PATH = re.compile(
    r"/(?P<group>api/v1|apis/[^/]+/[^/]+)(/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<resource>[^/]+)(/(?P<name>[^/]+)(/(?P<subresource>[^/]+))?)?"
)
LIST_KINDS = {"pods": "PodList", "nodes": "NodeList", "events": "EventList"}


OnPod = Callable[[Pod], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call, parsed."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    body: Any = None
    token: str = ADMIN_TOKEN

    @property
    def watches(self) -> bool:
        return self.query.get("watch") in ("1", "true")


@dataclass(slots=True, kw_only=True)
class Fault:
    """An answer that some calls get instead of theirs: a code, or none at all (code 0)."""

    code: int
    times: int = 1
    method: str = ""
    path_part: str = ""
    retry_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    resource: str
    namespace: str
    name: str
    subresource: str

    @property
    def kind(self) -> str:
        """The resource as rights name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class FakeApi:
    """Answers calls from the store; whoever calls holds the store's condition."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        """Every call so far, for tests that count."""
        self.users = {ADMIN_TOKEN: User(name="admin", rights=None)}
        """By token."""
        self.node_millicores_checked = False
        """1.36 and later refuse requests above the node's allocatable at once."""
        self.serves_resize = True
        self.pod_made: OnPod = lambda pod: None
        self.pod_changed: OnPod = lambda pod: None
        self.pod_removed: OnPod = lambda pod: None

    def answer(self, request: Request) -> tuple[int, Object]:
        """Returns code and body of any call but a watch.

        Raises:
            ApiError: it is refused.
        """
        self.requests.append(request)
        self._maybe_fail(request)
        target = self.target_of(request)
        self._check_rights(request, target)
        match request.method:
            case "GET" if target.name:
                return 200, self.store.get(target.resource, target.namespace, target.name)
            case "GET":
                return 200, self._list(request, target)
            case "POST":
                return 201, self._create(request, target)
            case "PATCH" | "PUT":
                return 200, self._change(request, target)
            case "DELETE":
                return 200, self._delete(request, target)
            case _:
                raise ApiError(405, f"{request.method} is not supported")

    def target_of(self, request: Request) -> Target:
        """Returns what a call is about.

        Raises:
            ApiError: 404, no such path.
        """
        matched = PATH.fullmatch(request.path)
        if matched is None:
            raise ApiError(404, "the server could not find the requested resource")
        parts = matched.groupdict(default="")
        target = Target(parts["resource"], parts["namespace"], parts["name"], parts["subresource"])
        if target.kind == "pods/resize" and not self.serves_resize:
            raise ApiError(404, "the server could not find the requested resource")
        return target

    def prepare_watch(self, request: Request) -> Target:
        """Checks a watch as any other call, and returns what it is about.

        Raises:
            ApiError: it is refused.
        """
        self.requests.append(request)
        self._maybe_fail(request)
        target = self.target_of(request)
        self._check_rights(request, target)
        return target

    def _maybe_fail(self, request: Request) -> None:
        for fault in self.faults:
            if fault.method in ("", request.method) and fault.path_part in request.path:
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                raise ApiError(
                    fault.code, "injected", retry_after_seconds=fault.retry_after_seconds
                )

    def _check_rights(self, request: Request, target: Target) -> None:
        user = self.users.get(request.token)
        if user is None or DEFAULT_AUDIENCE not in user.audiences:
            raise ApiError(401, "Unauthorized")
        verb = {"GET": "get", "POST": "create", "PUT": "update"}.get(
            request.method, request.method.lower()
        )
        if verb == "get" and not target.name:
            verb = "watch" if request.watches else "list"
        allowed = target.resource == "selfsubjectaccessreviews" or user.may(f"{verb} {target.kind}")
        if not allowed:
            raise ApiError(403, f'{target.kind} "{target.name}" is forbidden: cannot {verb}')

    def _list(self, request: Request, target: Target) -> Object:
        items = [
            item
            for item in self.store.all(target.resource, target.namespace)
            if selected(item, request.query)
        ]
        return {
            "kind": LIST_KINDS.get(target.resource, "List"),
            "apiVersion": request.path.removeprefix("/apis/").removeprefix("/api/").split("/")[0],
            "metadata": {"resourceVersion": str(self.store.version)},
            "items": items,
        }

    def _create(self, request: Request, target: Target) -> Object:
        new: Object = request.body
        if target.resource in REVIEWS:
            return reviewed(target.resource, new, self.users, self.users[request.token])
        metadata = new.setdefault("metadata", {})
        if target.namespace:
            metadata["namespace"] = target.namespace
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": MADE_AT, "generation": 1}
        if "generateName" in metadata:
            metadata.setdefault("name", f"{metadata['generateName']}{metadata['uid'][:5]}")
        name = metadata["name"]
        if self._exists(target.resource, target.namespace, name):
            raise ApiError(409, f'"{name}" already exists', reason="AlreadyExists")
        if target.resource == "pods":
            return self._create_pod(new)
        if target.resource == "resourcequotas":
            new["status"] = {"hard": new["spec"]["hard"]}
        if target.resource == "namespaces":
            account = {"metadata": {"name": "default", "namespace": name}}
            self.store.put("serviceaccounts", account)
        return self.store.put(target.resource, new)

    def _create_pod(self, new: Pod) -> Pod:
        set_defaults(new)
        new["status"] = {"phase": "Pending", "qosClass": qos_of(new)}
        admission.check_limit_ranges(self.store, new)
        admission.check_quotas(self.store, new)
        made = self.store.put("pods", new)
        self.pod_made(made)
        return made

    def _exists(self, resource: str, namespace: str, name: str) -> bool:
        try:
            self.store.get(resource, namespace, name)
        except ApiError:
            return False
        return True

    def _change(self, request: Request, target: Target) -> Object:
        old = self.store.get(target.resource, target.namespace, target.name)
        new = request.body if request.method == "PUT" else _patched(request, old)
        _check_identity(new, old)
        if target.resource == "pods" and target.subresource != "status":
            new = self._changed_pod(new, old, resize=target.subresource == "resize")
        elif target.subresource == "status":
            new = old | {"status": new.get("status", {})}
        elif new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        if request.query.get("dryRun") == "All":
            return new
        stored = self.store.put(target.resource, new)
        if target.resource == "pods" and stored["spec"] != old["spec"]:
            self.pod_changed(stored)
        return stored

    def _changed_pod(self, new: Pod, old: Pod, *, resize: bool) -> Pod:
        if resize:
            new = validation.keep_only_resources(new, old)
        try:
            set_defaults(new)
        except ArithmeticError as error:
            cause = invalid("patch", "quantities must match the regular expression")
            raise ApiError(422, "is invalid", causes=(cause,)) from error
        new["metadata"]["generation"] = old["metadata"]["generation"] + (new["spec"] != old["spec"])
        if not resize:
            validation.check_plain_update(new, old)
            return new
        validation.check_resize(new, old)
        admission.check_limit_ranges(self.store, new)
        admission.check_quotas(self.store, new)
        if self.node_millicores_checked:
            admission.check_node_capacity(self.store, new, request_millicores(old))
        return new

    def _delete(self, request: Request, target: Target) -> Object:
        old = self.store.get(target.resource, target.namespace, target.name)
        wanted_uid = ((request.body or {}).get("preconditions") or {}).get("uid")
        if wanted_uid not in (None, old["metadata"]["uid"]):
            raise ApiError(409, "the UID in the precondition does not match")
        removed = self.store.remove(target.resource, target.namespace, target.name)
        if target.resource == "pods":
            self.pod_removed(removed)
        return removed


def _patched(request: Request, old: Object) -> Object:
    if request.content_type not in patching.KINDS:
        raise ApiError(415, "Unsupported Media Type")
    try:
        return patching.patched(old, request.body, request.content_type)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ApiError(400, f"the patch can't be applied: {error!r}") from error
    except patching.PatchTestError as error:
        raise ApiError(422, "the server rejected our request") from error


def _check_identity(new: Object, old: Object) -> None:
    """Both are preconditions where a call gives them; the generation is not, it is ignored."""
    metadata = new.get("metadata", {})
    if metadata.get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
        raise ApiError(409, "the object has been modified")
    if metadata.get("uid") not in (None, old["metadata"]["uid"]):
        raise ApiError(422, "is invalid", causes=(invalid("metadata.uid", "field is immutable"),))
    metadata["generation"] = old["metadata"].get("generation", 1)


def selected(item: Object, query: dict[str, str]) -> bool:
    """Says whether an object is one of those that the selectors of a call ask for."""
    labels = item["metadata"].get("labels", {})
    for label, wanted in _terms(query.get("labelSelector", "")):
        if labels.get(label) != wanted:
            return False
    for path, wanted in _terms(query.get("fieldSelector", "")):
        value: Any = item
        for part in path.split("."):
            value = value.get(part, {})
        if (value or "") != wanted:
            return False
    return True


def _terms(selector: str) -> list[tuple[str, str]]:
    parts = [term.partition("=") for term in selector.replace("==", "=").split(",") if term]
    return [(key, value) for key, _, value in parts]
