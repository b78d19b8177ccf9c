"""The service Market: reads the core between two of its events, and changes nothing.

Views are read, and made into messages, in the core's thread, a few at a time.
"""

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from operator import length_hint

import grpc

from mbcas.v1 import market_pb2 as pb
from mbcas_core.errors import FieldError, InvalidInputError, UnknownNodeError
from mbcas_server.answers import Answers
from mbcas_server.auth import Caller
from mbcas_server.clock import Clock
from mbcas_server.core import Core
from mbcas_server.core_thread import Breaths, CoreThread
from mbcas_server.metrics import Metrics
from mbcas_server.settings import Settings
from mbcas_server.status import Context, RefusedError, begin
from mbcas_server.watchers import Watcher, Watchers

PAGE_DEFAULT = 50
PAGE_MAX = 1_000
FILTER_NODES_MAX = 1_000
NAME_MAX = 253
ANSWER_MAX_BYTES = 3 << 20  # A client takes messages up to 4 MiB unless it is told otherwise.
SLICE_SECONDS = 0.005  # The driver gets its turn at least this often.


@dataclass(eq=False, slots=True, kw_only=True)
class MarketService:
    """Answers the calls of Market; requests come parsed, errors are raised."""

    core: CoreThread
    watchers: Watchers
    settings: Settings
    clock: Clock
    metrics: Metrics

    async def list_markets(
        self, request: pb.ListMarketsRequest, caller: Caller
    ) -> pb.ListMarketsResponse:
        if request.page_size < 0:
            raise _invalid("page_size", f"is {request.page_size}, must be at least 0")
        _check_filter(request.filter)
        size = min(request.page_size or PAGE_DEFAULT, PAGE_MAX)
        after = _read_token(request.page_token, request) if request.page_token else ""
        names = [name for name in await self._names(request.filter) if name > after]
        response = pb.ListMarketsResponse()
        bytes_left = ANSWER_MAX_BYTES
        async for market in self._markets(
            names, request.filter, include_containers=request.include_containers
        ):
            await _hide(market, caller)
            bytes_left -= market.ByteSize()
            if response.markets and (len(response.markets) == size or bytes_left < 0):
                response.next_page_token = _make_token(response.markets[-1].node, request)
                break
            response.markets.append(market)
        return response

    async def get_market(self, request: pb.GetMarketRequest, caller: Caller) -> pb.NodeMarket:
        if not request.node:
            raise _invalid("node", "is empty, must be the name of a node")
        node = _name("node", request.node)

        def answer(core: Core) -> pb.NodeMarket:
            return Answers(self.clock).market(core.market_view(node, include_containers=True))

        market = await self.core.read(answer)
        await _hide(market, caller)
        return market

    async def explain_pod(
        self, request: pb.ExplainPodRequest, caller: Caller
    ) -> pb.ExplainPodResponse:
        if not request.name:
            raise _invalid("name", "is empty, must be the name of a pod")
        namespace = _name("namespace", request.namespace or "default")
        name = _name("name", request.name)
        await caller.check_sees(namespace)

        def answer(core: Core) -> pb.ExplainPodResponse:
            answers = Answers(self.clock)
            decisions = core.explain_pod(namespace, name)
            return pb.ExplainPodResponse(decisions=[answers.decision(item) for item in decisions])

        return await self.core.read(answer)

    async def watch_markets(
        self, request: pb.WatchMarketsRequest, context: Context, caller: Caller
    ) -> None:
        """Sends the markets that match, then each one again after it changed.

        A market that no longer matches is sent once more, so that the caller sees it.
        """
        _check_filter(request.filter)
        watcher = Watcher(nodes=frozenset(request.filter.nodes))
        self.watchers.add(watcher)
        self.metrics.watchers.set(len(self.watchers))
        try:
            await begin(context)
            watcher.tell(set(await self._names(request.filter)), set())
            await self._watch(watcher, request, context, caller)
        finally:
            self.watchers.discard(watcher)
            self.metrics.watchers.set(len(self.watchers))

    async def _watch(
        self,
        watcher: Watcher,
        request: pb.WatchMarketsRequest,
        context: Context,
        caller: Caller,
    ) -> None:
        shown: set[str] = set()
        first = True
        while True:
            changed, removed = watcher.take()
            response = pb.WatchMarketsResponse(removed_nodes=removed)
            bytes_left = ANSWER_MAX_BYTES
            async for market in self._markets(
                changed, request.filter, include_containers=request.include_containers, also=shown
            ):
                await _hide(market, caller)
                (shown.add if _matches(market, request.filter) else shown.discard)(market.node)
                bytes_left -= market.ByteSize()
                if response.markets and bytes_left < 0:
                    await self._send(response, context)
                    response, bytes_left = pb.WatchMarketsResponse(), ANSWER_MAX_BYTES
                response.markets.append(market)
            shown -= set(removed)
            if first or response.markets or response.removed_nodes:
                await self._send(response, context)
            first = False
            await watcher.woken.wait()
            if watcher.ending is not None:
                raise watcher.ending.again()

    async def _send(self, response: pb.WatchMarketsResponse, context: Context) -> None:
        stall_seconds = self.settings.write_stall_seconds
        try:
            async with asyncio.timeout(stall_seconds):
                await context.write(response.SerializeToString())
        except TimeoutError as error:
            self.metrics.watchers_dropped.inc()
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"nothing was read for {stall_seconds:g} s: read faster, or watch fewer nodes, "
                "then start again",
            ) from error

    async def _names(self, wanted: pb.MarketFilter) -> list[str]:
        names = await self.core.read(lambda core: core.node_names())
        if not wanted.nodes:
            return names
        only = set(wanted.nodes)
        return [name for name in names if name in only]

    async def _markets(
        self,
        names: list[str],
        wanted: pb.MarketFilter,
        *,
        include_containers: bool,
        also: AbstractSet[str] = frozenset(),
    ) -> AsyncIterator[pb.NodeMarket]:
        """Yields the markets that match, and those of `also` whether they match or not."""
        left = iter(names)

        def read_some(core: Core) -> list[pb.NodeMarket]:
            """Returns what could be read in a slice of time; nothing at the end."""
            answers = Answers(self.clock)
            breaths = Breaths(self.clock)
            begin_seconds = self.clock.now_seconds()
            markets = []
            for name in left:
                breaths.take()
                with suppress(UnknownNodeError):  # It may have gone since the names were read.
                    view = core.market_view(name, include_containers=include_containers)
                    market = answers.market(view)
                    if name in also or _matches(market, wanted):
                        markets.append(market)
                if self.clock.now_seconds() - begin_seconds > SLICE_SECONDS:
                    break
            return markets

        while length_hint(left):
            for market in await self.core.read(read_some):
                yield market


