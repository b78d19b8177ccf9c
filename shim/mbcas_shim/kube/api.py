"""Calls to the Kubernetes API server: blocking, for a few threads, without a will of its own.

It repeats nothing, follows no redirect and caches nothing: who calls knows what a second try would
mean. The token and the authorities' file are read anew, the one at each call and the other at each
connection, because both are replaced while the shim runs.
"""

import contextlib
import ipaddress
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.util import Timeout

from mbcas_shim.errors import ConfigurationError, ShimError
from mbcas_shim.settings import read_token

STRATEGIC_MERGE = "application/strategic-merge-patch+json"
MAX_BODY_BYTES = 32 << 20  # A list of 250 pods of 20 kB each, six times over.
MAX_EVENT_BYTES = 4 << 20  # An object has at most 1.5 MiB in etcd; a pod as JSON some more.
MAX_RETRY_AFTER_SECONDS = 3600.0
CONNECT_SECONDS = 5.0
# A quiet watch carries a bookmark a minute: after two silent minutes it is broken.
STREAM_SILENCE_SECONDS = 150.0
_CHUNK_BYTES = 64 << 10
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A machine that vanished says nothing: it is noticed after half a minute.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class KubeApiError(ShimError):
    """A call that brought no answer that can be used."""


class KubeApiUnreachableError(KubeApiError):
    """No answer: not connected, not trusted, broken off or too slow. It may have had an effect."""


class KubeApiAnswerError(KubeApiError):
    """An answer that is no JSON object, or larger than any that is expected."""


