"""Errors, as gRPC statuses: one table, used at the boundary of every rpc."""

import asyncio
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

# Its stubs are there, but the package does not declare them.
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from mbcas_core.errors import (
    FieldError,
    FloorsExceedCapacityError,
    InvalidInputError,
    MbcasError,
    UnknownNodeError,
    UnknownPodError,
)

DOMAIN = "mbcas.io"
MESSAGE_MAX = 1_000  # Trailers have a limit of 8 kB, and the details repeat the message.
CODES: dict[type[MbcasError], grpc.StatusCode] = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    FieldError: grpc.StatusCode.INVALID_ARGUMENT,
    FloorsExceedCapacityError: grpc.StatusCode.FAILED_PRECONDITION,
    UnknownNodeError: grpc.StatusCode.NOT_FOUND,
    UnknownPodError: grpc.StatusCode.NOT_FOUND,
}
VIOLATIONS_MAX = 10
ABORT_SECONDS = 1.0

Context = grpc.aio.ServicerContext[Any, Any]


class RefusedError(Exception):
    """A call that ends with a status of its own.

    Attributes:
        code: The status code.
        reason: For programs, in ErrorInfo; empty for none.
    """

    def __init__(self, code: grpc.StatusCode, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason

    def again(self) -> "RefusedError":
        """Returns one like it: an error that many calls raised would keep all their traces."""
        return RefusedError(self.code, str(self), reason=self.reason)


class NotReadError(Exception):
    """The status was given, but the caller does not read it; there is nothing left to do."""


async def begin(context: Context) -> None:
    """Opens the answers of a stream that may be refused while one of them is being written.

    gRPC sends the initial metadata with the first write, and again with the status if that write
    was cut short; then the caller gets neither.
    """
    await context.send_initial_metadata(())


async def refuse(context: Context, error: MbcasError | RefusedError) -> NoReturn:
    """Ends the call with the status that belongs to an error."""
    match error:
        case RefusedError():
            details = [_info(error.reason)] if error.reason else []
            await abort(context, error.code, str(error), details)
        case _:
            code = CODES.get(type(error), grpc.StatusCode.INTERNAL)
            await abort(context, code, str(error), _violations(error))


async def abort(
    context: Context,
    code: grpc.StatusCode,
    message: str,
    details: list[AnyMessage] | None = None,
) -> NoReturn:
    """Ends the call with a status and its details, as `google.rpc.Status` has them."""
    message = message if len(message) <= MESSAGE_MAX else message[: MESSAGE_MAX - 1] + "…"
    number, _ = code.value
    status = status_pb2.Status(code=number, message=message, details=details or [])
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    try:
        async with asyncio.timeout(ABORT_SECONDS):
            await context.abort(code, message, trailers)
    except TimeoutError:
        # It waits for the caller in the transport.
        raise NotReadError(message) from None
    raise AssertionError("abort raises")


def _violations(error: MbcasError) -> list[AnyMessage]:
    match error:
        case InvalidInputError():
            errors = error.errors
        case FieldError():
            errors = [error]
        case _:
            return []
    request = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=item.field[:200], description=item.reason[:200]
            )
            for item in errors[:VIOLATIONS_MAX]
        ]
    )
    return [_packed(request)]


def _info(reason: str) -> AnyMessage:
    return _packed(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
