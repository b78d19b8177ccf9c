"""`mbcasctl` against a running server."""

import asyncio
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mbcas.v1 import market_pb2 as pb
from mbcas_server.ctl_show import TIMES, markets_view, percent, to_plain, word
from tests.mbcas_server.fakes import (
    FakeCore,
    Given,
    Server,
    container_view,
    decision_view,
    market_view,
    server,
)


def core() -> FakeCore:
    core = FakeCore()
    rows = [container_view(), container_view(pod="batch")]
    core.views["node-a"] = market_view("node-a", shadow_price=2.5, containers=rows)
    core.pods[("default", "web")] = [decision_view(rows[0])]
    return core


async def ctl(world: Server | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    environment["MBCAS_SERVER"] = "127.0.0.1:1" if world is None else world.address
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mbcas_server.ctl",
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), timeout=60)
    return subprocess.CompletedProcess(
        arguments, process.returncode or 0, out.decode(), err.decode()
    )


async def test_each_command_prints_a_table_for_people() -> None:
    async with server(core()) as world:
        top = await ctl(world, "top", "--once")
        markets = await ctl(world, "markets")
        explained = await ctl(world, "explain", "web")

    assert [done.returncode for done in (top, markets, explained)] == [0, 0, 0]
    assert "default/web/app" in top.stdout
    assert "400m → 450m" in top.stdout
    assert "rationed" in top.stdout
    assert "reservation" in markets.stdout
    assert "2.5 (short 20 %)" in markets.stdout
    # The arithmetic, with its numbers: floor + weight x level.
    assert f"300m + 300 {TIMES} 0.5m = 450m" in explained.stdout
    assert "Raised to a target that scarcity keeps below its need." in explained.stdout


async def test_each_command_prints_json_for_programs(tmp_path: Path) -> None:
    path = tmp_path / "bids.yaml"
    path.write_text("bids: [{id: a, need: 900m, weight: 1}, {id: b, need: 1, weight: 1}]")
    async with server(core()) as world:
        top = await ctl(world, "top", "--once", "-o", "json")
        explained = await ctl(world, "explain", "default/web", "-o", "json")
        allocated = await ctl(world, "allocate", "-f", str(path), "--capacity", "1", "-o", "json")

    row = json.loads(top.stdout)["markets"][0]["containers"][0]
    assert row["reservation"]["applied_millicores"] == 400
    assert row["reservation"]["allocated_millicores"] is None
    assert row["reason"] == "REASON_RATIONED"
    assert json.loads(explained.stdout)["decisions"][0]["node"] == "node-a"
    amounts = [
        item["allocation_millicores"] for item in json.loads(allocated.stdout)["allocations"]
    ]
    assert amounts == [500, 500]


async def test_an_unknown_pod_brings_the_names_that_are_near() -> None:
    async with server(core()) as world:
        done = await ctl(world, "explain", "wbe")

    assert done.returncode == 2
    assert "no pod default/wbe" in done.stderr
    assert "default/web" in done.stderr


async def test_a_server_that_cannot_be_reached_says_what_to_do() -> None:
    done = await ctl(None, "markets")

    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "--server" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_refused_bid_is_told_by_its_field(tmp_path: Path) -> None:
    path = tmp_path / "bids.yaml"
    path.write_text("bids: [{id: a, need: 900m, weight: 0}]")
    async with server(core()) as world:
        done = await ctl(world, "allocate", "-f", str(path), "--capacity", "1")

    assert done.returncode == 2
    assert "bids[0].weight" in done.stderr


async def test_a_missing_token_says_which_option_gives_one(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    async with server(core(), token_file=path) as world:
        without = await ctl(world, "markets")
        with_token = await ctl(world, "markets", "--token-file", str(path))

    assert without.returncode == 1
    assert "--token-file" in without.stderr
    assert with_token.returncode == 0


def test_absent_is_null_and_zero_is_zero() -> None:
    plain = to_plain(pb.ContainerGood(need_millicores=0))

    assert plain["need_millicores"] == 0
    assert plain["target_millicores"] is None


@pytest.mark.parametrize(
    ("enum", "number", "expected"),
    [(pb.Reason, 12, "waiting supply"), (pb.PriorityClass, 1, "critical"), (pb.Reason, 99, "99")],
)
def test_enums_are_written_as_words(enum: Given, number: int, expected: str) -> None:
    assert word(enum, number) == expected


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.0, "0 %"), (0.004, "0.4 %"), (0.25, "25 %"), (1.0, "100 %")]
)
def test_small_shares_keep_a_digit(ratio: float, expected: str) -> None:
    assert percent(ratio) == expected


def test_ceilings_that_admitted_limits_use_up_are_said_in_words() -> None:
    market = pb.NodeMarket(node="node-a", live=True)
    market.ceiling.exhausted_by_admitted_limits = True
    console = Console(width=200, file=io.StringIO())

    with console.capture() as capture:
        console.print(markets_view([market]))

    reservation, ceiling = capture.get().splitlines()[1:3]
    assert "ceilings exhausted by admitted limits" in ceiling
    assert "exhausted" not in reservation
