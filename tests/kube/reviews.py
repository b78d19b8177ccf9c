"""Who a token is of, and what its user may do: the reviews that servers and users ask for."""

from dataclasses import dataclass

from tests.kube.store import Object

DEFAULT_AUDIENCE = "https://kubernetes.default.svc"
REVIEWS = frozenset({"selfsubjectaccessreviews", "subjectaccessreviews", "tokenreviews"})


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A token's owner; rights are as "patch pods/resize", None is everything."""

    name: str
    rights: frozenset[str] | None = frozenset()
    audiences: tuple[str, ...] = (DEFAULT_AUDIENCE,)
    node: str | None = None
    """The node of the pod that the token is bound to."""

    def may(self, right: str) -> bool:
        return self.rights is None or right in self.rights


def reviewed(resource: str, review: Object, users: dict[str, User], caller: User) -> Object:
    """Returns the review with its answer."""
    spec = review["spec"]
    match resource:
        case "tokenreviews":
            return review | {"status": _token_status(spec, users)}
        case "subjectaccessreviews":
            named = [user for user in users.values() if user.name == spec["user"]]
            allowed = any(user.may(_right(spec)) for user in named)
        case _:
            allowed = caller.may(_right(spec))
    return review | {"status": {"allowed": allowed}}


def _right(spec: Object) -> str:
    asked = spec["resourceAttributes"]
    resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
    return f"{asked['verb']} {resource}"


def _token_status(spec: Object, users: dict[str, User]) -> Object:
    user = users.get(spec["token"])
    wanted = spec.get("audiences") or [DEFAULT_AUDIENCE]
    if user is None or not (matching := [each for each in wanted if each in user.audiences]):
        return {"user": {}, "error": "invalid bearer token"}
    extra = {"authentication.kubernetes.io/node-name": [user.node]} if user.node else {}
    told = {"username": user.name, "groups": ["system:authenticated"], "extra": extra}
    return {"authenticated": True, "user": told, "audiences": matching}
