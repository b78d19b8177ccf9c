"""What an API server answers, without the network: objects, patches, refusals, rights, faults.

Pods have rules of their own (pod_rules); what else a kind differs in is in kinds.
"""

import uuid
from collections.abc import Callable

from tests.kube import creating, deleting, managed_fields, patching, pod_rules, validation
from tests.kube.errors import ApiError, Cause, invalid
from tests.kube.kinds import NOT_SERVED, Kinds
from tests.kube.managed_fields import APPLY, UPDATE, Owner
from tests.kube.requests import ADMIN_TOKEN, Fault, Request, Target, target_of
from tests.kube.resources import Pod
from tests.kube.reviews import DEFAULT_AUDIENCE, REVIEWS, User, reviewed, token_for
from tests.kube.selecting import check_selectors, page_of, place_of, selected, version_of_page
from tests.kube.server_side_apply import applied
from tests.kube.store import Object, Store
from tests.kube.timers import Timers

OnPod = Callable[[Pod], None]
KEPT = ("uid", "creationTimestamp", "name", "namespace", "deletionTimestamp")
"""Metadata that no call changes."""


class FakeApi:
    """Answers calls from the store; whoever calls holds the store's condition."""

    def __init__(self, store: Store, timers: Timers) -> None:
        self.store = store
        self.timers = timers
        self.kinds = Kinds()
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
        target = self.admitted(request)
        match request.method:
            case "GET" if target.name:
                return 200, self.store.get(target.resource, target.namespace, target.name)
            case "GET":
                return 200, self._list(request, target)
            case "POST":
                return 201, self._create(request, target)
            case "PATCH" | "PUT" if target.name:
                return self._change(request, target)
            case "DELETE":
                return 200, self._delete(request, target)
            case _:
                raise ApiError(405, "the server does not allow this method on the resource")

    def admitted(self, request: Request) -> Target:
        """Takes a call that is not to fail and whose user may make it; says what it is about.

        Raises:
            ApiError: it is refused.
        """
        self.requests.append(request)
        self._maybe_fail(request)
        target = target_of(request.path, self.kinds)
        self._check_rights(request, target)
        if target.right == "pods/resize" and not self.serves_resize:
            raise ApiError(404, NOT_SERVED)
        if request.method == "GET" and not target.name:
            check_selectors(target.resource, request.query)
        return target

    def remove(self, resource: str, item: Object) -> None:
        """Takes an object away, at once, and then what it owned."""
        metadata = item["metadata"]
        self.store.remove(resource, metadata.get("namespace", ""), metadata["name"])
        self.timers.after(deleting.COLLECT_SECONDS, self._collect)
        if resource == "pods":
            self.pod_removed(item)
        if resource == "namespaces":
            for inner, each in deleting.inside(self.store, metadata["name"]):
                self.remove(inner, each)

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
        verb = target.verb(request)
        allowed = target.resource == "selfsubjectaccessreviews" or user.may(
            f"{verb} {target.right}", target.namespace
        )
        if not allowed:
            raise ApiError(403, f'{target.right} "{target.name}" is forbidden: cannot {verb}')

    def _list(self, request: Request, target: Target) -> Object:
        if "continue" in request.query:
            self.store.check_known(version_of_page(request.query["continue"]))
        items = [
            item
            for item in self.store.all(target.resource, target.namespace)
            if selected(item, request.query)
        ]
        items.sort(key=place_of)
        page, metadata = page_of(items, request.query, self.store.version)
        if not target.kind.custom:
            page = [_without_kind(item) for item in page]
        return {
            "kind": f"{target.kind.name}List",
            "apiVersion": target.kind.api_version,
            "metadata": metadata,
            "items": page,
        }

    def _make_token(self, request: Request, target: Target) -> Object:
        self.store.get(target.resource, target.namespace, target.name)
        name = f"system:serviceaccount:{target.namespace}:{target.name}"
        token, user = token_for(name, request.body.get("spec", {}), self.users, self.store)
        self.users[token] = user
        expires = self.timers.text(later_seconds=3600)
        body: Object = request.body
        return body | {"status": {"token": token, "expirationTimestamp": expires}}

    def _create(self, request: Request, target: Target) -> Object:
        new: Object = request.body
        if target.subresource == "token":
            return self._make_token(request, target)
        if target.resource in REVIEWS:
            return reviewed(target.resource, new, self.users, self.users[request.token])
        kind, metadata = target.kind, new.setdefault("metadata", {})
        if kind.custom and not ("kind" in new and "apiVersion" in new):
            raise ApiError(400, "the object provided is unrecognized: Object 'Kind' is missing")
        new |= {"kind": kind.name, "apiVersion": kind.api_version}
        if target.namespace:
            creating.make_namespace(self.store, target.namespace)
            metadata["namespace"] = target.namespace
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": self.timers.text()}
        if kind.generations:
            metadata["generation"] = 1
        if "generateName" in metadata:
            metadata.setdefault("name", f"{metadata['generateName']}{metadata['uid'][:5]}")
        if self.store.has(target.resource, target.namespace, metadata["name"]):
            message = f'{kind.resource} "{metadata["name"]}" already exists'
            raise ApiError(409, message, reason="AlreadyExists")
        creating.complete(self.store, self.kinds, target, new)
        managed_fields.record_update(new, None, self._owner(request, target, UPDATE))
        return new if request.dry else self._made(target, new)

    def _made(self, target: Target, new: Object) -> Object:
        made = self.store.put(target.resource, new)
        if target.resource == "namespaces":
            creating.make_default_account(self.store, made["metadata"]["name"])
        if target.resource == "pods":
            self.pod_made(made)
        if made["metadata"].get("ownerReferences"):
            self.timers.after(deleting.COLLECT_SECONDS, self._collect)
        return made

    def _apply(self, request: Request, target: Target) -> tuple[int, Object]:
        if "fieldManager" not in request.query:
            cause = Cause("FieldValueRequired", "fieldManager", "Required value")
            raise ApiError(422, "fieldManager is required for apply patch", causes=(cause,))
        owner = self._owner(request, target, APPLY)
        if not self.store.has(target.resource, target.namespace, target.name):
            made = self._create(request, target)
            made["metadata"].pop("managedFields", None)
            managed_fields.write_owners(made, [], owner, set(managed_fields.paths_of(request.body)))
            return 201, self.store.put(target.resource, made)
        old = self.store.get(target.resource, target.namespace, target.name)
        new = applied(old, request.body, owner, force=request.query.get("force") == "true")
        return 200, self._stored(request, target, new, old)

    def _change(self, request: Request, target: Target) -> tuple[int, Object]:
        if request.content_type == patching.APPLY_PATCH:
            return self._apply(request, target)
        old = self.store.get(target.resource, target.namespace, target.name)
        if request.method == "PUT":
            new: Object = request.body
            if not target.kind.unconditional_update and not new["metadata"].get("resourceVersion"):
                cause = invalid("metadata.resourceVersion", "0: must be specified for an update")
                raise ApiError(422, "is invalid", causes=(cause,))
        else:
            new = _patched(request, target, old)
        _check_identity(new, old)
        return 200, self._stored(request, target, new, old)

    def _stored(self, request: Request, target: Target, new: Object, old: Object) -> Object:
        """Keeps of a change what its path may change, and stores it."""
        new = _confined(target, new, old)
        if target.right == "pods/status":
            validation.check_status(new, old)
        elif target.resource == "pods":
            new = pod_rules.changed(
                self.store,
                new,
                old,
                resize=target.subresource == "resize",
                node_checked=self.node_millicores_checked,
            )
        elif target.kind.generations and new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        if request.content_type != patching.APPLY_PATCH:
            managed_fields.record_update(new, old, self._owner(request, target, UPDATE))
        if request.dry:
            return new
        if new["metadata"].get("deletionTimestamp") and deleting.is_free(target.resource, new):
            self.remove(target.resource, new)
            return new
        stored = self.store.put(target.resource, new)
        if target.resource == "pods" and stored["spec"] != old["spec"]:
            self.pod_changed(stored)
        return stored

    def _owner(self, request: Request, target: Target, operation: str) -> Owner:
        return Owner(
            request.manager,
            operation,
            target.subresource,
            target.kind.api_version,
            self.timers.text(),
        )

    def _delete(self, request: Request, target: Target) -> Object:
        if not target.name:
            listed = self._list(request, target)
            for item in self.store.all(target.resource, target.namespace):
                if selected(item, request.query):
                    self._delete_one(request, target, item)
            return listed
        item = self.store.get(target.resource, target.namespace, target.name)
        return self._delete_one(request, target, item)

    def _delete_one(self, request: Request, target: Target, item: Object) -> Object:
        deleting.check_preconditions(request, item)
        grace_seconds = deleting.grace_seconds(request, target.resource, item)
        if grace_seconds is None and deleting.is_free(target.resource, item):
            self.remove(target.resource, item)
            return deleting.success(target.kind, item)
        deleting.mark(item, grace_seconds or 0, self.timers)
        if grace_seconds or item["metadata"].get("finalizers"):
            item = self.store.put(target.resource, item)
            if target.resource == "pods":
                self.pod_changed(item)
        else:
            self.remove(target.resource, item)
        return item

    def _collect(self) -> None:
        for resource, item in deleting.orphans(self.store):
            if self.store.has(resource, item["metadata"].get("namespace", ""), _name(item)):
                self.remove(resource, item)


