"""Calls to the API server, parsed: what they are about, whom they are from."""

import re
from dataclasses import dataclass, field
from typing import Any

from tests.kube.errors import ApiError
from tests.kube.kinds import NOT_SERVED, Kind, Kinds

ADMIN_TOKEN = "admin"  # noqa: S105 - of a fake.
PATH = re.compile(
    r"/(api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))"
    r"(/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<plural>[^/]+)(/(?P<name>[^/]+)(/(?P<subresource>[^/]+))?)?"
)
NAMESPACE_PARTS = frozenset({"status", "finalize"})
"""What may come after a namespace's name and is no resource in it."""
VERBS = {"GET": "get", "POST": "create", "PUT": "update"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call, parsed."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    body: Any = None
    token: str = ADMIN_TOKEN
    user_agent: str = ""

    @property
    def watches(self) -> bool:
        return self.query.get("watch") in ("1", "true")

    @property
    def dry(self) -> bool:
        return self.query.get("dryRun") == "All"

    @property
    def manager(self) -> str:
        """Whom managedFields name."""
        return self.query.get("fieldManager") or self.user_agent.partition("/")[0] or "unknown"


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

    kind: Kind
    namespace: str
    name: str
    subresource: str

    @property
    def resource(self) -> str:
        return self.kind.plural

    @property
    def right(self) -> str:
        """The resource as rights name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def verb(self, request: Request) -> str:
        """Returns what a call does, as rights name it."""
        if request.method == "GET" and not self.name:
            return "watch" if request.watches else "list"
        if request.method == "DELETE" and not self.name:
            return "deletecollection"
        return VERBS.get(request.method, request.method.lower())


def target_of(path: str, kinds: Kinds) -> Target:
    """Returns what a call is about.

    Raises:
        ApiError: 404, no such path.
    """
    matched = PATH.fullmatch(path)
    if matched is None:
        raise ApiError(404, NOT_SERVED, plain=True)
    parts = matched.groupdict(default="")
    namespace, plural, name = parts["namespace"], parts["plural"], parts["name"]
    if namespace and plural in NAMESPACE_PARTS and not name:
        namespace, plural, name, subresource = "", "namespaces", namespace, plural
    else:
        subresource = parts["subresource"]
    return Target(kinds.find(parts["core"] or parts["group"], plural), namespace, name, subresource)
