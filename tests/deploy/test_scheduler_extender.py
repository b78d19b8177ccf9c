"""The scheduler extender between kube-scheduler's recorded questions and a real server."""

import asyncio
import json
import logging
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mbcas.v1 import market_pb2 as pb
from mbcas_extender.__main__ import DEFAULT_LISTEN, OptionError, parse, serving
from mbcas_extender.market import DEADLINE_SECONDS
from mbcas_extender.pod import MalformedError, PodBid, read_bid, read_cpu
from mbcas_extender.score import Answer, Crowded, Offer, find_failures, find_scores
from mbcas_extender.wire import read_question
from tests.deploy.markets import (
    BUSY,
    CALM,
    NEW,
    WAIT_SECONDS,
    ask,
    live,
    recorded,
    world,
)
from tests.tidy import repository

EXAMPLE = repository.ROOT / "deploy/examples/scheduler-extender"
FORMS = ["checkout-names", "checkout-nodes"]
"""The same question with nodeCacheCapable true and false."""


@pytest.mark.parametrize("form", FORMS)
async def test_the_node_where_allocate_gives_more_wins(form: str) -> None:
    nodes = {CALM: live(400), BUSY: live(900, 900, 900), NEW: live(1000, 1000)}
    async with world(nodes) as it:
        scores = (await it.post("/prioritize", recorded(form))).scores()

    assert list(scores) == [CALM, BUSY, NEW]
    assert scores[CALM] == 10
    assert scores[CALM] > scores[NEW] > scores[BUSY] > 0


async def test_where_both_nodes_give_all_the_one_that_others_suffer_less_on_wins() -> None:
    # A bid that needs no more than its floor gets all of it wherever floors fit.
    # On the most crowded node, one pod more makes the least difference to the shortage.
    nodes = {CALM: live(1600), BUSY: live(1600, 1600, 1600), NEW: live()}
    async with world(nodes) as it:
        scores = (await it.post("/prioritize", recorded("batch-names"))).scores()

    assert scores[NEW] == 10
    assert scores[NEW] > scores[CALM] > scores[BUSY]


def test_the_bid_is_that_of_the_pod_once_it_runs() -> None:
    pod = read_bid(read_question(recorded("checkout-names")).pod)

    # app 300m + cache 100m + sidecar 50m + overhead 50m; the init container's 2 cores are over.
    assert pod.bid.floor_millicores == 500
    assert pod.bid.need_millicores == 900
    assert pod.bid.cap_millicores == 1000 + 300 + 200 + 50
    assert pod.bid.weight == 500 * 1.5
    assert pod.min_acceptable_millicores == 300


def test_a_pod_without_limit_has_the_default_cap_and_its_request_as_need() -> None:
    bid = read_bid(read_question(recorded("batch-names")).pod).bid

    assert (bid.need_millicores, bid.floor_millicores, bid.cap_millicores) == (250, 250, 0)
    assert bid.weight == 250.0


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"min-cpu": "100m"}, (250, 100, 0)),
        ({"max-cpu": "200m"}, (250, 200, 200)),
        ({"min-cpu": "2"}, (250, 250, 0)),
        ({"max-cpu": "0"}, (250, 250, 0)),
    ],
)
def test_min_and_max_of_the_annotations_shape_the_bid(
    annotations: dict[str, str], expected: tuple[int, int, int]
) -> None:
    pod = json.loads(recorded("batch-names"))["Pod"]
    pod["metadata"]["annotations"] = {f"mbcas.io/{k}": text for k, text in annotations.items()}

    bid = read_bid(pod).bid

    assert (bid.need_millicores, bid.floor_millicores, bid.cap_millicores) == expected


def test_what_is_declared_for_the_whole_pod_wins_over_its_containers() -> None:
    pod = json.loads(recorded("checkout-names"))["Pod"]
    pod["spec"]["resources"] = {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}

    bid = read_bid(pod).bid

    assert (bid.floor_millicores, bid.cap_millicores) == (2050, 3050)


@pytest.mark.parametrize(
    ("text", "millicores"),
    [
        *(("500m", 500), ("0.5", 500), (".5", 500), ("2", 2000), (2, 2000), ("1k", 10**6)),
        *(("100u", 1), ("1n", 1), ("0", 0), ("15e-1", 1500), ("2e3", 2_000_000)),
    ],
)
def test_cpu_is_read_as_kubernetes_writes_it(text: object, millicores: int) -> None:
    assert read_cpu(text, "cpu") == millicores


