"""Pages and filters of ListMarkets, over real sockets."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from mbcas.v1 import market_pb2 as pb
from mbcas.v1.market_pb2_grpc import MarketStub
from tests.mbcas_server.fakes import FakeCore, container_view, market_view, server
from tests.mbcas_server.test_market_service import core_with, refusal
from tests.mbcas_server.test_node_link import violations_of


async def test_pages_hold_every_market_once() -> None:
    nodes = [f"node-{number:02}" for number in range(7)]
    async with server(core_with(*nodes)) as world:
        stub = MarketStub(world.channel)
        seen, token = [], ""

        while True:
            request = pb.ListMarketsRequest(page_size=3, page_token=token)
            page = await stub.ListMarkets(request)
            seen += [market.node for market in page.markets]
            token = page.next_page_token
            if not token:
                break

        assert seen == nodes


async def pages_of(
    stub: Any,  # noqa: ANN401 - its type does not say that it is asynchronous.
    change: Callable[[], None] = lambda: None,
    **fields: Any,  # noqa: ANN401 - fields of the message.
) -> list[list[str]]:
    """Reads page after page, with a change after the first; returns the nodes of each."""
    pages: list[list[str]] = []
    token = ""
    while token or not pages:
        page = await stub.ListMarkets(pb.ListMarketsRequest(page_token=token, **fields))
        pages.append([market.node for market in page.markets])
        token = page.next_page_token
        if len(pages) == 1:
            change()
    return pages


async def test_nodes_that_come_and_go_between_pages_shift_no_other() -> None:
    core = core_with(*(f"node-{number}" for number in range(1, 8)))

    def change() -> None:
        del core.views["node-2"]  # The page ended with it.
        del core.views["node-6"]
        core.views |= {node: market_view(node) for node in ("node-0", "node-45", "node-9")}

    async with server(core) as world:
        pages = await pages_of(MarketStub(world.channel), change, page_size=2)

    assert pages == [
        ["node-1", "node-2"],
        ["node-3", "node-4"],
        ["node-45", "node-5"],
        ["node-7", "node-9"],
    ]


async def test_pages_of_a_filter_are_full_and_end_where_nothing_more_matches() -> None:
    names = [f"node-{number}" for number in range(9)]
    core = core_with(*names, rationed=("node-1", "node-4", "node-5", "node-7"))
    wanted = pb.MarketFilter(rationed=True, nodes=[*names[:7], "node-7"])
    async with server(core) as world:
        stub = MarketStub(world.channel)

        pages = await pages_of(stub, page_size=3, filter=wanted)
        none = await pages_of(stub, page_size=1, filter=pb.MarketFilter(nodes=["elsewhere"]))

    assert pages == [["node-1", "node-4", "node-5"], ["node-7"]]
    assert none == [[]]


async def test_a_page_may_have_another_size_than_the_one_before_but_not_other_contents() -> None:
    async with server(core_with("a", "b", "c", "d")) as world:
        stub = MarketStub(world.channel)
        first = await stub.ListMarkets(pb.ListMarketsRequest(page_size=1))
        token = first.next_page_token

        second = await stub.ListMarkets(pb.ListMarketsRequest(page_size=2, page_token=token))
        request = pb.ListMarketsRequest(page_token=token, include_containers=True)
        error = await refusal(stub.ListMarkets(request))

    assert [market.node for market in second.markets] == ["b", "c"]
    assert list(violations_of(error)) == ["page_token"]


async def test_a_page_has_fifty_markets_unless_more_are_asked_for_and_a_thousand_at_most() -> None:
    async with server(core_with(*(f"node-{number:04}" for number in range(1_100)))) as world:
        stub = MarketStub(world.channel)

        plain = await stub.ListMarkets(pb.ListMarketsRequest())
        huge = await stub.ListMarkets(pb.ListMarketsRequest(page_size=2**31 - 1))

    assert (len(plain.markets), len(huge.markets)) == (50, 1_000)


async def test_a_filter_leaves_out_what_does_not_match() -> None:
    async with server(core_with("a", "b", "c", rationed=("b", "c"))) as world:
        wanted = pb.MarketFilter(nodes=["a", "b", "nowhere"], rationed=True)

        page = await MarketStub(world.channel).ListMarkets(pb.ListMarketsRequest(filter=wanted))

        assert [market.node for market in page.markets] == ["b"]


@pytest.mark.parametrize(
    "request_message",
    [
        pb.ListMarketsRequest(page_size=-1),
        *(
            pb.ListMarketsRequest(page_token=token)
            for token in ("bm9uc2Vuc2U=", "WyJhIiwgMV0=", "é", "W1tb")
        ),
        pb.ListMarketsRequest(filter=pb.MarketFilter(nodes=["x"] * 1001)),
        pb.ListMarketsRequest(filter=pb.MarketFilter(nodes=[""])),
    ],
)
async def test_an_unusable_page_request_is_an_invalid_argument(
    request_message: pb.ListMarketsRequest,
) -> None:
    async with server(core_with("a")) as world:
        error = await refusal(MarketStub(world.channel).ListMarkets(request_message))

        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_page_token_of_another_filter_is_refused() -> None:
    async with server(core_with("a", "b")) as world:
        stub = MarketStub(world.channel)
        page = await stub.ListMarkets(pb.ListMarketsRequest(page_size=1))

        request = pb.ListMarketsRequest(
            page_token=page.next_page_token, filter=pb.MarketFilter(rationed=True)
        )
        error = await refusal(stub.ListMarkets(request))

        assert list(violations_of(error)) == ["page_token"]


async def test_a_page_stays_small_enough_for_a_client() -> None:
    rows = [container_view(f"{'c' * 200}{number}") for number in range(4000)]
    core = FakeCore()
    core.views = {node: market_view(node, containers=rows) for node in ("a", "b", "c", "d", "e")}
    async with server(core) as world:
        stub = MarketStub(world.channel)

        page = await stub.ListMarkets(pb.ListMarketsRequest(include_containers=True))

        assert 1 <= len(page.markets) < 5
        assert page.next_page_token
