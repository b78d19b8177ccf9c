"""Who a token is of, and what its user may do: the reviews that servers and users ask for."""

import secrets
from dataclasses import dataclass

from tests.kube.store import Object, Store

DEFAULT_AUDIENCE = "https://kubernetes.default.svc"
REVIEWS = frozenset({"selfsubjectaccessreviews", "subjectaccessreviews", "tokenreviews"})


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A token's owner.

    Rights are as "patch pods/resize", or "get pods in team-a" for one namespace; None is all.
    """

    name: str
    rights: frozenset[str] | None = frozenset()
    audiences: tuple[str, ...] = (DEFAULT_AUDIENCE,)
    node: str | None = None
    """The node of the pod that the token is bound to."""
    pod: str | None = None

    def may(self, right: str, namespace: str = "") -> bool:
        if self.rights is None or right in self.rights:
            return True
        return f"{right} in {namespace}" in self.rights


def reviewed(resource: str, review: Object, users: dict[str, User], caller: User) -> Object:
    """Returns the review with its answer."""
    spec = review["spec"]
    match resource:
        case "tokenreviews":
            return review | {"status": _token_status(spec, users)}
        case "subjectaccessreviews":
            named = [user for user in users.values() if user.name == spec["user"]]
            allowed = any(_may(user, spec) for user in named)
        case _:
            allowed = _may(caller, spec)
    return review | {"status": {"allowed": allowed}}


def _may(user: User, spec: Object) -> bool:
    asked = spec["resourceAttributes"]
    resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
    return user.may(f"{asked['verb']} {resource}", asked.get("namespace", ""))


def _token_status(spec: Object, users: dict[str, User]) -> Object:
    user = users.get(spec["token"])
    wanted = spec.get("audiences") or [DEFAULT_AUDIENCE]
    if user is None or not (matching := [each for each in wanted if each in user.audiences]):
        return {"user": {}, "error": "invalid bearer token"}
    claims = {"node-name": user.node, "pod-name": user.pod}
    extra = {
        f"authentication.kubernetes.io/{key}": [value] for key, value in claims.items() if value
    }
    told = {"username": user.name, "groups": ["system:authenticated"], "extra": extra}
    return {"authenticated": True, "user": told, "audiences": matching}


def token_for(name: str, spec: Object, users: dict[str, User], store: Store) -> tuple[str, User]:
    """Returns a new token of a service account, and its user; bound to a pod where that is asked.

    Its rights are those of the account's other tokens.
    """
    rights: frozenset[str] | None = frozenset()
    for user in users.values():
        if user.name == name:
            rights = user.rights
    bound = spec.get("boundObjectRef") or {}
    node = pod = None
    if bound.get("kind") == "Pod":
        namespace = name.split(":")[2]
        pod = bound["name"]
        node = store.get("pods", namespace, pod)["spec"].get("nodeName")
    return secrets.token_hex(16), User(
        name=name,
        rights=rights,
        audiences=tuple(spec.get("audiences") or [DEFAULT_AUDIENCE]),
        node=node,
        pod=pod,
    )