class KubeApiRefusedError(KubeApiError):
    """A stream that the server did not begin."""

    def __init__(self, answer: "Answer") -> None:
        self.answer = answer
        super().__init__(f"{answer.status} {answer.reason}: {answer.message}")


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of a refusal: a short word and the field it is about, each may be empty."""

    reason: str
    field: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said; of a refusal the body is a Status object, if it is one at all."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)
    retry_after_seconds: float | None = None

    @property
    def reason(self) -> str:
        """The reason of a refusal, as "Forbidden"."""
        return _text(self.body.get("reason"))

    @property
    def message(self) -> str:
        """The sentence of a refusal, for people; it varies by release."""
        return _text(self.body.get("message"))

    @property
    def causes(self) -> list[Cause]:
        """The causes of a refusal."""
        details = self.body.get("details")
        causes = details.get("causes") if isinstance(details, dict) else None
        return [
            Cause(_text(cause.get("reason")), _text(cause.get("field")))
            for cause in (causes if isinstance(causes, list) else [])
            if isinstance(cause, dict)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeApiAddress:
    """Where the API server is, who vouches for it and who we are."""

    url: str
    ca_file: Path | None = None
    token_file: Path | None = None


def find_api(
    environment: Mapping[str, str],
    *,
    url: str | None = None,
    ca_file: Path | None = None,
    token_file: Path | None = None,
    account: Path = _ACCOUNT,
) -> KubeApiAddress:
    """Finds the API server as a pod does, except for what is given.

    Raises:
        ConfigurationError: Neither is there, or it would be spoken to in plain text.
    """
    if url is None:
        host = environment.get("KUBERNETES_SERVICE_HOST")
        port = environment.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise ConfigurationError(
                "kube_api: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, as "
                "they are in a pod; give --kube-api URL"
            )
        url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        ca_file = ca_file or account / "ca.crt"
        token_file = token_file or account / "token"
    try:
        parts, _ = urlsplit(url), urlsplit(url).port
    except ValueError as error:
        raise ConfigurationError(f"kube_api: {url} is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"kube_api: {url} is no URL; write https://HOST:PORT")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigurationError(f"kube_api: {url} would carry the token unencrypted; use https")
    return KubeApiAddress(url=url.rstrip("/"), ca_file=ca_file, token_file=token_file)


class KubeApi:
    """One API server. Its methods may be called from several threads at once."""

    def __init__(self, address: KubeApiAddress, *, connections: int = 4) -> None:
        self.address = address
        trust: dict[str, Any] = {}
        if address.url.startswith("https:"):
            trust = {
                "ca_certs": None if address.ca_file is None else str(address.ca_file),
                "cert_reqs": "CERT_REQUIRED",
            }
        # A thread that comes back takes the connection that was used last: as many are kept as
        # there are calls at once.
        self._pool = urllib3.connection_from_url(
            address.url,
            maxsize=connections,
            retries=False,
            socket_options=_SOCKET_OPTIONS,
            **trust,
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        timeout_seconds: float = 10.0,
    ) -> Answer:
        """Makes one call; a refusal is an answer like any other.

        Raises:
            KubeApiUnreachableError: No answer came; it may have had an effect all the same.
            KubeApiAnswerError: An answer came that cannot be used.
        """
        timeout = Timeout(connect=min(CONNECT_SECONDS, timeout_seconds), read=timeout_seconds)
        response = self._open(method, path, query, body, content_type, timeout=timeout)
        return _read(response)

    def stream(
        self,
        path: str,
        query: Mapping[str, str],
        *,
        silence_seconds: float = STREAM_SILENCE_SECONDS,
    ) -> "Stream":
        """Begins a watch; `query` says so itself.

        Raises:
            KubeApiUnreachableError: No answer came.
            KubeApiRefusedError: The server said no.
        """
        timeout = Timeout(connect=CONNECT_SECONDS, read=silence_seconds)
        response = self._open("GET", path, query, None, "", timeout=timeout)
        if response.status != HTTPStatus.OK:
            raise KubeApiRefusedError(_read(response))
        return Stream(response)

    def close(self) -> None:
        """Closes the connections that wait for use."""
        self._pool.close()

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: object,
        content_type: str,
        *,
        timeout: Timeout,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": "mbcas-shim"}
        try:
            if self.address.token_file is not None:
                headers["Authorization"] = f"Bearer {read_token(self.address.token_file)}"
            data = None
            if body is not None:
                headers["Content-Type"] = content_type
                data = json.dumps(body, separators=(",", ":")).encode()
            return self._pool.urlopen(
                method,
                f"{path}?{urlencode(query)}" if query else path,
                body=data,
                headers=headers,
                timeout=timeout,
                redirect=False,
                preload_content=False,
            )
        except ConfigurationError as error:
            raise KubeApiUnreachableError(str(error)) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise KubeApiUnreachableError(self._words(error)) from error

    def _words(self, error: Exception) -> str:
        words = f"{self.address.url}: {error}"
        if isinstance(error, urllib3.exceptions.SSLError):
            words += f"; its certificate is checked against {self.address.ca_file}"
        return words


class Stream:
    """The objects of a watch, one by one; whoever iterates blocks, and any thread may close it."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self._lock = threading.Lock()
        self._is_closed = False
        self._objects = self._read()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        """Waits for the next object.

        Raises:
            KubeApiUnreachableError: The connection broke, or was silent for too long.
            KubeApiAnswerError: Something came that is no JSON object.
        """
        return next(self._objects)

    def close(self) -> None:
        """Ends it; whoever waits for the next object is told that there is none."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            with contextlib.suppress(ValueError, RuntimeError, OSError):  # It was over already.
                self._response.shutdown()

    def _read(self) -> Iterator[dict[str, Any]]:
        kept = b""
        try:
            for chunk in self._response.stream(_CHUNK_BYTES):
                *lines, kept = (kept + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield _parse(line)
                if len(kept) > MAX_EVENT_BYTES:
                    raise KubeApiAnswerError(f"a watched object above {MAX_EVENT_BYTES} bytes")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if not self._is_closed:
                raise KubeApiUnreachableError(f"the watch broke off: {error}") from error
        finally:
            with self._lock:
                self._is_closed = True
                self._response.close()


def _read(response: urllib3.BaseHTTPResponse) -> Answer:
    try:
        raw = response.read(MAX_BODY_BYTES + 1)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        response.close()
        raise KubeApiUnreachableError(f"the answer broke off: {error}") from error
    if len(raw) > MAX_BODY_BYTES:
        response.close()
        raise KubeApiAnswerError(f"an answer above {MAX_BODY_BYTES} bytes")
    response.release_conn()
    return Answer(
        status=response.status,
        body=_parse_answer(raw, response.status),
        retry_after_seconds=_retry_after_seconds(response.headers.get("Retry-After")),
    )


def _parse_answer(raw: bytes, status: int) -> dict[str, Any]:
    """Parses an answer; of a refusal, which a proxy may have written, anything is taken."""
    try:
        return _parse(raw)
    except KubeApiAnswerError:
        if status < HTTPStatus.BAD_REQUEST:
            raise
        return {"message": raw[:200].decode(errors="replace")}


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise KubeApiAnswerError(f"no JSON: {raw[:80]!r}") from error
    if not isinstance(parsed, dict):
        raise KubeApiAnswerError(f"no JSON object: {raw[:80]!r}")
    return parsed


def _retry_after_seconds(header: str | None) -> float | None:
    """Reads the header's seconds; its other form, a date, the API server does not use."""
    if header is None or not header.isascii() or not header.isdigit():
        return None
    return min(float(header), MAX_RETRY_AFTER_SECONDS)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
