"""What the core was told and what it answered, as values that JSON can hold, and back.

A dataclass becomes an object with its fields, one of several kinds (`Event`, `Effect`) with its
name under "is"; an enumeration its value; an array its type, shape and bytes (base64). The way back
follows the types of the fields, trusts nothing, and names the field that is wrong.
"""

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Union, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from mbcas_core.effects import Effect
from mbcas_core.errors import FieldError, InvalidInputError
from mbcas_core.events import Event
from mbcas_core.parameters import Parameters

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
ARRAY_KINDS = "biufU"
"""Kinds of arrays that are taken: truth values, numbers and text, and no objects."""
KIND = "is"
FORMAT, VERSION = "mbcas-recording", 1
"""Of files of such lines: see `mbcas_server.recorder`."""


def tell_event(event: Event) -> dict[str, Json]:
    """Returns an event with its kind."""
    return _tell_kind(event)


def tell_effects(effects: list[Effect]) -> list[Json]:
    """Returns effects with their kinds."""
    return [_tell_kind(effect) for effect in effects]


def tell_parameters(parameters: Parameters) -> Json:
    """Returns every parameter by its name."""
    return _tell(parameters)


def tell_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> Json:
    """Returns named arrays, as `learned.export` gives them."""
    return {name: _tell(array) for name, array in arrays.items()}


def read_event(value: object) -> Event:
    """Returns the event that was told.

    Raises:
        InvalidInputError: It is none; the error names the field.
    """
    if not isinstance(value, dict) or KIND not in value:
        raise _error("event", f'must be an object with a kind under "{KIND}"')
    kinds = {kind.__name__: kind for kind in get_args(Event)}
    kind = kinds.get(str(value[KIND]))
    if kind is None:
        raise _error(f"event.{KIND}", f"is {value[KIND]!r}, must be one of {', '.join(kinds)}")
    rest = {name: each for name, each in value.items() if name != KIND}
    return cast("Event", _read(kind, rest, "event"))


def read_parameters(value: object) -> Parameters:
    """Returns the parameters that were told.

    Raises:
        InvalidInputError: They are none, or out of range; the error names the field.
    """
    return cast("Parameters", _read(Parameters, value, "parameters"))


def read_arrays(value: object) -> dict[str, NDArray[np.generic]]:
    """Returns the arrays that were told.

    Raises:
        InvalidInputError: They are none; the error names the field.
    """
    if not isinstance(value, dict):
        raise _error("learned", "must be an object of arrays")
    return {str(name): _read_array(each, None, f"learned.{name}") for name, each in value.items()}


def _tell_kind(value: Event | Effect) -> dict[str, Json]:
    told = _tell(value)
    assert isinstance(told, dict), "a dataclass"
    return {KIND: type(value).__name__, **told}


def _tell(value: object) -> Json:
    if isinstance(value, Enum):
        return _tell(value.value)
    if isinstance(value, np.generic):
        return _tell(value.item())
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return _tell_several(value)


def _tell_several(value: object) -> Json:
    if isinstance(value, np.ndarray):
        body = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"type": value.dtype.str, "shape": list(value.shape), "base64": body}
    if isinstance(value, list | tuple):
        return [_tell(each) for each in value]
    if isinstance(value, dict):
        return {str(_tell(key)): _tell(each) for key, each in value.items()}
    kind: type = type(value)
    return {name: _tell(getattr(value, name)) for name in _types(kind)}


@cache
def _types(kind: type) -> dict[str, object]:
    """Returns the fields of a dataclass and their types."""
    hints = get_type_hints(kind)
    assert is_dataclass(kind), f"a field of the type {kind} cannot be told"
    return {each.name: hints[each.name] for each in fields(kind) if each.init}


def _read(kind: object, value: object, at: str) -> object:
    """Returns a value of this type; `at` is where it stands."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        return _read(next(each for each in inner if each is not NoneType), value, at)
    if origin is not None:
        return _read_several(origin, inner, value, at)
    assert isinstance(kind, type), f"{at} is of a type that cannot be read"
    if is_dataclass(kind):
        return _read_dataclass(kind, value, at)
    if issubclass(kind, Enum):
        return _read_enum(kind, value, at)
    return _read_plain(kind, value, at)


def _read_several(origin: object, inner: tuple[object, ...], value: object, at: str) -> object:
    """Returns an array, a tuple or a dictionary."""
    if origin is np.ndarray:
        return _read_array(value, get_args(inner[1])[0], at)
    if origin is tuple:
        if not isinstance(value, list):
            raise _error(at, "must be a list")
        return tuple(_read(inner[0], each, f"{at}[{i}]") for i, each in enumerate(value))
    assert origin is dict, f"{at} is of a type that cannot be read"
    if not isinstance(value, dict):
        raise _error(at, "must be an object")
    keys = {key: _read_key(inner[0], key, f"{at}.{key}") for key in value}
    return {keys[key]: _read(inner[1], each, f"{at}.{key}") for key, each in value.items()}


def _read_plain(kind: type, value: object, at: str) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise _error(at, f"is {value!r:.80}, must be of the type {kind.__name__}")
    if isinstance(value, float) and math.isnan(value):
        raise _error(at, "is not a number")
    return value


def _read_key(kind: object, key: str, at: str) -> object:
    assert isinstance(kind, type), f"{at} is of a type that cannot be read"
    if issubclass(kind, Enum) and key.isdigit():
        return _read_enum(kind, int(key), at)
    return _read_plain(kind, key, at)


def _read_enum(kind: type[Enum], value: object, at: str) -> Enum:
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(str(each.value) for each in kind)
        raise _error(at, f"is {value!r:.80}, must be one of {known}") from error


def _read_dataclass(kind: type, value: object, at: str) -> object:
    if not isinstance(value, dict):
        raise _error(at, "must be an object")
    known = _types(kind)
    wrong = sorted(set(value) ^ set(known))
    if wrong:
        found = "is unknown" if wrong[0] in value else "is missing"
        raise _error(f"{at}.{wrong[0]}", found)
    read = {name: _read(known[name], value[name], f"{at}.{name}") for name in known}
    try:
        return kind(**read)
    except AssertionError as error:
        raise _error(at, str(error)) from error


def _read_array(value: object, kind: object, at: str) -> NDArray[np.generic]:
    """Returns an array of this type of entries; None: any that may be."""
    if not isinstance(value, dict) or set(value) != {"type", "shape", "base64"}:
        raise _error(at, "must be an array: type, shape and base64")
    try:
        dtype = np.dtype(str(value["type"]))
        body = base64.b64decode(str(value["base64"]), validate=True)
        shape = [int(size) for size in value["shape"]]
        array: NDArray[np.generic] = np.frombuffer(body, dtype).reshape(shape)
    except (TypeError, ValueError, binascii.Error) as error:
        raise _error(at, f"is no array: {error}") from error
    if dtype.kind not in ARRAY_KINDS or (kind is not None and dtype.type is not kind):
        raise _error(at, f"is an array of {dtype}, which does not belong here")
    return array


def _error(at: str, message: str) -> InvalidInputError:
    return InvalidInputError([FieldError(at, message)])
