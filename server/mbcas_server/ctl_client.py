"""How `mbcasctl` reaches the server, and how it words what goes wrong."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc

# Its stubs are there, but the package does not declare them.
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from mbcas.v1 import market_pb2 as pb
from mbcas.v1 import operator_pb2
from mbcas.v1.market_pb2_grpc import MarketStub
from mbcas.v1.operator_pb2_grpc import OperatorStub
from mbcas_server.settings import is_local
from mbcas_server.status import DOMAIN

CALL_SECONDS = 10.0
PAGE_SIZE = 500
NEAR_NAMES_MAX = 5
ANSWER_MAX_BYTES = 16 << 20
RECONNECT_MAX_MILLISECONDS = 5000
AWAY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # A server that stops ends its calls like that.
)


class CtlError(Exception):
    """Something went wrong; the message says what, and what to do."""


class UsageError(CtlError):
    """What was asked for cannot be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the server is and how to speak to it."""

    server: str
    token_file: Path | None = None
    token: str | None = None
    server_ca: Path | None = None
    server_name: str | None = None
    """As in the server's certificate, where it is reached by another name."""
    client_cert: Path | None = None
    client_key: Path | None = None
    insecure: bool = False


class Client:
    """The calls that `mbcasctl` makes."""

    def __init__(self, channel: grpc.Channel, connection: Connection) -> None:
        self._stub = MarketStub(channel)
        self._operator = OperatorStub(channel)
        self._token = _token(connection)

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return () if self._token is None else (("authorization", f"Bearer {self._token}"),)

    def markets(self, *, nodes: list[str], include_containers: bool) -> list[pb.NodeMarket]:
        """Returns all markets, or those of these nodes."""
        markets: list[pb.NodeMarket] = []
        request = pb.ListMarketsRequest(
            page_size=PAGE_SIZE,
            filter=pb.MarketFilter(nodes=nodes),
            include_containers=include_containers,
        )
        while True:
            page = self._stub.ListMarkets(request, timeout=CALL_SECONDS, metadata=self._metadata)
            markets += page.markets
            if not page.next_page_token:
                return markets
            request.page_token = page.next_page_token

    def watch(self, *, nodes: list[str]) -> Iterator[pb.WatchMarketsResponse]:
        """Returns the stream of changes, containers included."""
        request = pb.WatchMarketsRequest(
            filter=pb.MarketFilter(nodes=nodes), include_containers=True
        )
        return self._stub.WatchMarkets(request, metadata=self._metadata)

    def explain(self, namespace: str, pod: str) -> list[pb.Decision]:
        """Returns a pod's decisions.

        Raises:
            UsageError: There is no such pod; the message names some like it.
        """
        request = pb.ExplainPodRequest(namespace=namespace, name=pod)
        try:
            answer = self._stub.ExplainPod(request, timeout=CALL_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            if _call(error).code() is not grpc.StatusCode.NOT_FOUND:
                raise
            raise UsageError(self._unknown_pod(namespace, pod)) from error
        return list(answer.decisions)

    def allocate(self, request: pb.AllocateRequest) -> pb.AllocateResponse:
        return self._stub.Allocate(request, timeout=CALL_SECONDS, metadata=self._metadata)

    def set_frozen(self, *, frozen: bool) -> operator_pb2.SetFrozenResponse:
        request = operator_pb2.SetFrozenRequest(frozen=frozen)
        return self._operator.SetFrozen(request, timeout=CALL_SECONDS, metadata=self._metadata)

    def release(self, request: operator_pb2.ReleaseRequest) -> operator_pb2.ReleaseResponse:
        return self._operator.Release(request, timeout=CALL_SECONDS, metadata=self._metadata)

    def _unknown_pod(self, namespace: str, pod: str) -> str:
        wanted = f"{namespace}/{pod}"
        known = sorted(
            {
                f"{row.namespace}/{row.pod}"
                for market in self.markets(nodes=[], include_containers=True)
                for row in market.containers
            }
        )
        if not known:
            return f"no pod {wanted}: no shim has reported any pod yet"
        near = difflib.get_close_matches(wanted, known, n=NEAR_NAMES_MAX, cutoff=0.5)
        near += [name for name in known if pod in name and name not in near]
        hint = f"there is {', '.join(near[:NEAR_NAMES_MAX])}" if near else f"there are {len(known)}"
        return f"no pod {wanted}; {hint} (mbcasctl top --once lists them)"


@contextmanager
def connected(connection: Connection) -> Iterator[Client]:
    """Connects, and words what goes wrong.

    Raises:
        CtlError: The server cannot be reached or refuses.
        UsageError: The server says that the request is unusable.
    """
    with _channel(connection) as channel:
        try:
            yield Client(channel, connection)
        except grpc.RpcError as error:
            raise _worded(_call(error), connection) from error


def _channel(connection: Connection) -> grpc.Channel:
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", ANSWER_MAX_BYTES),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MILLISECONDS),
    ]
    if connection.server_name is not None:
        options.append(("grpc.ssl_target_name_override", connection.server_name))
    if connection.server_ca is not None:
        if (connection.client_cert is None) != (connection.client_key is None):
            raise UsageError("give both --client-cert and --client-key, or neither")
        cert, key = connection.client_cert, connection.client_key
        credentials = grpc.ssl_channel_credentials(
            _read(connection.server_ca, "--server-ca"),
            private_key=None if key is None else _read(key, "--client-key"),
            certificate_chain=None if cert is None else _read(cert, "--client-cert"),
        )
        return grpc.secure_channel(connection.server, credentials, options)
    if is_local(connection.server) or connection.insecure:
        return grpc.insecure_channel(connection.server, options)
    raise UsageError(
        f"{connection.server} is another machine: give --server-ca FILE, or --insecure to speak "
        "plain text with it"
    )


