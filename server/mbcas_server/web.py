"""`/metrics`, `/healthz` and `/readyz` over plain HTTP.

The HTTP server has threads of its own, so that it can say that the driver hangs even where the
event loop does. It reads the core only by way of the loop.
"""

import asyncio
import concurrent.futures
import socket
import socketserver
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from http import HTTPStatus
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest

CONNECTIONS_MAX = 16
IDLE_SECONDS = 10.0  # A connection that sends nothing is closed.
GATHER_SECONDS = 8.0  # Prometheus gives up after ten by default.
TEXT = "text/plain; charset=utf-8"
_Socket = socket.socket | tuple[bytes, socket.socket]  # As socketserver has them.
_Address = Any


class Web:
    """The HTTP server; made inside the event loop that the driver runs in."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        registry: CollectorRegistry,
        gather: Callable[[], Coroutine[Any, Any, list[Metric]]],
        is_healthy: Callable[[], bool],
        is_ready: Callable[[], bool],
    ) -> None:
        self._registry = registry
        self._gather = gather
        self._is_healthy = is_healthy
        self._is_ready = is_ready
        self._loop = asyncio.get_running_loop()
        self._server = _Server(address, _Handler)
        self._server.set_app(self._answer)
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        # In a thread, because a scrape in progress needs the loop to end.
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()
        self._thread.join()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        content_type = TEXT
        match environ.get("REQUEST_METHOD"), environ.get("PATH_INFO"):
            case "GET" | "HEAD", "/healthz":
                status, body = _told(self._is_healthy(), b"no tick was completed lately\n")
            case "GET" | "HEAD", "/readyz":
                status, body = _told(self._is_ready(), b"this server does not decide\n")
            case "GET" | "HEAD", "/metrics":
                status, content_type, body = self._metrics()
            case "GET" | "HEAD", _:
                status, body = HTTPStatus.NOT_FOUND, b"here are /metrics, /healthz, /readyz\n"
            case _:
                status, body = HTTPStatus.METHOD_NOT_ALLOWED, b"GET only\n"
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else body]

    def _metrics(self) -> tuple[HTTPStatus, str, bytes]:
        future = asyncio.run_coroutine_threadsafe(self._gather(), self._loop)
        try:
            families = future.result(GATHER_SECONDS)
        except concurrent.futures.TimeoutError:
            future.cancel()
            return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"the event loop does not answer\n"
        body = generate_latest(self._registry) + generate_latest(_Gathered(families))
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, body


def _told(well: bool, otherwise: bytes) -> tuple[HTTPStatus, bytes]:  # noqa: FBT001 - one of two.
    return (HTTPStatus.OK, b"ok\n") if well else (HTTPStatus.SERVICE_UNAVAILABLE, otherwise)


class _Gathered(CollectorRegistry):
    def __init__(self, families: list[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def log_message(self, *_: object) -> None:
        """Says nothing: a scrape is not worth a line."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # The inherited one asks the resolver for this host's name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: _Socket, client_address: _Address) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: _Socket, client_address: _Address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()
