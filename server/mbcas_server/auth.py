"""Who calls, and what callers may do.

On Kubernetes a caller shows a ServiceAccount's token made for this server; the API server says
whose it is and what that user may do. Elsewhere whoever may call may do everything: a secret, or
a certificate that the transport has checked, says who may. No token is ever logged or kept.
"""

import asyncio
import hmac
import logging
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc

from mbcas_server.status import Context, RefusedError

AUDIENCE = "mbcas"
"""What a token must have been made for."""
SERVICE_ACCOUNT = "system:serviceaccount:"
NODE_CLAIM = "authentication.kubernetes.io/node-name"
HOW_TO_GET_ONE = (
    f". `kubectl create token NAME --audience {AUDIENCE}` makes one; a pod mounts one as a "
    "projected volume with that audience"
)
TOKEN_MAX_BYTES = 16_384  # Kubernetes makes them of about 1 kB.

logger = logging.getLogger(__name__)


class TokenFileError(Exception):
    """The file has no token; the message names the setting."""


class Caller(Protocol):
    """Whoever makes a call. What it may not do raises a RefusedError that says what is missing."""

    async def check_shim_of(self, node: str) -> None:
        """Refuses all but the shim of this node."""

    async def check_sees(self, namespace: str) -> None:
        """Refuses who may not know what runs in this namespace."""

    async def seen(self, namespaces: AbstractSet[str]) -> AbstractSet[str]:
        """Returns those of the namespaces whose containers it may know of."""

    async def check_operates(self, namespace: str) -> str:
        """Refuses who may not intervene in this namespace; without a name, in all.

        Returns who it is, for the log; empty where that is not known.
        """


class Authenticator(Protocol):
    """Finds out who calls."""

    async def identify(self, context: Context, *, of_shims: bool = False) -> Caller:
        """Returns the caller.

        Args:
            context: The call.
            of_shims: Whether it is to NodeLink, which must not wait behind all the others.

        Raises:
            RefusedError: UNAUTHENTICATED, or UNAVAILABLE where it cannot be found out now.
        """


class TrustedCaller:
    """May do everything."""

    async def check_shim_of(self, node: str) -> None:
        del node

    async def check_sees(self, namespace: str) -> None:
        del namespace

    async def seen(self, namespaces: AbstractSet[str]) -> AbstractSet[str]:
        return namespaces

    async def check_operates(self, namespace: str) -> str:
        del namespace
        return ""


TRUSTED = TrustedCaller()


class NoAuthentication:
    """Trusts whoever gets through: on loopback, or with a certificate that TLS has checked."""

    async def identify(self, context: Context, *, of_shims: bool = False) -> Caller:
        del context, of_shims
        return TRUSTED


