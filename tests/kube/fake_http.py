"""The fake API server's network side: calls and watches over HTTP or HTTPS on loopback."""

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.kube.errors import ApiError
from tests.kube.fake_api import FakeApi
from tests.kube.kinds import NOT_SERVED
from tests.kube.patching import APPLY_PATCH
from tests.kube.requests import Request, target_of
from tests.kube.store import Store
from tests.kube.timers import Timers
from tests.kube.watching import Event, Watch
from tests.kube.wire import Json

VERSION = {"major": "1", "minor": "35", "gitVersion": "v1.35.4", "platform": "linux/amd64"}
HEALTH_PATHS = ("/version", "/readyz", "/livez", "/healthz")


@dataclass(frozen=True, slots=True)
class Until:
    """What a watch compares with, to know when to mark its place and when to end."""

    end_seconds: float
    bookmarks_asked: int
    watches_closed: int


class Served(Protocol):
    """What the network side needs of a cluster."""

    store: Store
    timers: Timers
    api: FakeApi
    bookmarks_asked: int
    watches_closed: int
    closing: bool
    is_down: bool

    def until_now(self, timeout_seconds: float) -> Until:
        """Returns where a watch of so many seconds starts."""


class Http(ThreadingHTTPServer):
    """Listens on loopback; with a certificate and its key, over TLS."""

    daemon_threads = True

    def __init__(self, cluster: Served, tls: tuple[Path, Path] | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cluster = cluster
        self.scheme = "http"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
            self.scheme = "https"

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that go, or that do not like the certificate."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Http

    def handle_call(self) -> None:
        request = self._read()
        cluster = self.server.cluster
        try:
            if cluster.is_down:
                self.close_connection = True
                return
            if request.path in HEALTH_PATHS:
                self._send(200, VERSION)
                return
            if request.path == "/api/v1":
                self._send(200, self._discovered())
                return
            if request.watches:
                with cluster.store.changed:
                    watch = Watch(cluster.store, request, cluster.api.admitted(request))
                    # Before the client has an answer: from then on it may let time pass.
                    until = cluster.until_now(float(request.query.get("timeoutSeconds", "inf")))
                self._stream(watch, until)
                return
            with cluster.store.changed:
                code, body = cluster.api.answer(request)
        except ApiError as error:
            self._refuse(error, request)
            return
        self._send(code, body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_call  # noqa: N815 - http.server's names.

    def _read(self) -> Request:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        content_type = self.headers.get("Content-Type", "").partition(";")[0]
        parse = yaml.safe_load if content_type == APPLY_PATCH else json.loads
        return Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            content_type=content_type,
            body=parse(raw) if raw else None,
            user_agent=self.headers.get("User-Agent", ""),
            token=self.headers.get("Authorization", "").removeprefix("Bearer "),
        )

    def _discovered(self) -> Json:
        """Returns what there is in the core group, as far as anybody asks."""
        names = ["pods", "pods/status"]
        if self.server.cluster.api.serves_resize:
            names.append("pods/resize")
        resources = [{"name": name, "namespaced": True, "kind": "Pod"} for name in names]
        return {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources}

    def _refuse(self, error: ApiError, request: Request) -> None:
        if error.code == 0:
            self.close_connection = True
            return
        if error.plain:
            self._send(error.code, "404 page not found\n")
            return
        try:
            if error.message == NOT_SERVED:
                raise error
            target = target_of(request.path, self.server.cluster.api.kinds)
        except ApiError:
            self._send(error.code, error.to_wire(), error.retry_after_seconds)
            return
        kind = target.kind
        told = error.to_wire(kind=kind.plural, group=kind.group, name=target.name)
        self._send(error.code, told, error.retry_after_seconds)

    def _send(self, code: int, body: Json, retry_after_seconds: int | None = None) -> None:
        is_text = isinstance(body, str)
        raw = body.encode() if is_text else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(raw)))
        if retry_after_seconds is not None:
            self.send_header("Retry-After", str(retry_after_seconds))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, watch: Watch, until: Until) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in self._events(watch, until):
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True  # The client has gone.

    def _events(self, watch: Watch, until: Until) -> Iterator[Event]:
        """Yields a watch's events until it is told to end; sends them without the lock."""
        cluster = self.server.cluster
        store = cluster.store
        with store.changed:
            bookmarks = until.bookmarks_asked
            events = list(watch.first())
        while True:
            yield from events
            with store.changed:
                while not (events := list(watch.next())):
                    if cluster.bookmarks_asked != bookmarks:
                        bookmarks = cluster.bookmarks_asked
                        events = list(watch.bookmarks())
                        break
                    if cluster.closing or cluster.watches_closed != until.watches_closed:
                        return
                    if cluster.timers.now_seconds >= until.end_seconds:
                        events, watch.ended = list(watch.bookmarks()), True
                        break
                    store.changed.wait()
            if watch.ended:
                yield from events
                return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name.
        """Says nothing: the calls are in `FakeApi.requests`."""
