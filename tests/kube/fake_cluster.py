"""A Kubernetes of one node that isn't there, over HTTP on loopback, on a clock that a test moves.

    with FakeCluster() as cluster:
        call(cluster.server, ...)      # Any HTTP client; token "admin".
        cluster.advance(1.0)           # Scheduler, kubelet and watch time-outs happen in here.

What it must answer is in contract.py, and is checked on a real Kubernetes by the same cases.
"""

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from tests.kube.errors import ApiError
from tests.kube.fake_api import FakeApi, Fault, Request
from tests.kube.fake_kubelet import Delays, FakeKubelet
from tests.kube.resources import Pod, request_millicores
from tests.kube.store import Store
from tests.kube.timers import Timers
from tests.kube.watching import Event, Watch
from tests.kube.wire import Json

NODE = "fake-node"
SCHEDULE_SECONDS = 0.01
VERSION = {"major": "1", "minor": "35", "gitVersion": "v1.35.4", "platform": "linux/amd64"}


@dataclass(frozen=True, slots=True)
class Until:
    """What a watch compares with, to know when to mark its place and when to end."""

    end_seconds: float
    bookmarks_asked: int
    watches_closed: int


class FakeCluster:
    """API server, scheduler and kubelet; a context manager that serves while it is open."""

    def __init__(self, *, millicores: int = 2000, delays: Delays | None = None) -> None:
        self.store = Store()
        self.timers = Timers()
        self.api = FakeApi(self.store)
        self.kubelet = FakeKubelet(
            self.store, self.timers, node=NODE, millicores=millicores, delays=delays or Delays()
        )
        self.api.pod_made = self._pod_made
        self.api.pod_changed = self.kubelet.pod_changed
        self.api.pod_removed = self._pod_removed
        self.bookmarks_asked = 0
        self.watches_closed = 0
        self.closing = False
        amounts = {"cpu": f"{millicores}m", "memory": "8Gi", "pods": "110"}
        node = {
            "kind": "Node",
            "apiVersion": "v1",
            "metadata": {"name": NODE, "uid": "fake-node-uid", "generation": 1},
            "status": {"allocatable": amounts, "capacity": amounts},
        }
        with self.store.changed:
            self.store.put("nodes", node)
        self._http = _Server(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.store.changed:
            self.closing = True
            self.store.changed.notify_all()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def server(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        with self.store.changed:
            self.timers.advance(seconds)
            self.store.changed.notify_all()

    def fail(self, fault: Fault) -> None:
        """Gives the next calls that it fits another answer."""
        with self.store.changed:
            self.api.faults.append(fault)

    def send_bookmarks(self) -> None:
        """Tells all watches that want it how far they are, as a server does once a minute."""
        with self.store.changed:
            self.bookmarks_asked += 1
            self.store.changed.notify_all()

    def close_watches(self) -> None:
        """Ends all watches, as a server does when it restarts or a proxy's patience ends."""
        with self.store.changed:
            self.watches_closed += 1
            self.store.changed.notify_all()

    def forget_history(self) -> None:
        """Ends what watches could resume from: the next one from a known version gets 410."""
        with self.store.changed:
            self.store.compact()

    def until_now(self, timeout_seconds: float) -> Until:
        """Returns where a watch of so many seconds starts."""
        end_seconds = self.timers.now_seconds + timeout_seconds
        return Until(end_seconds, self.bookmarks_asked, self.watches_closed)

    def _pod_made(self, pod: Pod) -> None:
        self.timers.after(SCHEDULE_SECONDS, self._schedule)
        self.kubelet.pod_changed(pod)

    def _pod_removed(self, pod: Pod) -> None:
        self.kubelet.pod_removed(pod)
        self.timers.after(SCHEDULE_SECONDS, self._schedule)

    def _schedule(self) -> None:
        """Binds what waits and fits; what selects a node waits for ever, no node has labels."""
        for pod in self.store.all("pods"):
            if pod["spec"].get("nodeName") or pod["spec"].get("nodeSelector"):
                continue
            bound = [each for each in self.store.all("pods") if each["spec"].get("nodeName")]
            taken = sum(request_millicores(each) for each in bound)
            if taken + request_millicores(pod) <= self.kubelet.millicores:
                pod["spec"]["nodeName"] = NODE
                self.kubelet.pod_changed(self.store.put("pods", pod))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cluster = cluster


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_call(self) -> None:
        request = self._read()
        cluster = self.server.cluster
        try:
            if request.path in ("/version", "/readyz", "/livez"):
                self._send(200, VERSION)
                return
            if request.watches:
                with cluster.store.changed:
                    watch = Watch(cluster.store, request, cluster.api.prepare_watch(request))
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
        return Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            content_type=self.headers.get("Content-Type", ""),
            body=json.loads(raw) if raw else None,
            token=self.headers.get("Authorization", "").removeprefix("Bearer "),
        )

    def _refuse(self, error: ApiError, request: Request) -> None:
        if error.code == 0:
            self.close_connection = True
            return
        target = request.path.rstrip("/").split("/")
        name = target[-2] if target[-1] in ("resize", "status") else target[-1]
        self._send(error.code, error.to_wire(kind="pods", name=name), error.retry_after_seconds)

    def _send(self, code: int, body: Json, retry_after_seconds: int | None = None) -> None:
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
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


def events_of(lines: Iterable[bytes]) -> Iterator[Event]:
    """Yields the events of a watch's answer."""
    for line in lines:
        event: Event = json.loads(line)
        yield event
