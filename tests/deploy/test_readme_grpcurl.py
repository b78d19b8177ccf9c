"""README's questions to the market run as they stand there, with the real grpcurl."""

import asyncio
import contextlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from mbcas.v1 import market_pb2 as pb
from mbcas.v1.market_pb2_grpc import MarketStub
from tests.e2e.cluster import programs
from tests.mbcas_server.fakes import Shim, report
from tests.tidy import repository

WAIT_SECONDS = 120.0
"""For one step, on a machine that has other things to do."""
BUILT = programs.tool_path("grpcurl")
GRPCURL = shutil.which("grpcurl") or (str(BUILT) if BUILT.is_file() else None)
ADDRESS = "127.0.0.1:7443"


def commands() -> list[str]:
    """The lines of README's section, each command whole."""
    section = repository.read(Path("README.md")).split("## Ask the market")[1].split("\n## ")[0]
    block = re.search(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert block is not None
    lines = [line for line in block[1].splitlines() if not line.startswith("#")]
    return ["grpcurl" + rest for rest in "\n".join(lines).split("grpcurl")[1:]]


def test_the_section_asks_what_it_is_there_to_show() -> None:
    asked = "\n".join(commands())

    assert asked.count(ADDRESS) == len(commands()) == 5
    assert all(words in asked for words in (" list", "Allocate", "rationed", "WatchMarkets"))


@pytest.mark.skipif(
    GRPCURL is None, reason="there is no grpcurl: `.venv/bin/poe grpcurl` builds it, with Go"
)
async def test_the_lines_of_the_readme_run_as_written() -> None:
    listing, given, on_node, rationed, watch = commands()
    async with server_process() as address, node(address):
        services = await run(listing, address)
        shared = json.loads(await run(given, address))
        beside = json.loads(await run(on_node, address))
        short = json.loads(await run(rationed, address))
        first = await first_message(watch, address)

    assert "mbcas.v1.Market" in services.split()
    got = {item["id"]: item["allocation_millicores"] for item in shared["allocations"]}
    assert got == {"api": "700", "batch": "450", "cron": "50"}
    assert [item["id"] for item in beside["allocations"]] == ["new"]
    assert "price_before" in beside
    assert short == {}, "one container on an idle node is not short"
    assert [market["node"] for market in first["markets"]] == [platform.node()]


@asynccontextmanager
async def server_process() -> AsyncIterator[str]:
    """Runs mbcas-server on a free port of this machine and yields where."""
    arguments = ["--listen-address", "127.0.0.1:0", "--http-address", ""]
    # The shortest round: a node has a market after its first one.
    arguments += ["--round-period-seconds", "1"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mbcas_server", *arguments), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                line = (await process.stderr.readline()).decode()
                assert line, "the server ended"
                if found := re.search(r"ready listen_address=(\S+)", line):
                    break
        yield found[1]
    finally:
        process.terminate()
        async with asyncio.timeout(WAIT_SECONDS):
            await process.communicate()


@asynccontextmanager
async def node(address: str) -> AsyncIterator[None]:
    """Reports this machine as a node, as a shim here would, and waits until it has a market."""
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(WAIT_SECONDS):
        shim = Shim(channel)
        await shim.send(report(platform.node()))
        stub = MarketStub(channel)
        while True:
            try:
                await stub.Allocate(pb.AllocateRequest(node=platform.node()))
                break
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                await asyncio.sleep(0.05)
        yield
        shim.call.cancel()


async def start(command: str, address: str) -> asyncio.subprocess.Process:
    assert GRPCURL is not None
    # A machine under load is slower than the reader of a README.
    script = re.sub(r"-max-time \d+", f"-max-time {WAIT_SECONDS:g}", command)
    path = f"{Path(GRPCURL).parent}{os.pathsep}{os.environ['PATH']}"
    return await asyncio.create_subprocess_exec(
        *("sh", "-c", f"exec {script.replace(ADDRESS, address)}"),
        env=os.environ | {"PATH": path},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def run(command: str, address: str) -> str:
    process = await start(command, address)
    async with asyncio.timeout(WAIT_SECONDS):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def first_message(command: str, address: str) -> Any:  # noqa: ANN401 - as JSON has it.
    """Reads the first message of a stream and hangs up."""
    process = await start(command, address)
    assert process.stdout is not None
    lines: Sequence[str] = []
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not lines or not lines[-1].startswith("}"):
                line = (await process.stdout.readline()).decode()
                assert line, "".join(lines)
                lines = [*lines, line]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(WAIT_SECONDS):
            await process.communicate()
    return json.loads("".join(lines))