@pytest.mark.parametrize("text", ["", "1E", "1 m", "-1", "1mm", "1e", "Infinity", True, None, [1]])
def test_what_is_no_cpu_is_refused(text: object) -> None:
    with pytest.raises(MalformedError, match="cpu: is"):
        read_cpu(text, "cpu")


def test_scores_are_those_of_the_readme_s_example() -> None:
    bid = pb.Bid(id="pod", need_millicores=800, floor_millicores=500, weight=500)
    pod = PodBid(bid=bid, min_acceptable_millicores=0, refusals=())
    offers: dict[str, Answer] = {
        "a": offer(800, shortage_before=0.0, shortage=0.0),
        "b": offer(650, shortage_before=0.2, shortage=0.4),
        "c": Crowded(reason="floors need 2000m, the capacity is 1600m"),
        "unknown": None,
    }

    scores = find_scores(pod, offers)

    assert scores == {"a": 10, "b": 6, "c": 0, "unknown": 5}
    readme = (EXAMPLE / "README.md").read_text()
    assert "0.2 before, 0.4 with it" in readme
    assert set(find_failures(pod, offers)) == {"c"}


def offer(got: int, *, shortage_before: float, shortage: float) -> Offer:
    return Offer(
        allocation_millicores=got,
        rationed=shortage > 0,
        shortage_before=shortage_before,
        shortage=shortage,
    )


async def test_a_question_costs_one_call_for_each_candidate() -> None:
    async with world({CALM: live(), BUSY: live(), NEW: live()}) as it:
        await it.post("/prioritize", recorded("checkout-nodes"))
        metrics = await it.metrics()

    assert 'mbcas_extender_allocate_total{result="answered"} 3.0' in metrics


@pytest.mark.parametrize("form", FORMS)
async def test_a_filter_leaves_out_nodes_that_cannot_give_what_is_owed_or_acceptable(
    form: str,
) -> None:
    # On one node floors do not fit; on another the pod would get its floor of 500m and a twelfth
    # of the surplus, and accepts no less than 700m.
    nodes = {CALM: live(100), BUSY: live(1500, floors=(1500,)), NEW: live(*[1000] * 60)}
    body = recorded(form).replace(b'min-acceptable-cpu":"300m"', b'min-acceptable-cpu":"700m"')
    async with world(nodes) as it:
        result = (await it.post("/filter", body)).json()
        scores = (await it.post("/prioritize", body)).scores()

    failed = result["FailedAndUnresolvableNodes"]
    assert set(failed) == {BUSY, NEW}
    assert "700m" in failed[NEW]
    assert result["FailedNodes"] == {}, "kube-scheduler evicts to make room on these"
    if form == "checkout-names":
        assert result["NodeNames"] == [CALM]
        assert result["Nodes"] is None
    else:
        sent = json.loads(body)["Nodes"]["items"]
        assert result["Nodes"]["items"] == [sent[0]]
        assert result["NodeNames"] is None
    assert scores == {CALM: 10, BUSY: 0, NEW: 0}


async def test_an_unknown_node_gets_the_mean_of_the_known_and_stays_in_the_filter() -> None:
    async with world({CALM: live(), BUSY: live(1600, 1600)}) as it:
        scores = (await it.post("/prioritize", recorded("checkout-names"))).scores()
        kept = (await it.post("/filter", recorded("checkout-names"))).json()["NodeNames"]
        metrics = await it.metrics()

    assert scores == {CALM: 10, BUSY: 4, NEW: 7}
    assert NEW in kept
    assert 'mbcas_extender_allocate_total{result="unknown-node"} 2.0' in metrics


