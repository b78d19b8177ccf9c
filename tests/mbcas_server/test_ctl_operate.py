"""`mbcasctl freeze`, `release` and `recommend`, run in this process as typer runs them."""

import asyncio
import json
import socket
from dataclasses import replace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from mbcas_core.effects import Reason
from mbcas_core.events import Mode, ReleaseAsked, WritesFrozen
from mbcas_server import ctl, ctl_operate
from mbcas_server.ctl_client import CtlError
from tests.mbcas_server.fakes import (
    FakeCore,
    Server,
    container_view,
    decision_view,
    eventually,
    market_view,
    server,
)


@pytest.fixture(autouse=True)
def _polls_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctl_operate, "POLL_SECONDS", 0.02)


async def ctl_of(world: Server, *arguments: str) -> Result:
    environment = {"MBCAS_SERVER": world.address}
    return await asyncio.to_thread(CliRunner().invoke, ctl.app, arguments, env=environment)


async def test_freeze_says_what_was_and_that_a_restart_forgets_it() -> None:
    async with server() as world:
        first = await ctl_of(world, "freeze")
        await eventually(lambda: world.core.of_type(WritesFrozen))
        again = await ctl_of(world, "freeze", "-o", "json")
        off = await ctl_of(world, "freeze", "--off")

    assert first.stdout.startswith("All writes are stopped.")
    assert "restarts: it forgets it then" in first.stdout
    told = {"frozen": True, "was_frozen": True, "outlives_restart": False}
    assert json.loads(again.stdout) == told
    assert off.stdout.startswith("Writes go on.")


@pytest.mark.parametrize(
    ("arguments", "namespace", "pod"),
    [
        (["--all"], "", ""),
        (["-n", "shop"], "shop", ""),
        (["shop/web"], "shop", "web"),
        (["web"], "default", "web"),
        (["web", "-n", "shop"], "shop", "web"),
    ],
)
async def test_release_asks_for_what_was_named(
    arguments: list[str], namespace: str, pod: str
) -> None:
    core = FakeCore()
    core.unreleased = 2
    async with server(core) as world:
        done = await ctl_of(world, "release", *arguments, "--hold", "30")
        await eventually(lambda: core.of_type(ReleaseAsked))

    event = core.of_type(ReleaseAsked)[0]
    assert (event.namespace, event.pod, event.hold_seconds) == (namespace, pod, 30.0)
    assert "2 of 5 containers still to be given back" in done.stdout


@pytest.mark.parametrize(
    "arguments", [[], ["web", "--all"], ["a/b/c"], ["a/"], ["shop/web", "-n", "bank"]]
)
async def test_release_wants_to_know_what_is_meant(arguments: list[str]) -> None:
    async with server() as world:
        done = await ctl_of(world, "release", *arguments)

    assert isinstance(done.exception, CtlError)
    assert not world.core.of_type(ReleaseAsked)


async def test_release_waits_until_nothing_is_left() -> None:
    core = FakeCore()
    core.unreleased = 2
    async with server(core) as world:
        waiting = asyncio.ensure_future(  # noqa: TID251 - one of two things at the same time.
            ctl_of(world, "release", "--all", "--wait")
        )
        await eventually(lambda: len(core.of_type(ReleaseAsked)) > 1)
        assert not waiting.done()
        core.unreleased = 0
        done = await waiting

    assert done.exit_code == 0
    assert "Given back what they were admitted with: 5 containers." in done.stdout


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


async def test_release_waits_for_a_server_that_is_just_restarting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(ctl_operate, "note", told.append)
    address = free_address()
    command = ("release", "--all", "--wait", "--server", address)
    waiting = asyncio.ensure_future(  # noqa: TID251 - one of two things at the same time.
        asyncio.to_thread(CliRunner().invoke, ctl.app, command)
    )
    await eventually(lambda: told)
    core = FakeCore()
    core.unreleased = 2
    async with server(core, listen_address=address):
        await eventually(lambda: len(core.of_type(ReleaseAsked)) > 2)
        core.unreleased = 0
        done = await waiting

    assert done.exit_code == 0
    assert told == [
        "The server cannot be reached: trying on, for 600 s in all.",
        "2 of 5 containers still to be given back what they were admitted with.",
    ]
    assert core.progress_reads > ctl_operate.STARTED_POLLS