def _name(item: Object) -> str:
    name: str = item["metadata"]["name"]
    return name


def _confined(target: Target, new: Object, old: Object) -> Object:
    """Returns of a change what its path may change: the status, or all but that."""
    for name in KEPT:
        new["metadata"].pop(name, None)
        if name in old["metadata"]:
            new["metadata"][name] = old["metadata"][name]
    if target.subresource == "status":
        return old | {"status": new.get("status", {})}
    if not target.kind.has_status:
        return new
    rest = {key: value for key, value in new.items() if key != "status"}
    return rest | ({"status": old["status"]} if "status" in old else {})


def _without_kind(item: Object) -> Object:
    return {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}


def _patched(request: Request, target: Target, old: Object) -> Object:
    strategic = request.content_type == patching.STRATEGIC
    if request.content_type not in patching.KINDS or (strategic and target.kind.custom):
        raise ApiError(415, "Unsupported Media Type")
    try:
        return patching.patched(old, request.body, request.content_type)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ApiError(400, f"the patch can't be applied: {error!r}") from error
    except patching.PatchTestError as error:
        raise ApiError(422, "the server rejected our request") from error


def _check_identity(new: Object, old: Object) -> None:
    """Both are preconditions where a call gives them; the generation is not, it is ignored."""
    metadata = new.setdefault("metadata", {})
    if metadata.get("resourceVersion") not in (None, "", old["metadata"]["resourceVersion"]):
        raise ApiError(409, "the object has been modified")
    if metadata.get("uid") not in (None, "", old["metadata"]["uid"]):
        raise ApiError(422, "is invalid", causes=(invalid("metadata.uid", "field is immutable"),))
    metadata.pop("generation", None)
    if "generation" in old["metadata"]:
        metadata["generation"] = old["metadata"]["generation"]