@pytest.mark.parametrize("form", FORMS)
async def test_a_server_that_cannot_be_reached_leaves_every_node_equal(
    form: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world({}, address="127.0.0.1:1") as it:
        replies = [await it.post("/prioritize", recorded(form)) for _ in range(3)]
        kept = await it.post("/filter", recorded(form))
        metrics = await it.metrics()

    assert [reply.status for reply in replies] == [200] * 3
    assert all(set(reply.scores().values()) == {5} for reply in replies)
    assert kept.json()["FailedAndUnresolvableNodes"] == {}
    assert 'mbcas_extender_allocate_total{result="unreachable"} 12.0' in metrics
    lines = [line for line in caplog.messages if "unreachable" in line]
    assert len(lines) == 1, "one line a minute, however many questions"


async def test_a_server_that_is_slow_leaves_every_node_equal() -> None:
    # The kernel takes connections for it, and nobody ever answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with world({}, "--deadline-seconds", "0.05", address=address) as it:
            reply = await it.post("/prioritize", recorded("checkout-names"))
            metrics = await it.metrics()

    assert set(reply.scores().values()) == {5}
    assert 'mbcas_extender_allocate_total{result="slow"} 3.0' in metrics


async def test_candidates_beyond_the_bound_are_not_asked_about() -> None:
    async with world({CALM: live(), BUSY: live()}, "--calls-max", "1") as it:
        scores = (await it.post("/prioritize", recorded("checkout-names"))).scores()
        metrics = await it.metrics()

    assert scores == {CALM: 10, BUSY: 10, NEW: 10}
    assert 'mbcas_extender_allocate_total{result="answered"} 1.0' in metrics
    assert 'mbcas_extender_allocate_total{result="skipped"} 2.0' in metrics


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"7" * 5000, "not JSON"),
        (b'{"Pod":{},"NodeNames":[],"x":NaN}', "NaN"),
        (b"[]", "object with Pod"),
        (b'{"NodeNames":["a"]}', "Pod: must be an object"),
        (b'{"Pod":{}}', "NodeNames or Nodes"),
        (b'{"Pod":{},"NodeNames":"a"}', "NodeNames: must be a list"),
        (b'{"Pod":{},"NodeNames":["a",5]}', "NodeNames[1]"),
        (b'{"Pod":{},"NodeNames":[""]}', "NodeNames[0]"),
        (b'{"Pod":{},"NodeNames":["\\ud800"]}', "NodeNames[0]"),
        (b'{"Pod":{},"Nodes":[]}', "Nodes: must be an object"),
        (b'{"Pod":{},"Nodes":{"items":[{"metadata":{}}]}}', "Nodes.items[0].metadata.name"),
        (b'{"Pod":{"spec":5},"NodeNames":[]}', "Pod.spec: must be an object"),
        (b'{"Pod":{"spec":{"containers":{}}},"NodeNames":[]}', "Pod.spec.containers"),
        (
            b'{"Pod":{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}},"NodeNames":[]}',
            "Pod.spec.containers[0].resources.limits.cpu: is 'x'",
        ),
        (b'{"Pod":{"spec":{"overhead":{"cpu":"-1"}}},"NodeNames":[]}', "Pod.spec.overhead.cpu"),
        (b'{"Pod":{"spec":{"overhead":{"cpu":"9E"}}},"NodeNames":[]}', "at most"),
    ],
)
def test_a_malformed_body_is_refused_with_the_field_and_the_reason(body: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(words)):
        read_bid(read_question(body).pod)


async def test_a_refused_body_is_a_bad_request() -> None:
    async with world({}) as it:
        replies = [await it.post(path, b'{"Pod":{}}') for path in ("/prioritize", "/filter")]
        elsewhere = await it.post("/bind", b"{}")
        metrics = await it.metrics()

    assert [reply.status for reply in replies] == [400, 400]
    assert all(b"NodeNames or Nodes" in reply.body for reply in replies)
    assert elsewhere.status == 404
    assert 'mbcas_extender_requests_total{code="400",verb="filter"} 1.0' in metrics


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (b"2000000", b"nodeCacheCapable"),
        (b"00002000000", b"nodeCacheCapable"),
        (b"0" * 20 + b"99999999999", b"must say its Content-Length"),
        (b"9" * 5000, b"must say its Content-Length"),
        (b"-1", b"must say its Content-Length"),
    ],
)
async def test_a_body_that_is_too_large_is_refused_before_it_is_read(
    length: bytes, words: bytes
) -> None:
    async with world({}, "--body-max-mib", "1") as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(b"POST /prioritize HTTP/1.0\r\nContent-Length: " + length + b"\r\n\r\n")
        async with asyncio.timeout(WAIT_SECONDS):
            answer = await reader.read()
        writer.close()

    assert b" 413 " in answer or b" 400 " in answer
    assert words in answer


async def test_a_connection_too_many_is_closed_until_another_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mbcas_extender.web.CONNECTIONS_MAX", 1)
    async with world({}) as it:
        _, idle = await asyncio.open_connection("127.0.0.1", it.port)
        surplus, writer = await asyncio.open_connection("127.0.0.1", it.port)
        async with asyncio.timeout(WAIT_SECONDS):
            assert await surplus.read() == b""
        writer.close()
        idle.close()
        await eventually_answers(it.port)


