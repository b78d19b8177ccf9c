"""Messages from outside, parsed by us and not by gRPC, which would answer INTERNAL."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from mbcas_core.errors import FieldError, InvalidInputError

Request = TypeVar("Request", bound=Message)


def parse(request_type: type[Request], message: bytes) -> Request:
    """Parses a message.

    Raises:
        InvalidInputError: The bytes are none.
    """
    try:
        return request_type.FromString(message)
    except (DecodeError, RecursionError) as error:
        reason = f"is no {request_type.DESCRIPTOR.name}: {error}"
        raise InvalidInputError([FieldError("request", reason)]) from error
