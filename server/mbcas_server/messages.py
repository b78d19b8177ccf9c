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


def has_more_than(limit: int, message: bytes, *, field_number: int) -> bool:
    """Returns whether a repeated message field has more entries than this, without parsing them.

    An empty entry takes two bytes on the wire and a hundred in memory: what is too much is better
    refused before it is parsed. Bytes that are no message have no entries from there on.
    """
    tag = field_number << 3 | 2  # As on the wire, see protobuf's guide to its encoding.
    if message.count(tag) <= limit:  # Each entry begins with it.
        return False
    count, position = 0, 0
    try:
        while position < len(message) and count <= limit:
            found, position = _varint(message, position)
            match found & 7:
                case 0:  # A varint.
                    _, position = _varint(message, position)
                case 1:  # Eight bytes.
                    position += 8
                case 2:  # A length and as many bytes.
                    length, position = _varint(message, position)
                    position += length
                    count += found == tag
                case 5:  # Four bytes.
                    position += 4
                case _:
                    return False
    except IndexError:
        return False
    return count > limit


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Returns the number that begins here, and where the next thing does."""
    value = 0
    for shift in range(0, 64, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows.
            return value, position
    raise IndexError("longer than any number")
