import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from mbcas_shim.errors import ConfigurationError
from mbcas_shim.kube import api as kube_api
from mbcas_shim.kube.api import (
    Answer,
    Cause,
    KubeApi,
    KubeApiAddress,
    KubeApiAnswerError,
    KubeApiError,
    KubeApiRefusedError,
    KubeApiUnreachableError,
    find_api,
)
from tests.kube.fake_cluster import FakeCluster
from tests.kube.fake_kube import FakeKube
from tests.kube.requests import Fault
from tests.kube.shapes import BURSTABLE, single

IN_A_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
HANG_SECONDS = 20.0  # Only a bound for a test that would never end.
NODES = "/api/v1/nodes"


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as running:
        yield running


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("admin\n")
    return path


@pytest.fixture
def api(cluster: FakeCluster, token_file: Path) -> Iterator[KubeApi]:
    with contextlib.closing(
        KubeApi(KubeApiAddress(url=cluster.server, token_file=token_file))
    ) as it:
        yield it


@contextlib.contextmanager
def answering(*parts: bytes, stays: bool = False) -> Iterator[KubeApi]:
    """A server that says to its one caller what it is told to, whatever is asked."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                for part in parts:
                    connection.sendall(part)
                if stays:
                    done.wait(HANG_SECONDS)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        try:
            with contextlib.closing(KubeApi(KubeApiAddress(url=f"http://127.0.0.1:{port}"))) as api:
                yield api
        finally:
            done.set()
            thread.join()


def plain(body: bytes, *, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status, more, len(body))
    return head + body


def test_an_object_comes_over_one_connection_however_often_it_is_asked_for(api: KubeApi) -> None:
    answers = [api.request("GET", NODES) for _ in range(5)]

    assert {answer.status for answer in answers} == {200}
    assert answers[0].body["items"][0]["metadata"]["name"] == "fake-node"
    assert api._pool.num_connections == 1


def test_a_refusal_is_an_answer_with_reason_and_causes(cluster: FakeCluster, api: KubeApi) -> None:
    kube = FakeKube(cluster)
    kube.create_pod(single("web", BURSTABLE))
    body = {"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "1m"}}}]}}

    answer = api.request(
        "PATCH", f"{kube.pods}/web/resize", body=body, content_type=kube_api.STRATEGIC_MERGE
    )

    assert (answer.status, answer.reason) == (422, "Invalid")
    assert answer.causes[0].reason == "FieldValueInvalid"
    assert answer.causes[0].field.endswith("resources.requests")
    assert "cpu limit of 1m" in answer.message


def test_a_token_that_was_replaced_counts_at_the_next_call(api: KubeApi, token_file: Path) -> None:
    token_file.write_text("nobody")
    refused = api.request("GET", NODES).status
    token_file.write_text("admin")

    assert (refused, api.request("GET", NODES).status) == (401, 200)


def test_a_token_that_cannot_be_read_is_said_by_its_file(api: KubeApi, token_file: Path) -> None:
    token_file.unlink()

    with pytest.raises(KubeApiUnreachableError, match=str(token_file)):
        api.request("GET", NODES)


def test_nothing_is_repeated(cluster: FakeCluster, api: KubeApi) -> None:
    for code in (500, 503, 429, 0):
        cluster.fail(Fault(code=code, retry_after_seconds=1))
        with contextlib.suppress(KubeApiUnreachableError):
            assert api.request("GET", NODES).status == code

    assert len(cluster.api.requests) == 4


def test_a_busy_server_says_for_how_long(cluster: FakeCluster, api: KubeApi) -> None:
    cluster.fail(Fault(code=429, retry_after_seconds=7))

    assert api.request("GET", NODES).retry_after_seconds == 7


@pytest.mark.parametrize(
    ("header", "seconds"), [("-1", None), ("soon", None), ("9" * 30, 3600.0), ("0", 0.0)]
)
def test_a_retry_after_that_makes_no_sense_is_none_and_a_huge_one_is_cut(
    header: str, seconds: float | None
) -> None:
    more = f"Retry-After: {header}\r\n".encode()
    with answering(plain(b"{}", status=b"429 Too Many Requests", more=more)) as api:
        assert api.request("GET", "/").retry_after_seconds == seconds


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"[" * 100_000])
def test_an_answer_that_is_no_object_is_an_error(body: bytes) -> None:
    with answering(plain(body)) as api, pytest.raises(KubeApiAnswerError, match="no JSON"):
        api.request("GET", "/")


def test_a_refusal_that_is_no_object_is_taken_as_it_is() -> None:
    with answering(plain(b"<html>bad gateway", status=b"502 Bad Gateway")) as api:
        answer = api.request("GET", "/")

    assert (answer.status, answer.message, answer.causes) == (502, "<html>bad gateway", [])


def test_a_status_of_other_types_has_no_reason_and_no_causes() -> None:
    odd = Answer(403, {"reason": 1, "details": {"causes": [3, {"reason": [], "field": "f"}]}})

    assert (odd.reason, odd.message, odd.causes) == ("", "", [Cause("", "f")])


def test_an_answer_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_api, "MAX_BODY_BYTES", 10)
    with answering(plain(b'{"a": "bcdef"}')) as api, pytest.raises(KubeApiAnswerError, match="10"):
        api.request("GET", "/")


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_an_answer_that_breaks_off_is_no_answer(part: bytes) -> None:
    with answering(part) as api, pytest.raises(KubeApiUnreachableError):
        api.request("GET", "/")


def test_a_slow_answer_is_not_waited_for() -> None:
    with answering(stays=True) as api, pytest.raises(KubeApiUnreachableError, match="timed out"):
        api.request("GET", "/", timeout_seconds=0.05)


def test_a_redirect_is_not_followed() -> None:
    moved = plain(b"", status=b"302 Found", more=b"Location: http://127.0.0.1:1/\r\n")
    with answering(moved) as api, pytest.raises(KubeApiAnswerError):
        api.request("GET", "/")


def test_a_watch_tells_what_happens_until_another_thread_closes_it(
    cluster: FakeCluster, api: KubeApi
) -> None:
    events = api.stream("/api/v1/pods", {"watch": "1"})
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.extend(each["type"] for each in events))
    thread.start()
    FakeKube(cluster).create_pod(single("web", BURSTABLE))
    events.close()
    thread.join(HANG_SECONDS)
    events.close()

    assert not thread.is_alive()
    assert seen[0] == "ADDED"


def test_a_watch_that_the_server_ends_just_ends(cluster: FakeCluster, api: KubeApi) -> None:
    events = api.stream("/api/v1/pods", {"watch": "1"})
    cluster.close_watches()

    assert list(events) == []


def test_a_watch_that_is_refused_says_why(api: KubeApi) -> None:
    with pytest.raises(KubeApiRefusedError, match="404") as caught:
        api.stream("/api/v1/nowhere", {"watch": "1"})

    assert caught.value.answer.status == 404


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text)


def test_objects_of_a_watch_may_come_in_pieces() -> None:
    parts = (b'{"a": 1}\n{"b"', b": 2}", b"\n\n", b'{"c": 3}\n')
    with answering(CHUNKED, *map(chunk, parts), chunk(b"")) as api:
        assert list(api.stream("/", {})) == [{"a": 1}, {"b": 2}, {"c": 3}]


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ((chunk(b"{}\n"),), KubeApiUnreachableError),
        ((b"zz\r\n",), KubeApiUnreachableError),
        ((chunk(b"nonsense\n"),), KubeApiAnswerError),
        ((chunk(b" " * 100),), KubeApiAnswerError),
    ],
)
def test_a_watch_that_breaks_or_talks_nonsense_is_an_error(
    parts: tuple[bytes, ...], error: type[KubeApiError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_api, "MAX_EVENT_BYTES", 50)
    with answering(CHUNKED, *parts) as api, pytest.raises(error):
        list(api.stream("/", {}))


def test_a_watch_that_is_silent_for_too_long_is_broken() -> None:
    with answering(CHUNKED, stays=True) as api:
        events = api.stream("/", {}, silence_seconds=0.05)
        with pytest.raises(KubeApiUnreachableError, match="timed out"):
            next(events)


def make_tls(folder: Path, authority: trustme.CA, name: str) -> tuple[Path, Path]:
    certificate = authority.issue_cert(name)
    paths = folder / "cert.pem", folder / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(str(paths[0]))
    certificate.private_key_pem.write_to_path(str(paths[1]))
    return paths


def test_a_server_is_trusted_by_its_authority_alone(tmp_path: Path, token_file: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    ca_file = tmp_path / "ca.pem"
    stranger.cert_pem.write_to_path(str(ca_file))
    with FakeCluster(tls=make_tls(tmp_path, authority, "127.0.0.1")) as cluster:
        address = KubeApiAddress(url=cluster.server, ca_file=ca_file, token_file=token_file)
        with contextlib.closing(KubeApi(address)) as api:
            with pytest.raises(KubeApiUnreachableError, match=r"checked against .*ca\.pem"):
                api.request("GET", NODES)
            asked = len(cluster.api.requests)
            authority.cert_pem.write_to_path(str(ca_file))

            assert api.request("GET", NODES).status == 200
            assert asked == 0


def test_a_pod_finds_the_api_server_by_its_environment(tmp_path: Path) -> None:
    found = find_api(IN_A_POD, account=tmp_path)
    six = find_api({**IN_A_POD, "KUBERNETES_SERVICE_HOST": "fd00::1"}, account=tmp_path)

    assert found == KubeApiAddress(
        url="https://10.0.0.1:443", ca_file=tmp_path / "ca.crt", token_file=tmp_path / "token"
    )
    assert six.url == "https://[fd00::1]:443"


@pytest.mark.parametrize(
    ("find", "words"),
    [
        (lambda: find_api({}), "give --kube-api"),
        (lambda: find_api({}, url="10.0.0.1:6443"), "write https://HOST:PORT"),
        (lambda: find_api({}, url="https://host:port"), "is no URL"),
        (lambda: find_api({}, url="http://10.0.0.1:8080"), "unencrypted; use https"),
    ],
)
def test_an_address_that_cannot_be_used_is_an_error_with_the_remedy(
    find: Callable[[], KubeApiAddress], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        find()
