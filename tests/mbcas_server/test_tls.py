"""The server's certificate: who trusts it, whom it trusts, and what happens when it changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
import trustme

from mbcas.v1 import market_pb2 as pb
from mbcas.v1.market_pb2_grpc import MarketStub
from mbcas_server.metrics import Metrics
from mbcas_server.tls import TlsFiles, TlsFilesError, reloading_credentials
from tests.mbcas_server.fakes import Given, Server, Shim, report, server
from tests.mbcas_server.test_ctl import ctl

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def write(folder: Path, certificate: trustme.LeafCert) -> None:
    """Puts certificate and key where the server reads them."""
    chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
    (folder / "tls.crt").write_bytes(chain)
    (folder / "tls.key").write_bytes(certificate.private_key_pem.bytes())


@asynccontextmanager
async def secure(folder: Path, **fields: Given) -> AsyncIterator[Server]:
    """A server with the files of the folder."""
    async with server(tls_cert=folder / "tls.crt", tls_key=folder / "tls.key", **fields) as world:
        yield world


@asynccontextmanager
async def connected(
    world: Server, authority: trustme.CA, own: trustme.LeafCert | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own by somebody who trusts this authority."""
    credentials = grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(),
        own.private_key_pem.bytes() if own else None,
        own.cert_chain_pems[0].bytes() if own else None,
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    address = world.address.replace("127.0.0.1", "localhost")
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        yield channel


async def gets_through(
    world: Server, authority: trustme.CA, own: trustme.LeafCert | None = None
) -> bool:
    async with connected(world, authority, own) as channel:
        try:
            await MarketStub(channel).ListMarkets(pb.ListMarketsRequest(), timeout=10)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger() -> trustme.CA:
    return trustme.CA()


async def test_who_trusts_the_authority_gets_through_and_others_do_not(
    tmp_path: Path, authority: trustme.CA, stranger: trustme.CA
) -> None:
    write(tmp_path, authority.issue_cert("localhost"))

    async with secure(tmp_path) as world:
        assert await gets_through(world, authority)
        assert not await gets_through(world, stranger)


async def test_an_expired_certificate_gets_nobody_through(
    tmp_path: Path, authority: trustme.CA
) -> None:
    write(tmp_path, authority.issue_cert("localhost", not_after=LONG_AGO))

    async with secure(tmp_path) as world:
        assert not await gets_through(world, authority)


async def test_with_client_authorities_callers_need_a_certificate_of_theirs(
    tmp_path: Path, authority: trustme.CA, stranger: trustme.CA
) -> None:
    write(tmp_path, authority.issue_cert("localhost"))
    authorities = tmp_path / "clients.crt"
    authorities.write_bytes(authority.cert_pem.bytes())

    async with secure(tmp_path, tls_client_ca=authorities) as world:
        assert await gets_through(world, authority, authority.issue_cert("client"))
        assert not await gets_through(world, authority)
        assert not await gets_through(world, authority, stranger.issue_cert("client"))
        expired = authority.issue_cert("client", not_after=LONG_AGO)
        assert not await gets_through(world, authority, expired)

        # Other authorities from the next connection on.
        authorities.write_bytes(stranger.cert_pem.bytes())
        assert await gets_through(world, authority, stranger.issue_cert("client"))
        assert not await gets_through(world, authority, authority.issue_cert("client"))


async def test_a_new_certificate_is_shown_to_new_callers_and_old_streams_go_on(
    tmp_path: Path, authority: trustme.CA, stranger: trustme.CA
) -> None:
    write(tmp_path, authority.issue_cert("localhost"))

    async with secure(tmp_path) as world, connected(world, authority) as channel:
        shim = Shim(channel)
        await shim.send(report())
        await shim.read_until("settings")

        write(tmp_path, stranger.issue_cert("localhost"))

        assert await gets_through(world, stranger)
        assert not await gets_through(world, authority)
        await shim.send(report(sequence=2))
        await shim.read_until("heartbeat")
        reloads = world.running.metrics.certificate_reloads
        assert reloads.labels(result="taken")._value.get() == 1


async def test_half_a_change_changes_nothing_until_it_is_whole(
    tmp_path: Path, authority: trustme.CA, stranger: trustme.CA
) -> None:
    write(tmp_path, authority.issue_cert("localhost"))
    new = stranger.issue_cert("localhost")

    async with secure(tmp_path) as world:
        (tmp_path / "tls.crt").write_bytes(new.cert_chain_pems[0].bytes())
        assert await gets_through(world, authority)
        (tmp_path / "tls.key").unlink()
        assert await gets_through(world, authority)
        reloads = world.running.metrics.certificate_reloads
        assert reloads.labels(result="refused")._value.get() >= 1

        write(tmp_path, new)
        assert await gets_through(world, stranger)


@pytest.mark.parametrize("spoilt", ["tls.crt", "tls.key", "clients.crt"])
def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, authority: trustme.CA, spoilt: str
) -> None:
    write(tmp_path, authority.issue_cert("localhost"))
    (tmp_path / "clients.crt").write_bytes(authority.cert_pem.bytes())
    (tmp_path / spoilt).write_text("nonsense")
    files = TlsFiles(
        certificate=tmp_path / "tls.crt",
        key=tmp_path / "tls.key",
        client_authorities=tmp_path / "clients.crt",
    )

    with pytest.raises(TlsFilesError, match="tls_cert, tls_key or tls_client_ca"):
        reloading_credentials(files, Metrics())


async def test_mbcasctl_trusts_by_authority_and_name_and_shows_a_certificate(
    tmp_path: Path, authority: trustme.CA
) -> None:
    write(tmp_path, authority.issue_cert("mbcas-server.mbcas-system.svc"))
    ca, own = tmp_path / "ca.crt", authority.issue_cert("client")
    ca.write_bytes(authority.cert_pem.bytes())
    (tmp_path / "own.crt").write_bytes(own.cert_chain_pems[0].bytes())
    (tmp_path / "own.key").write_bytes(own.private_key_pem.bytes())
    name = ("--server-name", "mbcas-server.mbcas-system.svc")
    shown = ("--client-cert", str(tmp_path / "own.crt"), "--client-key", str(tmp_path / "own.key"))

    async with secure(tmp_path, tls_client_ca=ca) as world:
        asked = ("markets", "--server-ca", str(ca))
        async with asyncio.TaskGroup() as group:
            good = group.create_task(ctl(world, *asked, *name, *shown))
            other_name = group.create_task(ctl(world, *asked, *shown))

    assert good.result().returncode == 0, good.result().stderr
    assert other_name.result().returncode == 1
    assert "--server-name" in other_name.result().stderr
