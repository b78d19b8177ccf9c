"""Refusals as the API server words them: a status code, a reason, and causes with their fields."""

from dataclasses import dataclass
from typing import Any

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason of a refusal, with the field it is about."""

    reason: str
    field: str
    message: str

    def to_wire(self) -> dict[str, str]:
        return {"reason": self.reason, "field": self.field, "message": self.message}


def forbidden(field: str, message: str) -> Cause:
    """Returns the cause of a field that may not be changed so."""
    return Cause("FieldValueForbidden", field, f"Forbidden: {message}")


def invalid(field: str, message: str) -> Cause:
    """Returns the cause of a field with a value that can't be."""
    return Cause("FieldValueInvalid", field, f"Invalid value: {message}")


class ApiError(Exception):
    """A request is refused."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        causes: tuple[Cause, ...] = (),
        reason: str | None = None,
        retry_after_seconds: int | None = None,
        plain: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.causes = causes
        self.reason = reason or REASONS.get(code, "")
        self.retry_after_seconds = retry_after_seconds
        self.plain = plain
        """The answer is one line of text, no Status."""

    def to_wire(self, *, kind: str = "", group: str = "", name: str = "") -> dict[str, Any]:
        """Returns the Status object that tells it."""
        told = {"kind": kind, "group": group, "name": name}
        details: dict[str, Any] = {key: value for key, value in told.items() if value}
        if self.causes:
            details["causes"] = [cause.to_wire() for cause in self.causes]
        if self.retry_after_seconds is not None:
            details["retryAfterSeconds"] = self.retry_after_seconds
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": details,
            "code": self.code,
        }
