"""Calls to an API server that does not do its part."""

import asyncio

import pytest
from kubernetes.aio.client import Configuration

from mbcas_server.kube.client import UNREACHABLE, ApiError, KubeClient


async def test_a_watch_whose_connection_is_dead_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbcas_server.kube.client.CALL_SECONDS", 0.1)
    over = asyncio.Event()

    async def begin_and_fall_silent(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await over.wait()
        writer.close()

    server = await asyncio.start_server(begin_and_fall_silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = KubeClient(Configuration(host=f"http://127.0.0.1:{port}"))

    with pytest.raises(ApiError) as caught:
        await asyncio.wait_for(read_all(client), 10.0)

    over.set()
    await client.close()
    server.close()
    assert caught.value.code == UNREACHABLE
    assert "stands still" in str(caught.value)


async def read_all(client: KubeClient) -> None:
    watch = client.watch("/api/v1/nodes", resource_version="1", timeout_seconds=0.1)
    async with watch as events:
        async for _ in events:
            pass
