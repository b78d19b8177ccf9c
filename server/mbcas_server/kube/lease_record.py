"""What a Lease says, and what a holder writes on it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from mbcas_server.kube.client import Object

FROZEN = "mbcas.io/frozen"
"""An annotation: stop all writes, unless it is "false"."""
TRANSITIONS_MAX = 2**31 - 2  # The API has 32 bits.
DURATION_MAX_SECONDS = 300.0
TEXT_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """A Lease as it was read; what is unreadable counts as not said."""

    holder: str
    renew_time: str
    transitions: int
    duration_seconds: float
    frozen: bool

    @classmethod
    def read(cls, lease: Object) -> "LeaseRecord":
        spec = _mapping(lease.get("spec"))
        return cls(
            holder=_text(spec.get("holderIdentity")),
            renew_time=_text(spec.get("renewTime")),
            transitions=int(_number(spec.get("leaseTransitions"), TRANSITIONS_MAX)),
            duration_seconds=_number(spec.get("leaseDurationSeconds"), DURATION_MAX_SECONDS),
            frozen=_annotations(lease).get(FROZEN, "false") != "false",
        )


def written(
    lease: Object,
    *,
    holder: str,
    transitions: int,
    taken: bool,
    duration_seconds: float,
    unix_seconds: float,
    frozen: bool | None,
) -> Object:
    """Returns a Lease as its holder writes it.

    Args:
        lease: As it was read; its resourceVersion makes the write fail if it has changed since.
        holder: Who holds it from now on; empty to give it up.
        transitions: How often it has changed hands.
        taken: Whether it changes hands now.
        duration_seconds: How long others leave it alone.
        unix_seconds: The time of day.
        frozen: What to write down of it; None leaves what is there.
    """
    now = datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = _mapping(lease.get("spec")) | {
        "holderIdentity": holder,
        "leaseTransitions": min(transitions, TRANSITIONS_MAX),
        "leaseDurationSeconds": max(1, round(duration_seconds)),
        "renewTime": now,
    }
    if taken or "acquireTime" not in spec:
        spec["acquireTime"] = now
    metadata = dict(_mapping(lease.get("metadata")))
    if frozen is not None:
        others = {key: value for key, value in _annotations(lease).items() if key != FROZEN}
        metadata["annotations"] = others | ({FROZEN: "true"} if frozen else {})
    return {**lease, "metadata": metadata, "spec": spec}


def _annotations(lease: Object) -> Object:
    return _mapping(_mapping(lease.get("metadata")).get("annotations"))


def _mapping(given: object) -> Object:
    return given if isinstance(given, dict) else {}


def _text(given: object) -> str:
    return given[:TEXT_MAX] if isinstance(given, str) else ""


def _number(given: object, most: float) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        return 0
    return min(max(given, 0), most)