async def _hide(market: pb.NodeMarket, caller: Caller) -> None:
    """Leaves out, and counts, the containers that a caller may not know of."""
    namespaces = {container.namespace for container in market.containers}
    seen = await caller.seen(namespaces)
    if seen == namespaces:
        return
    shown = [container for container in market.containers if container.namespace in seen]
    market.hidden_containers = len(market.containers) - len(shown)
    del market.containers[:]
    market.containers.extend(shown)


def _check_filter(wanted: pb.MarketFilter) -> None:
    if len(wanted.nodes) > FILTER_NODES_MAX:
        raise _invalid(
            "filter.nodes",
            f"has {len(wanted.nodes)} entries, must have at most {FILTER_NODES_MAX}",
        )
    for index, node in enumerate(wanted.nodes):
        if not node:
            raise _invalid(f"filter.nodes[{index}]", "is empty, must be the name of a node")
        _name(f"filter.nodes[{index}]", node)


def _name(field: str, value: str) -> str:
    if len(value) > NAME_MAX:
        raise _invalid(field, f"has {len(value)} characters, must have at most {NAME_MAX}")
    return value


def _matches(market: pb.NodeMarket, wanted: pb.MarketFilter) -> bool:
    if not wanted.rationed:
        return True
    return max(market.reservation.price.shadow_price, market.ceiling.price.shadow_price) > 0


def _make_token(after: str, request: pb.ListMarketsRequest) -> str:
    content = json.dumps([after, _digest(after, request)])
    return base64.urlsafe_b64encode(content.encode()).decode()


def _read_token(token: str, request: pb.ListMarketsRequest) -> str:
    """Returns the name after which the page begins."""
    try:
        after, digest = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, RecursionError, binascii.Error):
        after, digest = None, None
    if not isinstance(after, str) or digest != _digest(after, request):
        raise _invalid(
            "page_token", "was not given out by this server for this filter; start with none"
        )
    return after


def _digest(after: str, request: pb.ListMarketsRequest) -> str:
    question = request.filter.SerializeToString(deterministic=True)
    content = [after.encode("utf-8", "surrogatepass"), question, b"%d" % request.include_containers]
    return hashlib.blake2s(b"\0".join(content), digest_size=8, person=b"mbcaspag").hexdigest()


def _invalid(field: str, reason: str) -> InvalidInputError:
    return InvalidInputError([FieldError(field, reason)])