async def eventually_answers(port: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                assert (await ask(port, "/healthz")).status == 200
            except OSError:
                await asyncio.sleep(0.01)
            else:
                return


async def test_field_names_are_read_in_any_case() -> None:
    body = recorded("batch-names").replace(b'"NodeNames"', b'"nodenames"')
    body = body.replace(b'"Pod"', b'"pod"').replace(b'"Nodes"', b'"nodes"')
    async with world({CALM: live()}) as it:
        assert (await it.post("/prioritize", body)).scores()[CALM] == 10


async def test_an_annotation_that_cannot_be_used_is_left_out_and_counted() -> None:
    body = recorded("checkout-names").replace(b'"900m"', b'"a lot"')
    body = body.replace(b'"critical"', b'"urgent"')
    async with world({CALM: live()}) as it:
        reply = await it.post("/prioritize", body)
        metrics = await it.metrics()
    bid = read_bid(read_question(body).pod).bid

    assert reply.status == 200
    assert (bid.need_millicores, bid.weight) == (500, 500.0)
    assert "mbcas_extender_annotations_refused_total 2.0" in metrics


async def test_a_token_is_shown_as_it_stands_in_the_file_now(tmp_path: Path) -> None:
    right, shown = tmp_path / "right", tmp_path / "shown"
    right.write_text("s3cret\n")
    shown.write_text("outdated\n")
    async with world({CALM: live()}, "--token-file", str(shown), token_file=right) as it:
        before = (await it.post("/prioritize", recorded("batch-names"))).scores()
        shown.write_text("s3cret\n")
        after = (await it.post("/prioritize", recorded("batch-names"))).scores()
        shown.unlink()
        without = (await it.post("/prioritize", recorded("batch-names"))).scores()

    assert [scores[CALM] for scores in (before, after, without)] == [5, 10, 5]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen-address", "7481"], "--listen-address"),
        (["--listen-address", "0.0.0.0:7481"], "--https-cert"),
        (["--server", "mbcas.example:7443"], "--tls-ca"),
        (["--token-file", "/nowhere/token"], "--token-file"),
        (["--https-cert", "/nowhere/cert"], "--https-key"),
        (["--https-cert", "/nowhere/cert", "--https-key", "/nowhere/key"], "cannot be used"),
        (["--deadline-seconds", "0"], "--deadline-seconds"),
        (["--calls-max", "0"], "--calls-max"),
    ],
)
async def test_an_option_that_cannot_be_used_is_named(options: list[str], words: str) -> None:
    with pytest.raises(OptionError, match=re.escape(words)):
        async with serving(parse(["--listen-address", "127.0.0.1:0", *options])):
            pass


async def test_the_program_answers_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with world({CALM: live()}) as it:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mbcas_extender", "--listen-address", f"127.0.0.1:{port}"),
            *("--server", it.mbcas.address, "--deadline-seconds", "10"),
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(EXAMPLE)},
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                assert b"ready" in await process.stderr.readline()
                reply = await ask(port, "/prioritize", recorded("batch-names"))
        finally:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(WAIT_SECONDS):
                await process.communicate()

    assert reply.scores()[CALM] == 10
    assert process.returncode == 0


def test_the_sample_configuration_is_that_of_this_extender() -> None:
    configuration = yaml.safe_load((EXAMPLE / "scheduler-config.yaml").read_text())
    extender = configuration["extenders"][0]

    assert extender["urlPrefix"] == f"http://{DEFAULT_LISTEN}"
    assert extender["prioritizeVerb"] == "prioritize"
    assert extender["ignorable"] is True
    assert "filterVerb" not in extender, "scores only, until somebody wants more"
    assert float(extender["httpTimeout"].removesuffix("s")) > DEADLINE_SECONDS


def test_the_deployment_gives_options_that_there_are(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    documents = list(yaml.safe_load_all((EXAMPLE / "deployment.yaml").read_text()))
    deployment: dict[str, Any] = next(d for d in documents if d["kind"] == "Deployment")
    containers = deployment["spec"]["template"]["spec"]["containers"]
    arguments = next(c["args"] for c in containers if c["name"] == "extender")

    options = parse(arguments)

    assert options.listen_address == DEFAULT_LISTEN
