"""Refusals and credits as operators see them: metrics, tables, the explanation."""

import asyncio
import urllib.request
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, RenderableType

from mbcas.v1 import market_pb2 as pb
from mbcas_core.views import ContainerView
from mbcas_server.answers import Answers
from mbcas_server.ctl_explain import explain_view
from mbcas_server.ctl_show import markets_view, top_view
from tests.mbcas_server.fakes import (
    FakeCore,
    VirtualClock,
    container_view,
    decision_view,
    market_view,
    server,
)


def picky_view(*, refused: bool = True, purse: int | None = None) -> ContainerView:
    return replace(
        container_view(pod="picky"),
        min_acceptable_millicores=600,
        refused=refused,
        compliance_level=0.75 if refused else 1.0,
        credits=purse,
    )


def market(*, refusing: int) -> pb.NodeMarket:
    view = replace(
        market_view("node-a", containers=[picky_view(refused=refusing > 0)]),
        refusing_pods=refusing,
    )
    return Answers(VirtualClock()).market(view)


def decision(row: ContainerView, *, moved: int = 0) -> pb.Decision:
    view = decision_view(row)
    view = replace(view, reservation=replace(view.reservation, credit_millicores=moved))
    return Answers(VirtualClock()).decision(view)


def printed(view: RenderableType) -> str:
    console = Console(width=400, color_system=None)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


async def test_a_scrape_counts_refusals_and_shows_compliance_where_it_was_declared() -> None:
    core = FakeCore()
    rows = [picky_view(), container_view(pod="modest")]
    core.views["node-a"] = replace(market_view("node-a", containers=rows), refusing_pods=1)
    core.pods = {(row.namespace, row.pod): [decision_view(row)] for row in rows}
    core.counters["refusals"] = 4

    async with server(core, http_address="127.0.0.1:0") as world:
        url = f"http://{world.running.http_address}/metrics"
        body = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read())

    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    (level,) = families["mbcas_compliance_level"].samples
    assert (level.labels["pod"], level.value) == ("picky", 0.75)
    (refusing,) = families["mbcas_refusing_pods"].samples
    assert (refusing.labels, refusing.value) == ({"node": "node-a"}, 1)
    (count,) = families["mbcas_refusals"].samples
    assert (count.name, count.value) == ("mbcas_refusals_total", 4)


def test_tables_say_that_a_pod_refuses_where_one_does() -> None:
    assert "rationed, refuses" in printed(top_view([market(refusing=1)]))
    assert "1 pod refuses its share" in printed(top_view([market(refusing=1)]))
    assert "live, 2 pods refuse their shares" in printed(markets_view([market(refusing=2)]))
    for view in (top_view([market(refusing=0)]), markets_view([market(refusing=0)])):
        assert "refuse" not in printed(view)


def test_the_explanation_says_what_the_pod_says() -> None:
    refusing = printed(explain_view(decision(picky_view())))
    content = printed(explain_view(decision(picky_view(refused=False, purse=70), moved=30)))
    giving = printed(explain_view(decision(picky_view(refused=False, purse=130), moved=-30)))
    silent = printed(explain_view(decision(container_view())))

    assert "Its pod refuses: it gets less than the 600m declared acceptable" in refusing
    assert "Its pod declared 600m acceptable: it has that, or all it needs." in content
    assert "Its pod paid 30 credits for 30m." in content
    assert "30m of it for credits" in content
    assert "after giving 30m for credits" in giving
    assert "Its pod was paid 30 credits for 30m." in giving
    assert "Its pod has 130 credits." in giving
    assert "Consent" not in silent
