"""A real server whose nodes are few numbers, and kube-scheduler's recorded questions.

`recorded/` holds what the HTTP extender client of kube-scheduler v1.35.4 sent, byte for byte: a pod
with sidecar, init container and overhead, once with names of nodes and once with whole nodes, and
a plain pod.
"""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbcas_core.market.allocate import LiveMarket
from mbcas_extender.__main__ import parse, serving
from tests.mbcas_server.fakes import FakeCore, Server, eventually, server

CALM, BUSY, NEW = "node-calm", "node-busy", "node-new"
"""The candidates of the recorded questions."""
RECORDED = Path(__file__).parent / "recorded"
WAIT_SECONDS = 30.0


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.json").read_bytes()


class MarketCore(FakeCore):
    """Its nodes hold the bids that they are given."""

    def __init__(self, nodes: Mapping[str, LiveMarket]) -> None:
        super().__init__()
        self.nodes = dict(nodes)

    def node_names(self) -> list[str]:
        return sorted(self.nodes)

    def live_markets(self) -> dict[str, LiveMarket]:
        return dict(self.nodes)


def live(*needs: int, floors: tuple[int, ...] = (), capacity: int = 1600) -> LiveMarket:
    """A node of this capacity with pods of these needs, each of weight 100."""
    return LiveMarket(
        need_millicores=np.array(needs, dtype=np.int64),
        floor_millicores=np.array(floors or [0] * len(needs), dtype=np.int64),
        weight=np.full(len(needs), 100.0),
        available_millicores=capacity,
        reserve_millicores=0,
        quantum_millicores=10,
        default_cap_millicores=capacity * 3 // 4,
    )


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - as JSON has it.
        return json.loads(self.body)

    def scores(self) -> dict[str, int]:
        return {item["Host"]: item["Score"] for item in self.json()}


@dataclass(frozen=True, slots=True)
class World:
    mbcas: Server
    port: int

    async def post(self, path: str, body: bytes) -> Reply:
        return await ask(self.port, path, body)

    async def metrics(self) -> str:
        return (await ask(self.port, "/metrics")).body.decode()


@asynccontextmanager
async def world(
    nodes: Mapping[str, LiveMarket],
    *options: str,
    address: str = "",
    token_file: Path | None = None,
) -> AsyncIterator[World]:
    """A server, and an extender that asks it, or another address."""
    core = MarketCore(nodes)
    async with server(core, token_file=token_file) as mbcas:
        await eventually(lambda: core.tick_count > 0)
        arguments = ["--listen-address", "127.0.0.1:0", "--server", address or mbcas.address]
        # A busy machine must not make an answer late; a test of lateness gives its own.
        arguments += ["--deadline-seconds", "10", *options]
        async with serving(parse(arguments)) as port:
            yield World(mbcas=mbcas, port=port)


async def ask(port: int, path: str, body: bytes | None = None) -> Reply:
    return await asyncio.to_thread(_ask, f"http://127.0.0.1:{port}{path}", body)


def _ask(url: str, body: bytes | None) -> Reply:
    request = urllib.request.Request(url, data=body)  # noqa: S310 - a loopback address of ours.
    try:
        # Loopback, as above.
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:  # noqa: S310 - as above.
            return Reply(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.read())
