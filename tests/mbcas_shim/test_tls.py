import asyncio
import contextlib
import datetime as dt
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import trustme

from mbcas.v1 import node_link_pb2_grpc as rpc
from mbcas_shim.app import App
from mbcas_shim.errors import ConfigurationError
from mbcas_shim.settings import Settings
from mbcas_shim.tls import channel_credentials
from tests.mbcas_shim.fake_link import HANG_SECONDS, FakeLink
from tests.mbcas_shim.fakes import VirtualClock, make_v1

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
LONG_AGO_TOO = dt.datetime(2020, 2, 1, tzinfo=dt.UTC)
FAR_AHEAD = dt.datetime(2150, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Bench:
    """A shim whose server is reached over TCP."""

    folder: Path
    link: FakeLink
    authority: trustme.CA

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @contextlib.asynccontextmanager
    async def served(self, certificate: trustme.LeafCert | None) -> AsyncIterator[str]:
        """Serves with a certificate, or in plain text; yields the address."""
        server = grpc.aio.server()
        rpc.add_NodeLinkServicer_to_server(self.link, server)
        if certificate is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
            pair = (certificate.private_key_pem.bytes(), chain)
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(grace=None)

    @contextlib.asynccontextmanager
    async def running(self, address: str, **more: object) -> AsyncIterator[App]:
        containers = self.folder / "containers.yaml"
        containers.write_text("containers: []\n")
        make_v1(self.folder / "tree")
        (self.folder / "token").write_text("secret\n")
        settings = Settings.model_validate(
            {
                "containers_file": containers,
                "cgroup_root": self.folder / "tree",
                "server_address": address,
                "server_ca": self.ca_file,
                "token_file": self.folder / "token",
                **more,
            }
        )
        stop = asyncio.Event()
        app = App(settings, clock=VirtualClock(), uniform=lambda: 0.5, nonce=7)
        async with asyncio.TaskGroup() as group:
            group.create_task(app.serve(stop))
            yield app
            stop.set()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return Bench(tmp_path, FakeLink(), authority)


async def stream_ended(app: App) -> None:
    """Waits until a connection came to nothing, which real TLS brings about in its own time."""
    async with asyncio.timeout(HANG_SECONDS):
        while not app.counters.value("stream_ended"):  # noqa: ASYNC110  # Counters tell nobody.
            await asyncio.sleep(0.001)


async def test_a_token_travels_to_a_server_that_the_authority_vouches_for(bench: Bench) -> None:
    certificate = bench.authority.issue_cert("127.0.0.1")
    async with bench.served(certificate) as address, bench.running(address):
        await bench.link.next_report()

    assert bench.link.metadata[0]["authorization"] == "Bearer secret"


async def test_a_certificate_may_be_for_the_name_that_is_given(bench: Bench) -> None:
    certificate = bench.authority.issue_cert("mbcas-server.mbcas.svc")
    name = "mbcas-server.mbcas.svc"
    async with bench.served(certificate) as address, bench.running(address, server_name=name):
        report = await bench.link.next_report()

    assert report.full_inventory


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ("expired", "expired; renew it"),
        ("not yet valid", "is this node's clock right"),
        ("name", "it must be for 127.0.0.1, or give the name it is for with --server-name"),
        ("authority", "--server-ca .*/ca.pem must hold the authority that signed it"),
        ("plain text", "does not speak TLS"),
    ],
)
async def test_a_certificate_that_is_refused_gets_no_token_and_the_log_says_what_to_do(
    wrong: str, remedy: str, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    issue = bench.authority.issue_cert
    certificates = {
        "expired": issue("127.0.0.1", not_before=LONG_AGO, not_after=LONG_AGO_TOO),
        "not yet valid": issue(
            "127.0.0.1", not_before=FAR_AHEAD, not_after=FAR_AHEAD.replace(2151)
        ),
        "name": issue("example.org"),
        "authority": trustme.CA().issue_cert("127.0.0.1"),
        "plain text": None,
    }
    async with bench.served(certificates[wrong]) as address, bench.running(address) as app:
        await stream_ended(app)

    assert not bench.link.metadata
    assert any(re.search(remedy, record.message) for record in caplog.records)


async def test_a_renewed_authority_counts_from_the_next_connection_on(bench: Bench) -> None:
    renewed = trustme.CA()
    certificate = renewed.issue_cert("127.0.0.1")
    async with bench.served(certificate) as address, bench.running(address) as app:
        await stream_ended(app)
        renewed.cert_pem.write_to_path(str(bench.ca_file))
        clock = app._clock
        assert isinstance(clock, VirtualClock)
        async with asyncio.timeout(HANG_SECONDS):
            while bench.link.reports.empty():
                await clock.advance(0.5)
                await asyncio.sleep(0.01)

    assert len(bench.link.metadata) == 1


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff"])
def test_a_file_without_a_certificate_is_an_error_with_its_name(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"server_ca: .*ca\.pem cannot be used"):
        channel_credentials(path)