def is_away(error: BaseException) -> bool:
    """Returns whether a call failed because the server is not there, or not yet."""
    return isinstance(error, grpc.RpcError) and _call(error).code() in AWAY


def _call(error: grpc.RpcError) -> grpc.Call:
    """Returns the error of a call as the call that it also is, which its type does not say."""
    return cast("grpc.Call", error)


def _worded(error: grpc.Call, connection: Connection) -> CtlError:
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return UsageError("\n".join(_violations(error)) or details)
    if code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}:
        return UsageError(details)
    where = f"the server at {connection.server}"
    if _says_why(error):
        return CtlError(f"{where} says: {details}")
    words = {
        grpc.StatusCode.UNAVAILABLE: (
            f"cannot reach {where}: {details}\n"
            "Is mbcas-server running? --server HOST:PORT or MBCAS_SERVER says where it is; with "
            "TLS, --server-ca FILE and --server-name NAME must fit its certificate."
        ),
        grpc.StatusCode.DEADLINE_EXCEEDED: f"{where} did not answer within {CALL_SECONDS:g} s",
        grpc.StatusCode.UNAUTHENTICATED: (
            f"{where} says: {details}\nGive --token-file FILE with its token."
        ),
        grpc.StatusCode.PERMISSION_DENIED: f"{where} says: {details}",
        grpc.StatusCode.UNIMPLEMENTED: f"{where} is no MBCAS server: {details}",
    }
    return CtlError(words.get(code, f"{where} refused: {code.name}: {details}"))


def _says_why(error: grpc.Call) -> bool:
    """Returns whether the server answered itself, and not the transport for it."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    details = () if status is None else status.details
    return any(detail.Unpack(info) and info.domain == DOMAIN for detail in details)


def _violations(error: grpc.Call) -> list[str]:
    status = rpc_status.from_call(error)
    request = error_details_pb2.BadRequest()
    for detail in () if status is None else status.details:
        if detail.Unpack(request):
            return [f"{item.field} {item.description}" for item in request.field_violations]
    return []


def _token(connection: Connection) -> str | None:
    if connection.token is not None and connection.token_file is not None:
        raise UsageError(
            "give --token or --token-file (or MBCAS_TOKEN or MBCAS_TOKEN_FILE), not both"
        )
    if connection.token_file is None:
        return connection.token
    lines = _read(connection.token_file, "--token-file").decode("ascii", "replace").splitlines()
    return lines[0].strip() if lines else ""


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option}: cannot read {path}: {error}") from error
