"""Metrics and the HTTP server."""

import asyncio
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from mbcas_server.core_thread import CoreThread
from mbcas_server.market_metrics import MarketMetrics
from mbcas_server.metrics import Metrics
from tests.mbcas_server.fakes import (
    FakeCore,
    Inline,
    Server,
    VirtualClock,
    container_view,
    decision_view,
    market_view,
    server,
)

TABLE = Path(__file__).parents[2] / "deploy" / "README.md"


def core_with_containers(count: int) -> FakeCore:
    core = FakeCore()
    rows = [container_view(pod=f"pod-{number:03}") for number in range(count)]
    core.views["node-a"] = market_view("node-a", shadow_price=2.5, containers=rows)
    core.pods = {(row.namespace, row.pod): [decision_view(row)] for row in rows}
    return core


async def fetch(world: Server, path: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        url = f"http://{world.running.http_address}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)


def shown_name(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


async def test_the_operator_s_table_names_exactly_the_metrics_there_are() -> None:
    gathered = await MarketMetrics(
        CoreThread(FakeCore(), Inline()), VirtualClock(), containers_max=1
    ).gather()
    families = [*Metrics().registry.collect(), *gathered]
    names = {shown_name(family) for family in families if family.name.startswith("mbcas_")}
    types = {shown_name(family): family.type for family in families}

    listed = re.findall(r"^\| `(mbcas_\w+)` \| (\w+) \|", TABLE.read_text(), re.MULTILINE)

    assert sorted(names) == [name for name, _ in listed]
    assert all(types[name] == kind for name, kind in listed)


async def test_a_scrape_shows_markets_and_containers() -> None:
    async with server(core_with_containers(1), http_address="127.0.0.1:0") as world:
        status, body = await fetch(world, "/metrics")

        families = {family.name: family for family in text_string_to_metric_families(body)}
        prices = {
            sample.labels["good"]: sample.value for sample in families["mbcas_shadow_price"].samples
        }
        assert status == 200
        assert prices == {"reservation": 2.5, "ceiling": 0.0}
        (predicted,) = families["mbcas_predicted_usage_milli"].samples
        assert (predicted.labels["pod"], predicted.value) == ("pod-000", 400.0)
        (steady,) = families["mbcas_workload_classification"].samples
        assert (steady.labels["class"], steady.value) == ("steady", 1)


@pytest.mark.parametrize(("limit", "rows"), [(3, 3), (0, 0), (10, 5)])
async def test_rows_of_containers_are_capped(limit: int, rows: int) -> None:
    thread = CoreThread(core_with_containers(5), Inline())
    metrics = MarketMetrics(thread, VirtualClock(), containers_max=limit)

    families = {family.name: family for family in await metrics.gather()}

    assert len(families["mbcas_effective_weight"].samples) == rows
    assert len(families["mbcas_shadow_price"].samples) == 2


async def test_pods_of_one_name_on_two_nodes_have_one_series_each() -> None:
    core = FakeCore()
    row = container_view(pod="twin")
    nodes = ("node-a", "node-b")
    core.views = {node: market_view(node, containers=[row]) for node in nodes}
    twins = [decision_view(row, node=node) for node in nodes]
    core.pods = {(row.namespace, row.pod): twins}
    thread = CoreThread(core, Inline())
    families = await MarketMetrics(thread, VirtualClock(), containers_max=9).gather()
    (weights,) = [family for family in families if family.name == "mbcas_effective_weight"]
    assert [sample.labels["node"] for sample in weights.samples] == ["node-a", "node-b"]


async def test_health_is_ok_while_ticks_are_completed_and_other_paths_are_not_found() -> None:
    async with server(http_address="127.0.0.1:0") as world:
        assert await fetch(world, "/healthz") == (200, "ok\n")
        assert (await fetch(world, "/nothing"))[0] == 404


async def test_health_turns_bad_when_no_tick_is_completed() -> None:
    # The period is so long that the first tick never comes, and nothing brings it forward.
    async with server(
        http_address="127.0.0.1:0", tick_period_seconds=10, tick_spacing_seconds=10
    ) as world:
        world.running.driver.last_tick_seconds -= 1_000

        status, body = await fetch(world, "/healthz")

        assert status == 503
        assert "no tick" in body
