"""Orders as the server gives them, checked, and what becomes of them."""

from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.errors import ShimError
from mbcas_shim.inventory import Cpu
from mbcas_shim.quantity import MAX_MILLICORES

DEFAULT_EXPIRY_SECONDS = 10.0  # As long as the server waits for a result.
_MAX_BURST_USEC = 1 << 40


class OrderError(ShimError):
    """An order that contradicts the contract."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"{field}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One row's change. A value that is None stays as it is."""

    order_id: int
    pod_uid: str
    container: str
    desired: Cpu
    burst_usec: int | None
    admitted: Cpu | None
    """None: as declared."""
    restores_exactly: bool
    expected_generation: int
    expires_seconds: float
    """On the shim's clock."""
    lane: pb.Lane.ValueType


def parse_order(message: pb.Order, *, received_seconds: float) -> Order:
    """Checks one order.

    Raises:
        OrderError: A field that contradicts the contract.
    """
    desired = _parse_cpu("desired", message.desired)
    request, limit = desired.request_millicores, desired.limit_millicores
    if request is not None and limit is not None and request > limit:
        raise OrderError("desired", f"request {request}m is above limit {limit}m")
    burst_usec = message.burst_usec if message.HasField("burst_usec") else None
    if burst_usec is not None and not 0 <= burst_usec <= _MAX_BURST_USEC:
        raise OrderError("burst_usec", f"{burst_usec} is out of range")
    if message.order_id <= 0:
        raise OrderError("order_id", f"{message.order_id} is not above 0")
    expiry = DEFAULT_EXPIRY_SECONDS
    if message.HasField("expires_after"):
        expiry = message.expires_after.seconds + message.expires_after.nanos / 1e9
    return Order(
        order_id=message.order_id,
        pod_uid=message.pod_uid,
        container=message.container,
        desired=desired,
        burst_usec=burst_usec,
        admitted=_parse_cpu("admitted", message.admitted) if message.HasField("admitted") else None,
        restores_exactly=message.restore_exactly,
        expected_generation=message.expected_generation,
        expires_seconds=received_seconds + expiry,
        lane=message.lane,
    )


def result(
    order_id: int,
    outcome: pb.Outcome.ValueType,
    *,
    cause: str = "",
    field: str = "",
    actual: Cpu | None = None,
    retry_after_seconds: float | None = None,
) -> pb.OrderResult:
    """Builds the answer to an order."""
    answer = pb.OrderResult(order_id=order_id, outcome=outcome, cause=cause, field=field)
    if actual is not None:
        answer.actual.CopyFrom(cpu_message(actual))
    if retry_after_seconds is not None:
        seconds, fraction = divmod(retry_after_seconds, 1)
        answer.retry_after.CopyFrom(Duration(seconds=int(seconds), nanos=int(fraction * 1e9)))
    return answer


def cpu_message(cpu: Cpu) -> pb.CpuResources:
    """Builds the message; what is None is absent."""
    return pb.CpuResources(
        request_millicores=cpu.request_millicores, limit_millicores=cpu.limit_millicores
    )


def _parse_cpu(field: str, message: pb.CpuResources) -> Cpu:
    values: list[int | None] = []
    for name, least in (("request_millicores", 0), ("limit_millicores", 1)):
        value = getattr(message, name) if message.HasField(name) else None  # type: ignore[arg-type]  # One of its two fields.
        if value is not None and not least <= value <= MAX_MILLICORES:
            raise OrderError(f"{field}.{name}", f"{value} is not from {least} to {MAX_MILLICORES}")
        values.append(value)
    return Cpu(*values)
