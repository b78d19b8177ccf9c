"""The gRPC server: our services as handlers over raw bytes, health, reflection, limits.

Messages are parsed by the handlers and not by gRPC, for two reasons: bytes that are no message
get INVALID_ARGUMENT instead of INTERNAL, and the cost of parsing is ours to see.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mbcas.v1 import market_pb2, node_link_pb2, operator_pb2
from mbcas_core.errors import MbcasError
from mbcas_server.allocations import Allocations
from mbcas_server.auth import Authenticator, Caller
from mbcas_server.clock import Clock
from mbcas_server.leadership import Leadership
from mbcas_server.logs import LimitedLog
from mbcas_server.market_service import MarketService
from mbcas_server.messages import Request, parse
from mbcas_server.metrics import Metrics
from mbcas_server.node_link import NodeLinks
from mbcas_server.operator_service import OperatorService
from mbcas_server.settings import Settings
from mbcas_server.status import Context, NotReadError, RefusedError, abort, refuse

MARKET = market_pb2.DESCRIPTOR.services_by_name["Market"].full_name
NODE_LINK = node_link_pb2.DESCRIPTOR.services_by_name["NodeLink"].full_name
OPERATOR = operator_pb2.DESCRIPTOR.services_by_name["Operator"].full_name
KEEPALIVE_MSEC = 20_000
OTHER_CALLS_MAX = 1_000  # Calls at one time beside the streams of shims and watchers.

logger = logging.getLogger(__name__)
Response = TypeVar("Response", bound=Message)
Behaviour = Callable[[Any, Context, Caller], Awaitable[bytes | None]]
Guarded = Callable[[Any, Context], Awaitable[bytes | None]]
REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcServer:
    """What `app` starts, and what it stops by turns."""

    server: grpc.aio.Server
    health: health.aio.HealthServicer

    async def set_serving(self, *, serving: bool) -> None:
        """Sets what the health service answers for the server and each of its services."""
        known = health_pb2.HealthCheckResponse
        status = known.SERVING if serving else known.NOT_SERVING
        for service in ("", MARKET, NODE_LINK, OPERATOR):
            await self.health.set(service, status)


def make_server(
    *,
    settings: Settings,
    guard: "Guard",
    allocations: Allocations,
    market: MarketService,
    node_links: NodeLinks,
    operator: OperatorService,
) -> RpcServer:
    """Makes a server that listens nowhere yet."""
    calls_max = settings.max_nodes + settings.watchers_max + OTHER_CALLS_MAX
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.message_max_bytes),
            ("grpc.keepalive_time_ms", KEEPALIVE_MSEC),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_MSEC),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            # Clients ping as often; half of it leaves room for a late timer.
            ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MSEC // 2),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MSEC // 2),
            # After a restart all shims come at once; gRPC would cancel those beyond a thousand.
            ("grpc.server.max_pending_requests", calls_max),
            ("grpc.server.max_pending_requests_hard_limit", calls_max),
            # Two servers on one port would each get half of the shims.
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=calls_max,
    )
    server.add_generic_rpc_handlers(
        (
            _market_handlers(market, allocations, guard),
            _node_link_handlers(node_links, guard),
            _operator_handlers(operator, guard),
        )
    )
    health_service = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    names = (MARKET, NODE_LINK, OPERATOR, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return RpcServer(server=server, health=health_service)


class Guard:
    """The boundary of every rpc of ours: asks who calls, maps errors to statuses."""

    def __init__(
        self,
        authenticator: Authenticator,
        leadership: Leadership,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._authenticator = authenticator
        self._leadership = leadership
        self._metrics = metrics
        self._log = LimitedLog(logger, clock)

    def __call__(self, name: str, behaviour: Behaviour, *, of_shims: bool = False) -> Guarded:
        async def known(request: object, context: Context) -> bytes | None:
            caller = await self._authenticator.identify(context, of_shims=of_shims)
            return await behaviour(request, context, caller)

        async def guarded(request: object, context: Context) -> bytes | None:
            try:
                return await self._answer(name, known, request, context)
            except NotReadError:
                return None

        return guarded

    async def _answer(
        self, name: str, answer: Guarded, request: object, context: Context
    ) -> bytes | None:
        try:
            self._leadership.check()
            return await answer(request, context)
        except (MbcasError, RefusedError) as error:
            if isinstance(error, RefusedError) and error.code in REFUSALS:
                self._metrics.calls_refused.labels(rpc=name, code=error.code.name).inc()
                detail = f"rpc={name} code={error.code.name} reason={str(error)[:500]!r}"
                self._log.log(logging.WARNING, "caller refused", detail)
            await refuse(context, error)
        except (grpc.aio.AbortError, grpc.RpcError):
            raise
        except Exception:
            logger.exception("call failed rpc=%s", name)
            message = "internal error; the server's log has more"
            await abort(context, grpc.StatusCode.INTERNAL, message)


def _market_handlers(
    service: MarketService, allocations: Allocations, guard: Guard
) -> grpc.GenericRpcHandler:
    async def allocate(requests: AsyncIterator[bytes], context: Context, caller: Caller) -> bytes:
        del caller  # Prices are no secret to whoever may call.
        del requests  # As a stream, it is read when there is room for it; the wire is the same.
        return await allocations.serve(context)

    async def watch(message: bytes, context: Context, caller: Caller) -> None:
        request = parse(market_pb2.WatchMarketsRequest, message)
        await service.watch_markets(request, context, caller)

    unary = {
        "ListMarkets": _unary(market_pb2.ListMarketsRequest, service.list_markets),
        "GetMarket": _unary(market_pb2.GetMarketRequest, service.get_market),
        "ExplainPod": _unary(market_pb2.ExplainPodRequest, service.explain_pod),
    }
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(guard(name, behaviour))
        for name, behaviour in unary.items()
    }
    handlers["Allocate"] = grpc.stream_unary_rpc_method_handler(guard("Allocate", allocate))
    handlers["WatchMarkets"] = grpc.unary_stream_rpc_method_handler(guard("WatchMarkets", watch))
    return grpc.method_handlers_generic_handler(MARKET, handlers)


def _node_link_handlers(node_links: NodeLinks, guard: Guard) -> grpc.GenericRpcHandler:
    async def connect(requests: AsyncIterator[bytes], context: Context, caller: Caller) -> None:
        del requests  # Reading from the context costs two thirds of iterating.
        await node_links.serve(context, caller)

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
        guard("Connect", connect, of_shims=True)
    )
    return grpc.method_handlers_generic_handler(NODE_LINK, {"Connect": handler})


def _operator_handlers(service: OperatorService, guard: Guard) -> grpc.GenericRpcHandler:
    unary = {
        "SetFrozen": _unary(operator_pb2.SetFrozenRequest, service.set_frozen),
        "Release": _unary(operator_pb2.ReleaseRequest, service.release),
    }
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(guard(name, behaviour))
        for name, behaviour in unary.items()
    }
    return grpc.method_handlers_generic_handler(OPERATOR, handlers)


def _unary(
    request_type: type[Request], method: Callable[[Request, Caller], Awaitable[Response]]
) -> Behaviour:
    async def behaviour(message: bytes, context: Context, caller: Caller) -> bytes:
        del context
        return (await method(parse(request_type, message), caller)).SerializeToString()

    return behaviour
