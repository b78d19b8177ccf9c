"""The service Operator, without Kubernetes: what is said reaches the core."""

from pathlib import Path

import grpc
import pytest

from mbcas.v1 import operator_pb2 as pb
from mbcas.v1.operator_pb2_grpc import OperatorStub
from mbcas_core.effects import SendOrders
from mbcas_core.events import Event, ReleaseAsked, ReportArrived, TickDue, WritesFrozen
from tests.mbcas_server.fakes import FakeCore, Shim, eventually, order, report, server
from tests.mbcas_server.test_market_service import refusal
from tests.mbcas_server.test_node_link import violations_of


async def test_a_freeze_reaches_the_core_once_and_so_does_its_end() -> None:
    async with server() as world:
        stub = OperatorStub(world.channel)

        first = await stub.SetFrozen(pb.SetFrozenRequest(frozen=True))
        await eventually(lambda: world.core.of_type(WritesFrozen))
        again = await stub.SetFrozen(pb.SetFrozenRequest(frozen=True))
        thawed = await stub.SetFrozen(pb.SetFrozenRequest())
        await eventually(lambda: len(world.core.of_type(WritesFrozen)) > 1)

        assert [event.frozen for event in world.core.of_type(WritesFrozen)] == [True, False]
        assert [answer.was_frozen for answer in (first, again, thawed)] == [False, True, True]
        assert not first.outlives_restart


async def test_orders_that_the_core_gives_while_frozen_do_not_leave() -> None:
    core = FakeCore()

    def respond(event: Event) -> list[SendOrders]:
        return [SendOrders(node="node-a", orders=(order(),))] if type(event) is TickDue else []

    async with server(core) as world:
        await OperatorStub(world.channel).SetFrozen(pb.SetFrozenRequest(frozen=True))
        await eventually(lambda: core.of_type(WritesFrozen))
        shim = Shim(world.channel)
        await shim.send(report())
        await eventually(lambda: core.of_type(ReportArrived))
        core.respond = respond  # type: ignore[assignment] # Of what a core may return, this.
        dropped = world.running.metrics.orders_dropped
        await eventually(lambda: dropped._value.get() > 2)

        assert (await shim.read()).WhichOneof("body") == "settings"
        assert (await shim.read()).WhichOneof("body") == "heartbeat"


async def test_a_release_reaches_the_core_and_says_what_is_left() -> None:
    core = FakeCore()
    core.unreleased = 3
    async with server(core) as world:
        answer = await OperatorStub(world.channel).Release(
            pb.ReleaseRequest(namespace="shop", pod="web", hold_seconds=60)
        )
        await eventually(lambda: core.of_type(ReleaseAsked))

    assert (answer.containers, answer.remaining, answer.frozen) == (5, 3, False)
    event = core.of_type(ReleaseAsked)[0]
    assert (event.namespace, event.pod, event.hold_seconds) == ("shop", "web", 60.0)


async def test_a_release_without_a_hold_holds_ten_minutes() -> None:
    async with server() as world:
        await OperatorStub(world.channel).Release(pb.ReleaseRequest())
        await eventually(lambda: world.core.of_type(ReleaseAsked))

        assert world.core.of_type(ReleaseAsked)[0].hold_seconds == 600


@pytest.mark.parametrize(
    ("request_message", "field"),
    [
        (pb.ReleaseRequest(pod="web"), "namespace"),
        (pb.ReleaseRequest(hold_seconds=-1), "hold_seconds"),
        (pb.ReleaseRequest(hold_seconds=86_401), "hold_seconds"),
        (pb.ReleaseRequest(namespace="n" * 254), "namespace"),
        (pb.ReleaseRequest(namespace="n", pod="p" * 254), "pod"),
    ],
)
async def test_a_release_names_the_field_that_it_refuses(
    request_message: pb.ReleaseRequest, field: str
) -> None:
    async with server() as world:
        error = await refusal(OperatorStub(world.channel).Release(request_message))

        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field in violations_of(error)
        assert not world.core.of_type(ReleaseAsked)


async def test_where_a_token_is_asked_for_operators_need_it_too(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    async with server(token_file=path) as world:
        stub = OperatorStub(world.channel)
        error = await refusal(stub.SetFrozen(pb.SetFrozenRequest(frozen=True)))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED

        metadata = (("authorization", "Bearer s3cret"),)
        await stub.SetFrozen(pb.SetFrozenRequest(frozen=True), metadata=metadata)

        # A new token counts from the next call on.
        path.write_text("an0ther\n")
        error = await refusal(stub.SetFrozen(pb.SetFrozenRequest(), metadata=metadata))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        path.write_text("")
        new = (("authorization", "Bearer an0ther"),)
        await stub.SetFrozen(pb.SetFrozenRequest(), metadata=new)
