"""Calls to the API server: plain JSON in and out, each with a time-out, refusals as one error.

Nothing is parsed into the library's models: what comes back is untrusted, and is checked by whoever
uses it. The library does what differs between clusters: where the API server is and who we are.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

Object = dict[str, Any]
Query = Mapping[str, str]

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
CALL_SECONDS = 10.0
CONNECTIONS_MAX = 40  # Writes and watches together; the API server's fairness does the rest.
PAGE_SIZE = 500
MESSAGE_MAX = 300
UNREACHABLE = 0
NOT_FOUND = 404
NOT_SERVED = "the API server does not serve this kind: is its CustomResourceDefinition installed?"
GONE = 410


class CannotConnectError(Exception):
    """There is no usable way to an API server; the message says what to give."""


class ApiError(Exception):
    """A call that was refused, or had no answer.

    Attributes:
        code: The HTTP status; `UNREACHABLE` where there was no answer.
        reason: The API's word for it, as "NotFound".
        causes: Reason and field of each cause.
        retry_after_seconds: When to come back, where the server said so.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str = "",
        causes: tuple[tuple[str, str], ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{code} {reason}: {message[:MESSAGE_MAX]}")
        self.code = code
        self.reason = reason
        self.causes = causes
        self.retry_after_seconds = retry_after_seconds

    @property
    def is_transient(self) -> bool:
        """Whether the same call may well succeed later."""
        return self.code in (UNREACHABLE, 408, 409, 429) or self.code >= 500  # noqa: PLR2004 - HTTP's numbers.


class KubeClient:
    """One connection pool to one API server."""

    def __init__(self, configuration: Configuration) -> None:
        configuration.connection_pool_maxsize = CONNECTIONS_MAX
        self._client = ApiClient(configuration)
        self._client.user_agent = "mbcas-server"

    async def close(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call] # The library has few types.

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Object | None = None,
        content_type: str = JSON,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Object:
        """Makes one call and returns the object of the answer.

        Raises:
            ApiError: It was refused or had no answer in time.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self._send(method, path, query or {}, body, content_type)
                try:
                    raw = await response.read()
                finally:
                    response.release()
        except TimeoutError as error:
            raise ApiError(UNREACHABLE, f"no answer within {timeout_seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(UNREACHABLE, f"{type(error).__name__}: {error}") from error
        if not 200 <= response.status <= 299:  # noqa: PLR2004 - HTTP's success.
            raise _refusal(response.status, raw, response.headers.get("Retry-After"))
        return _parsed(raw)

    async def list(self, path: str, *, query: Query | None = None) -> tuple[list[Object], str]:
        """Lists everything, page by page; returns the items and the version to watch from.

        Raises:
            ApiError: A page was refused or had no answer.
        """
        items: list[Object] = []
        token = ""
        while True:
            asked = {**(query or {}), "limit": str(PAGE_SIZE)}
            if token:
                asked["continue"] = token
            page = await self.call("GET", path, query=asked)
            found = page.get("items")
            items += [each for each in found if isinstance(each, dict)] if found else []
            metadata = page.get("metadata")
            metadata = metadata if isinstance(metadata, dict) else {}
            token = str(metadata.get("continue") or "")
            if not token:
                return items, str(metadata.get("resourceVersion") or "")

    @asynccontextmanager
    async def watch(
        self, path: str, *, resource_version: str, timeout_seconds: float
    ) -> AsyncIterator[AsyncIterator[Object]]:
        """Yields the events of one watch, bookmarks among them, until the server ends it.

        Raises:
            ApiError: It was refused, broke off, or is from a version that is gone (410).
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(int(timeout_seconds)),
        }
        # The server ends it in time; where nothing has come for longer, the connection is dead.
        silence_seconds = timeout_seconds + CALL_SECONDS
        try:
            response = await self._send(
                "GET", path, query, None, JSON, silence_seconds=silence_seconds
            )
            try:
                if response.status != 200:  # noqa: PLR2004 - HTTP's success.
                    raw = await response.read()
                    raise _refusal(response.status, raw, response.headers.get("Retry-After"))
                yield _events(response)
            finally:
                response.close()
        except TimeoutError as error:
            raise ApiError(UNREACHABLE, "the watch stands still") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(UNREACHABLE, f"{type(error).__name__}: {error}") from error

    async def _send(
        self,
        method: str,
        path: str,
        query: Query,
        body: Object | None,
        content_type: str,
        *,
        silence_seconds: float | None = None,
    ) -> aiohttp.ClientResponse:
        # The time-out is the caller's: the library's own would end a watch after five minutes.
        parts = await self._client.param_serialize(
            method,
            f"{path}?{urlencode(query)}" if query else path,
            header_params={"Accept": JSON, "Content-Type": content_type},
            auth_settings=["BearerToken"],
        )
        response = await self._client.call_api(
            parts[0],
            parts[1],
            parts[2],
            body,
            _request_timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CALL_SECONDS, sock_read=silence_seconds
            ),
        )
        found: aiohttp.ClientResponse = response.response
        return found


async def connect(kubeconfig: Path | None) -> KubeClient:
    """Returns a client: by that file, else as a pod of the cluster.

    Raises:
        CannotConnectError: Neither can be used.
    """
    configuration = Configuration()
    try:
        if kubeconfig is not None:
            await config.load_kube_config(  # type: ignore[no-untyped-call] # See above.
                str(kubeconfig), client_configuration=configuration, persist_config=False
            )
        else:
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call] # See above.
    except (config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
        where = "in the cluster" if kubeconfig is None else f"by {kubeconfig}"
        raise CannotConnectError(
            f"kubeconfig: cannot find the API server {where}: {error}; outside of a cluster, name "
            "a kubeconfig file"
        ) from error
    return KubeClient(configuration)


def api_path(group: str, resource: str, *, namespace: str = "", name: str = "") -> str:
    """Returns the path of a collection or an object; a group is "v1" or "apps/v1"."""
    root = f"/apis/{group}" if "/" in group else f"/api/{group}"
    within = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"{root}{within}/{resource}" + (f"/{quote(name, safe='')}" if name else "")


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Object]:
    while line := await response.content.readline():
        event = _parsed(line)
        if event.get("type") == "ERROR":
            status = event.get("object")
            raise _refusal(0, json.dumps(status).encode(), None)
        yield event


def _parsed(raw: bytes) -> Object:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ApiError(UNREACHABLE, f"the answer is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ApiError(UNREACHABLE, "the answer is no object")
    return found


def _refusal(code: int, raw: bytes, retry_after: str | None) -> ApiError:
    """Reads the Status object that refusals carry; a proxy's page has none."""
    try:
        status = json.loads(raw)
    except (ValueError, RecursionError):
        status = None
    status = (
        status
        if isinstance(status, dict)
        else {"message": raw[:MESSAGE_MAX].decode("ascii", "replace")}
    )
    if code == NOT_FOUND and "kind" not in status:
        status = {"message": NOT_SERVED}  # A missing object has a Status, a missing kind none.
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    told = status.get("code")
    return ApiError(
        code or (told if isinstance(told, int) else UNREACHABLE),
        str(status.get("message", "")),
        reason=str(status.get("reason", ""))[:64],
        causes=tuple(
            (str(each.get("reason", "")), str(each.get("field", "")))
            for each in causes or ()
            if isinstance(each, dict)
        ),
        retry_after_seconds=float(retry_after) if retry_after and retry_after.isdecimal() else None,
    )