async def test_release_says_that_the_server_cannot_be_reached_when_its_time_is_over() -> None:
    command = ("release", "--all", "--wait", "--timeout", "1", "--server", free_address())
    done = await asyncio.to_thread(CliRunner().invoke, ctl.app, command)

    assert "cannot reach the server" in str(done.exception)
    assert done.stderr.count("cannot be reached") == 1


async def test_release_gives_up_after_its_time() -> None:
    core = FakeCore()
    core.unreleased = 2
    async with server(core) as world:
        done = await ctl_of(world, "release", "--all", "--wait", "--timeout", "1")

    assert isinstance(done.exception, CtlError)
    assert "2 containers left after 1 s" in str(done.exception)


async def test_release_does_not_wait_for_what_is_frozen() -> None:
    core = FakeCore()
    core.unreleased = 2
    async with server(core) as world:
        await ctl_of(world, "freeze")
        done = await ctl_of(world, "release", "--all", "--wait")

    assert "mbcasctl freeze --off" in str(done.exception)


def core_with_rows() -> FakeCore:
    core = FakeCore()
    raised = container_view(applied=400)
    steady = replace(raised, container="steady")
    good = replace(steady.reservation, target_millicores=400)
    steady = replace(steady, reservation=good, ceiling=good)
    skipped = replace(raised, pod="static", skip_reason="it is a static pod", reason=Reason.SKIPPED)
    off = replace(raised, pod="quiet", mode=Mode.OFF)
    core.views["node-a"] = market_view("node-a", containers=[raised, steady, skipped, off])
    core.pods["default", "static"] = [decision_view(skipped)]
    return core


async def test_recommend_shows_what_would_be_set_and_why_nothing_would() -> None:
    async with server(core_with_rows()) as world:
        done = await ctl_of(world, "recommend")

    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "default/web/app node-a auto 400m → 450m 400m → 450m rationed" in lines
    assert "default/web/steady node-a auto 400m 400m rationed" in lines
    assert "default/static/app node-a auto 400m 400m it is a static pod" in lines
    assert any(line.startswith("default/quiet/app node-a off 400m 400m") for line in lines)


@pytest.mark.parametrize("output", ["json", "yaml"])
async def test_recommend_gives_programs_a_patch_that_fits_its_pod_alone(output: str) -> None:
    async with server(core_with_rows()) as world:
        done = await ctl_of(world, "recommend", "default/web", "-o", output)

    content: dict[str, Any] = yaml.safe_load(done.stdout)
    raised, steady = content["recommendations"]
    assert raised["patch"] == {
        "metadata": {"uid": "uid-web"},
        "spec": {
            "containers": [
                {
                    "name": "app",
                    "resources": {"requests": {"cpu": "450m"}, "limits": {"cpu": "450m"}},
                }
            ]
        },
    }
    start = "kubectl -n default patch pod web --subresource resize -p '"
    assert raised["command"].startswith(start)
    assert json.loads(raised["command"].removeprefix(start)[:-1]) == raised["patch"]
    assert (steady["patch"], steady["command"]) == (None, None)
    assert (raised["admitted_limit_millicores"], raised["current_limit_millicores"]) == (300, 400)


async def test_explain_tells_why_a_container_is_skipped() -> None:
    async with server(core_with_rows()) as world:
        done = await ctl_of(world, "explain", "static")

    assert "It cannot be resized: it is a static pod." in done.stdout


async def test_explain_tells_that_writes_are_stopped_whatever_the_reason_is() -> None:
    core = core_with_rows()
    async with server(core) as world:
        before = await ctl_of(world, "explain", "static")
        core.views = {node: replace(view, frozen=True) for node, view in core.views.items()}
        after = await ctl_of(world, "explain", "static")
        for_programs = await ctl_of(world, "explain", "static", "-o", "json")

    assert "All writes are stopped" not in before.stdout
    assert "All writes are stopped" in after.stdout
    assert "mbcasctl freeze --off" in after.stdout
    assert json.loads(for_programs.stdout)["frozen"] is True


async def test_a_token_may_be_given_in_three_ways_but_once() -> None:
    async with server() as world:
        done = await ctl_of(world, "markets", "--token", "a", "--token-file", "b")
        named = await ctl_of(world, "markets", "--token", "a", "-o", "yaml")

    assert "not both" in str(done.exception)
    assert yaml.safe_load(named.stdout) == {"markets": []}
