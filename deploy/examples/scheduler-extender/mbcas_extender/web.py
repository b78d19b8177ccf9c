"""HTTP: kube-scheduler's questions, `/metrics` and `/healthz`.

Threads of their own take the requests; the event loop asks MBCAS. What comes in is bounded in size,
in time and in number.
"""

import asyncio
import concurrent.futures
import logging
import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest

from mbcas_extender import score, wire
from mbcas_extender.market import Market
from mbcas_extender.pod import MalformedError, PodBid, read_bid

CONNECTIONS_MAX = 16  # kube-scheduler asks about one pod at a time.
QUESTIONS_MAX = 2  # Read by so many at a time: a parsed question takes several times its bytes.
CONNECTION_SECONDS = 20.0  # One that takes longer than this for everything is closed.
IDLE_SECONDS = 5.0  # So is one that sends or takes nothing.
LENGTH_DIGITS_MAX = 20  # Of a Content-Length.
GRACE_SECONDS = 1.0  # On top of the deadline for MBCAS, for an event loop that is busy.
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
HERE = b"here are POST /prioritize and /filter, GET /metrics and /healthz\n"

logger = logging.getLogger(__name__)
Reply = tuple[HTTPStatus, str, bytes]
_Socket = socket.socket | tuple[bytes, socket.socket]  # As socketserver has them.
_Address = Any
_T = TypeVar("_T")


class Extender:
    """Answers requests; made inside the event loop that the market is used in."""

    def __init__(
        self,
        market: Market,
        *,
        registry: CollectorRegistry,
        deadline_seconds: float,
        body_max_bytes: int,
    ) -> None:
        self._market = market
        self._registry = registry
        self._wait_seconds = deadline_seconds + GRACE_SECONDS
        self._body_max_bytes = body_max_bytes
        self._loop = asyncio.get_running_loop()
        self._turns = threading.BoundedSemaphore(QUESTIONS_MAX)
        self._requests = Counter(
            "mbcas_extender_requests_total",
            "Questions of kube-scheduler",
            ["verb", "code"],
            registry=registry,
        )
        self._annotations_refused = Counter(
            "mbcas_extender_annotations_refused_total", "Annotations left out", registry=registry
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        verb = environ.get("PATH_INFO", "").strip("/")
        match environ.get("REQUEST_METHOD"), verb:
            case "POST", "prioritize":
                status, content_type, body = self._answer(environ, verb, self._prioritize)
            case "POST", "filter":
                status, content_type, body = self._answer(environ, verb, self._filter)
            case "GET", "metrics":
                body = generate_latest(self._registry)
                status, content_type = HTTPStatus.OK, CONTENT_TYPE_LATEST
            case "GET", "healthz":
                status, content_type, body = HTTPStatus.OK, TEXT, b"ok\n"
            case _:
                status, content_type, body = HTTPStatus.NOT_FOUND, TEXT, HERE
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    def _answer(
        self, environ: WSGIEnvironment, verb: str, behaviour: Callable[[bytes], bytes]
    ) -> Reply:
        try:
            body = self._read_body(environ)
            with self._turns:
                reply = HTTPStatus.OK, JSON, behaviour(body)
        except MalformedError as error:
            reply = HTTPStatus.BAD_REQUEST, TEXT, f"{error}\n".encode()
        except _TooLargeError as error:
            reply = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TEXT, f"{error}\n".encode()
        self._requests.labels(verb=verb, code=reply[0].value).inc()
        return reply

    def _read_body(self, environ: WSGIEnvironment) -> bytes:
        given = environ.get("CONTENT_LENGTH") or ""
        if not (given.isascii() and given.isdigit() and len(given) <= LENGTH_DIGITS_MAX):
            raise MalformedError("the request must say its Content-Length, in bytes")
        length = int(given)
        if length > self._body_max_bytes:
            raise _TooLargeError(
                f"the body has {length} bytes, at most {self._body_max_bytes} are taken: set "
                "nodeCacheCapable, so that kube-scheduler sends names of nodes only"
            )
        body: bytes = environ["wsgi.input"].read(length)
        if len(body) < length:
            raise MalformedError(f"the body ended after {len(body)} of {length} bytes")
        return body

    def _prioritize(self, body: bytes) -> bytes:
        question, scores = self._ask(body, score.find_scores)
        return wire.write_scores(scores, question.names)

    def _filter(self, body: bytes) -> bytes:
        question, failed = self._ask(body, score.find_failures)
        return wire.write_kept(question, failed)

    def _ask(
        self, body: bytes, judge: Callable[[PodBid, dict[str, score.Answer]], _T]
    ) -> tuple[wire.Question, _T]:
        question = wire.read_question(body)
        pod = read_bid(question.pod)
        if pod.refusals:
            self._annotations_refused.inc(len(pod.refusals))
            logger.info("annotations left out %s", "; ".join(pod.refusals))
        asking = asyncio.run_coroutine_threadsafe(
            self._market.ask(pod.bid, question.names), self._loop
        )
        try:
            answers = asking.result(self._wait_seconds)
        except concurrent.futures.TimeoutError:
            asking.cancel()
            logger.warning("the event loop does not answer: every node stays neutral")
            answers = dict.fromkeys(question.names)
        return question, judge(pod, answers)


class _TooLargeError(Exception):
    """The body is larger than this takes."""


class Web:
    """The HTTP server around an extender."""

    def __init__(
        self, address: tuple[str, int], extender: Extender, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._server = _Server(address, _Handler)
        self._server.set_app(extender)
        if tls is not None:
            # The handshake waits for the connection's own thread.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        # In a thread, because a question in progress needs the loop to end.
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()
        self._thread.join()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def log_message(self, *_: object) -> None:
        """Says nothing: the counters do."""


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
        # A caller that sends a byte now and then never meets the handler's timeout.
        ending = threading.Timer(CONNECTION_SECONDS, _hang_up, (request,))
        ending.daemon = True
        ending.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            ending.cancel()
            self._slots.release()

    def handle_error(self, request: _Socket, client_address: _Address) -> None:
        """Logs in a line what socketserver prints as a traceback: callers go away, or speak TLS."""
        del request
        logger.info("connection failed from=%s error=%r", client_address, sys.exc_info()[1])


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        logger.debug("a late connection had ended already")
