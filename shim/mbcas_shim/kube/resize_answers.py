"""What the API server's answer to a resize means, by status and cause: its sentences vary."""

import re
from dataclasses import dataclass
from http import HTTPStatus

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.kube.api import Answer

UNSUPPORTED = "Unsupported"
"""The cause where there is no such subresource."""
FORBIDDEN = "Forbidden"
"""The cause of a refusal by a quota, a LimitRange, a webhook, or for want of the right."""
DEFAULT_RETRY_SECONDS = 1.0  # For a server that is too busy and does not say for how long.
_MAX_WORD_CHARACTERS = 128
_MAX_MESSAGE_CHARACTERS = 200
_PREFIX = re.compile(r'^[Pp]ods? "[^"]{1,253}" is (forbidden|invalid): ')
"""Says what is known, and takes room from the rest."""
_PLAIN: dict[int, tuple[pb.Outcome.ValueType, str]] = {
    HTTPStatus.OK: (pb.OUTCOME_APPLIED, ""),
    HTTPStatus.CONFLICT: (pb.OUTCOME_STALE, "Conflict"),
    HTTPStatus.TOO_MANY_REQUESTS: (pb.OUTCOME_REFUSED, "TooManyRequests"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a PATCH."""

    outcome: pb.Outcome.ValueType
    status: int = 0
    cause: str = ""
    field: str = ""
    retry_after_seconds: float | None = None
    generation: int = 0
    message: str = ""
    """The server's sentence, for people."""


def verdict_on(answer: Answer) -> Verdict:
    """Tells what an answer means for the orders that the PATCH carried."""
    outcome, cause, field = _meaning(answer)
    retry_after_seconds = answer.retry_after_seconds
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS and retry_after_seconds is None:
        retry_after_seconds = DEFAULT_RETRY_SECONDS
    return Verdict(
        outcome=outcome,
        status=answer.status,
        cause=cause[:_MAX_WORD_CHARACTERS],
        field=field[:_MAX_WORD_CHARACTERS],
        retry_after_seconds=retry_after_seconds,
        generation=_generation(answer),
        message=sentence(answer.message),
    )


def sentence(message: str) -> str:
    """Returns what can be passed on of a sentence, which anybody's webhook may have written."""
    told = _PREFIX.sub("", message, count=1)
    return "".join(c if c.isprintable() else " " for c in told[:_MAX_MESSAGE_CHARACTERS])


def _meaning(answer: Answer) -> tuple[pb.Outcome.ValueType, str, str]:
    if answer.status in _PLAIN:
        return *_PLAIN[answer.status], ""
    match answer.status:
        case HTTPStatus.NOT_FOUND:
            details = answer.body.get("details")
            # Of an object that is gone the name is said; of a path that is unknown, nothing.
            if isinstance(details, dict) and details.get("name"):
                return pb.OUTCOME_STALE, "NotFound", ""
            return pb.OUTCOME_REFUSED, UNSUPPORTED, ""
        case HTTPStatus.UNPROCESSABLE_ENTITY | HTTPStatus.FORBIDDEN:
            return _refused(answer)
        case status:
            is_refusal = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
            outcome = pb.OUTCOME_REFUSED if is_refusal else pb.OUTCOME_FAILED
            return outcome, answer.reason or f"Http{status}", ""


def _refused(answer: Answer) -> tuple[pb.Outcome.ValueType, str, str]:
    causes = answer.causes
    if any(cause.field == "metadata.uid" for cause in causes):
        return pb.OUTCOME_STALE, "Uid", "metadata.uid"
    if not causes:
        default = FORBIDDEN if answer.status == HTTPStatus.FORBIDDEN else "Invalid"
        return pb.OUTCOME_REFUSED, answer.reason or default, ""
    # A cause without a word or field is how an admission policy refuses.
    first = causes[0]
    return pb.OUTCOME_REFUSED, first.reason or "Policy", first.field


def _generation(answer: Answer) -> int:
    metadata = answer.body.get("metadata") if answer.status == HTTPStatus.OK else None
    generation = metadata.get("generation") if isinstance(metadata, dict) else None
    return generation if isinstance(generation, int) and generation > 0 else 0
