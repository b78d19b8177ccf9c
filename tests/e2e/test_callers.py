"""Who may speak for a node, and which of two servers decides, with real tokens and a real Lease."""

import asyncio
import base64
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.e2e.cluster.cluster import NODE, Cluster, free_ports
from tests.e2e.conftest import MakePod, wait_until
from tests.mbcas_server.fakes import Shim, report

NAMESPACE = "e2e-callers"
CRDS = Path(__file__).parents[2] / "deploy" / "helm" / "mbcas" / "crds"
LEASE_SECONDS = 4


class Server:
    """A server as a process of this machine."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self.port, self.http_port = free_ports(2)
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mbcas_server",
                    "--kubernetes",
                    f"--kubeconfig={cluster.kubeconfig}",
                    f"--kubernetes-namespace={NAMESPACE}",
                    f"--shim-service-account={NAMESPACE}:default",
                    f"--listen-address=127.0.0.1:{self.port}",
                    f"--http-address=127.0.0.1:{self.http_port}",
                    f"--lease-seconds={LEASE_SECONDS}",
                    "--lease-renew-seconds=3",
                    "--lease-retry-seconds=0.5",
                ],
                stderr=log,
            )

    def readiness(self) -> int:
        """Returns what /readyz answers; 0 while nothing does."""
        try:
            url = f"http://127.0.0.1:{self.http_port}/readyz"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)

    def answer_to(self, token: str, node: str = NODE) -> str:
        """Lets a shim connect, and returns what it is told: a directive's kind, or a status."""

        async def connect() -> str:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
                shim = Shim(channel, authorization=f"Bearer {token}")
                await shim.send(report(node))
                try:
                    return str((await shim.read()).WhichOneof("body"))
                except grpc.aio.AioRpcError as error:
                    return error.code().name
                except AssertionError:  # The stream's end came as an end, its status beside it.
                    code = await shim.call.code()
                    return str(getattr(code, "name", code))

        return asyncio.run(connect())


StartServer = Callable[[str], Server]


@contextmanager
def servers(cluster: Cluster, folder: Path) -> Iterator[StartServer]:
    started: list[Server] = []

    def start(name: str) -> Server:
        started.append(Server(cluster, folder, name))
        return started[-1]

    try:
        yield start
    finally:
        for server in started:
            if server.process.poll() is None:
                server.end(signal.SIGKILL)


@pytest.fixture
def start(cluster: Cluster, tmp_path: Path) -> Iterator[StartServer]:
    cluster.kubectl("apply", "-f", str(CRDS))
    cluster.kubectl("delete", "lease", "mbcas", "-n", NAMESPACE, check=False)
    with servers(cluster, tmp_path) as start:
        yield start


def token_of(
    cluster: Cluster, pod: str = "", *, account: str = "default", to: str = "mbcas"
) -> str:
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}") if pod else ()
    asked = ("create", "token", account, "-n", NAMESPACE, f"--audience={to}", *bound)
    return cluster.kubectl(*asked).stdout.strip()


def signed_anew(cluster: Cluster, token: str, *, expires_seconds: float) -> str:
    """Returns the same token with another end, signed by the cluster's own key."""
    head, payload, _ = token.split(".")
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * 3))
    now = int(time.time())  # noqa: TID251 - the API server's clock is this machine's.
    claims |= {"iat": now - 7200, "nbf": now - 7200, "exp": now + int(expires_seconds)}
    key = serialization.load_pem_private_key((cluster.folder / "sa.key").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    body = f"{head}.{_encoded(json.dumps(claims).encode())}"
    return f"{body}.{_encoded(key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_only_a_token_of_a_shim_s_pod_on_the_node_speaks_for_it(
    cluster: Cluster, pod: MakePod, start: StartServer
) -> None:
    pod("shim", namespace=NAMESPACE)
    cluster.kubectl("create", "serviceaccount", "other", "-n", NAMESPACE, check=False)
    server = start("a")
    wait_until(lambda: server.readiness() == 200)
    good = token_of(cluster, "shim")

    answers = {
        "good": server.answer_to(good),
        "signed anew": server.answer_to(signed_anew(cluster, good, expires_seconds=600)),
        "expired": server.answer_to(signed_anew(cluster, good, expires_seconds=-60)),
        "other node": server.answer_to(good, "node-b"),
        "unbound": server.answer_to(token_of(cluster)),
        "other audience": server.answer_to(token_of(cluster, "shim", to="other")),
        "no shim": server.answer_to(token_of(cluster, account="other")),
        "made up": server.answer_to("made-up"),
    }

    assert answers == {
        "good": "settings",
        "signed anew": "settings",
        "expired": "UNAUTHENTICATED",
        "other node": "PERMISSION_DENIED",
        "unbound": "PERMISSION_DENIED",
        "other audience": "UNAUTHENTICATED",
        "no shim": "PERMISSION_DENIED",
        "made up": "UNAUTHENTICATED",
    }
    log = server.log.read_text()
    assert "caller refused" in log
    assert good not in log


def transitions_of(cluster: Cluster) -> int:
    asked = ("get", "lease", "mbcas", "-n", NAMESPACE, "-o", "jsonpath={.spec.leaseTransitions}")
    return int(cluster.kubectl(*asked).stdout)


def test_the_next_server_decides_when_one_dies_and_at_once_when_it_ends(
    cluster: Cluster, pod: MakePod, start: StartServer
) -> None:
    pod("shim", namespace=NAMESPACE)
    token = token_of(cluster, "shim")
    first = start("a")
    wait_until(lambda: first.readiness() == 200)
    at_first = transitions_of(cluster)
    second = start("b")
    wait_until(lambda: second.readiness() == 503)
    assert (first.answer_to(token), second.answer_to(token)) == ("settings", "UNAVAILABLE")

    first.end(signal.SIGKILL)
    assert second.readiness() == 503
    wait_until(lambda: second.readiness() == 200)
    assert second.answer_to(token) == "settings"

    third = start("c")
    wait_until(lambda: third.readiness() == 503)
    assert second.end() == 0
    wait_until(lambda: third.readiness() == 200, seconds=LEASE_SECONDS)
    assert transitions_of(cluster) == at_first + 2


def test_a_server_whose_lease_is_taken_ends(
    cluster: Cluster, pod: MakePod, start: StartServer
) -> None:
    pod("shim", namespace=NAMESPACE)
    server = start("a")
    wait_until(lambda: server.readiness() == 200)

    rival = '{"spec":{"holderIdentity":"rival","leaseTransitions":1}}'
    cluster.kubectl("patch", "lease", "mbcas", "-n", NAMESPACE, "--type=merge", "-p", rival)

    assert server.process.wait(30) == 3