class SharedToken:
    """Trusts whoever shows the token of a file, which is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._expected = _read(path)

    async def identify(self, context: Context, *, of_shims: bool = False) -> Caller:
        del of_shims
        self._follow()
        given = token_of(context)
        if not hmac.compare_digest(given.encode(), self._expected):
            found = "a wrong one was shown" if given else "none was shown"
            raise _unauthenticated(f"a bearer token and {found}")
        return TRUSTED

    def _follow(self) -> None:
        stamp = _stamp(self._path)
        if stamp in {self._stamp, None}:
            return
        self._stamp = stamp
        try:
            self._expected = _read(self._path)
        except TokenFileError as error:
            logger.warning("token kept, the new one is refused: %s", error)
        else:
            logger.info("token read again")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom the API server knows by a token."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Where the pod runs that its token is bound to; empty for a token of no pod."""
        return self.extra.get(NODE_CLAIM, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """What a user may do or not, in one namespace or, where that is empty, in all."""

    verb: str
    group: str
    resource: str
    namespace: str

    def __str__(self) -> str:
        """Says it as people do, and as `kubectl auth can-i` takes it."""
        name = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {name} in " + (self.namespace or "all namespaces")


class ReviewsUnavailableError(Exception):
    """The API server does not say now."""


class Reviews(Protocol):
    """What the API server says about tokens and rights."""

    async def user_of(self, token: str) -> User | None:
        """Returns whose token it is; None where it is no valid one for this server.

        Raises:
            ReviewsUnavailableError: It cannot be found out now.
        """

    async def allows(self, user: User, right: Right) -> bool:
        """Returns whether a user has a right.

        Raises:
            ReviewsUnavailableError: It cannot be found out now.
        """


class KubernetesAuthenticator:
    """Trusts tokens of this audience as far as the API server says.

    Shims have reviews of their own: a flood of bad tokens elsewhere takes neither their turns nor
    the room in which their answers are remembered.
    """

    def __init__(
        self, reviews: Reviews, *, shim_reviews: Reviews, shim_service_account: str
    ) -> None:
        self._reviews = reviews
        self._shim_reviews = shim_reviews
        self._shim = SERVICE_ACCOUNT + shim_service_account

    async def identify(self, context: Context, *, of_shims: bool = False) -> Caller:
        token = token_of(context)
        if not token:
            raise _unauthenticated("a ServiceAccount's token and none was shown", HOW_TO_GET_ONE)
        reviews = self._shim_reviews if of_shims else self._reviews
        caller = _KubernetesCaller(reviews, token, shim=self._shim)
        await caller.check_token()
        return caller


class _KubernetesCaller:
    """A caller as of its token, which is reviewed again as long as a stream lasts."""

    def __init__(self, reviews: Reviews, token: str, *, shim: str) -> None:
        self._reviews = reviews
        self._token = token
        self._shim = shim

    async def check_token(self) -> User:
        try:
            user = await self._reviews.user_of(self._token)
        except ReviewsUnavailableError as error:
            raise _unavailable(error) from error
        if user is None:
            raise _unauthenticated(
                f"a ServiceAccount's token for the audience {AUDIENCE!r}, and the API server says "
                "that this is none, or has expired",
                HOW_TO_GET_ONE,
            )
        return user

    async def check_shim_of(self, node: str) -> None:
        user = await self.check_token()
        if user.name != self._shim:
            raise _denied(
                f"only {self._shim} speaks for nodes, the token is of {user.name}: run the shim "
                "with its own ServiceAccount, or set the server's shim_service_account"
            )
        if user.nodes != (node,):
            where = f"of a pod on {', '.join(user.nodes)}" if user.nodes else "bound to no pod"
            raise _denied(
                f"the report is of node {node!r}, but the token is {where}: mount the token into "
                "the shim's pod as a projected volume, and set node_name from spec.nodeName"
            )

    async def check_sees(self, namespace: str) -> None:
        if not await self.seen({namespace}):
            user = await self.check_token()
            raise _denied(f"{user.name} may not {_sees(namespace)}, which is what it takes")

    async def seen(self, namespaces: AbstractSet[str]) -> AbstractSet[str]:
        user = await self.check_token()
        if not namespaces or await self._allows(user, _sees("")):
            return namespaces
        asked: dict[str, asyncio.Task[bool]] = {}
        refused: RefusedError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for name in namespaces:
                    review = self._allows(user, _sees(name))
                    asked[name] = group.create_task(review, name=f"review {name}")
        except* RefusedError as refusals:
            refused = next(_leaves(refusals))
        if refused is not None:
            raise refused  # Python before 3.11.4 makes a group of what is raised in `except*`.
        return {name for name, answer in asked.items() if answer.result()}

    async def check_operates(self, namespace: str) -> str:
        user = await self.check_token()
        for where in dict.fromkeys(("", namespace)):
            if await self._allows(user, _operates(where)):
                return user.name
        raise _denied(
            f"{user.name} may not {_operates(namespace)}, which is what it takes. The chart's "
            f"account for that has a token by `{_operator_token(self._shim)}`"
        )

    async def _allows(self, user: User, right: Right) -> bool:
        try:
            return await self._reviews.allows(user, right)
        except ReviewsUnavailableError as error:
            raise _unavailable(error) from error


def _leaves(group: BaseExceptionGroup[RefusedError]) -> Iterator[RefusedError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def token_of(context: Context) -> str:
    """Returns the bearer token that a call shows; empty where it shows none."""
    given = dict(context.invocation_metadata() or ()).get("authorization", "")
    text = given if isinstance(given, str) else given.decode("ascii", "replace")
    scheme, _, token = text.partition(" ")
    usable = scheme.lower() == "bearer" and len(token) <= TOKEN_MAX_BYTES
    return token.strip() if usable else ""


def _sees(namespace: str) -> Right:
    return Right(verb="get", group="", resource="pods", namespace=namespace)


def _operates(namespace: str) -> Right:
    return Right(verb="update", group="mbcas.io", resource="podallocations", namespace=namespace)


def _operator_token(shim: str) -> str:
    """Returns how to get a token of the account that the chart makes beside that of the shims."""
    namespace, _, name = shim.removeprefix(SERVICE_ACCOUNT).partition(":")
    operator = f"{name.removesuffix('-shim')}-release"
    return f"kubectl -n {namespace} create token {operator} --audience {AUDIENCE}"


def _unauthenticated(what: str, hint: str = "") -> RefusedError:
    return RefusedError(
        grpc.StatusCode.UNAUTHENTICATED,
        f"this server asks for {what}: send the metadata 'authorization: Bearer TOKEN'{hint}",
    )


def _denied(message: str) -> RefusedError:
    return RefusedError(grpc.StatusCode.PERMISSION_DENIED, message)


def _unavailable(error: ReviewsUnavailableError) -> RefusedError:
    return RefusedError(
        grpc.StatusCode.UNAVAILABLE,
        f"the API server cannot be asked who calls: {error}; try again",
        reason="REVIEWS_UNAVAILABLE",
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> bytes:
    """Returns the first line of the file.

    Raises:
        TokenFileError: There is none.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"token_file: cannot read {path}: {error}") from error
    token = lines[0].strip() if lines else ""
    if not token:
        raise TokenFileError(f"token_file: the first line of {path} is empty")
    return token.encode()
